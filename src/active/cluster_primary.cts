/**
 * Prepares a worker of node:cluster, in the process that starts it, so that SAM watches the worker. Loaded when the first one is
 * about to start. A CommonJS file, because the program starts its workers synchronously.
 *
 * The worker gets a key in its environment, and the flag that loads preload_node.cts, which removes both again. The server hears of
 * the key before the worker exists, and admits one connection with it.
 */
interface SpawnOptions {
  args: readonly string[];
  readonly envPairs: string[];
  readonly uid?: number;
}
interface ChildProcess {
  spawnargs: readonly string[];
  once(event: "exit", listener: () => void): void;
}
interface BunOptions {
  readonly cmd: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}
interface Workers {
  /** Tells the server of a worker; null while this process has not registered. */
  announce: ((key: string, hasEnded: boolean) => void) | null;
  /** The keys of workers that were started before this process has registered. */
  readonly waiting: Set<string>;
  /** True if the server takes the stacks of workers; undefined before this process has registered. */
  capturesStack?: boolean;
}
declare const require: (name: string) => never;
declare const module: { exports: unknown };

const workers = (globalThis as unknown as Record<symbol, Workers>)[Symbol.for("@x/sam/workers")]!;
const isBun = "Bun" in globalThis;
const preload = __filename.replace(/cluster_primary(\.c[jt]s)$/, "preload_node$1");

/** A worker that is about to start. */
interface Prepared {
  readonly key: string;
  /** The command line, with the flags of the preload. */
  readonly words: readonly string[];
  /** The address of its socket, with the secret. */
  readonly address: string;
}

/** Prepares a worker; undefined if it cannot be watched. `link` is the value of SAM_LINK in this process. */
function prepare(words: readonly string[], options: string, link: string): Prepared | undefined {
  // See `placeOfWorker` in transports/private_socket.ts.
  const [, prefix] = /^(?:unix|shm):[0-9a-f]{32}(\/.*-)[^-/]+\/s$/.exec(link) ?? [];
  const { settings } = require("node:cluster") as { readonly settings: { readonly exec?: string } };
  const scriptAt = words.indexOf(settings.exec!);
  const given = [...scriptAt < 0 ? words : words.slice(0, scriptAt), options].join(" ");
  // With Node's permission model, the worker may not be allowed to load the preload, and would fail.
  if (prefix === undefined || /[ =]--(experimental-)?permission\b/.test(given)) return undefined;
  const { accessSync } = require("node:fs") as { accessSync(path: string, mode: number): void };
  try {
    accessSync(preload, 4); // to read it
  } catch {
    return undefined; // the library was bundled into the program, or belongs to another user
  }
  const { randomBytes } = require("node:crypto") as {
    randomBytes(count: number): { toString(encoding: "hex"): string };
  };
  const key = randomBytes(24).toString("hex");
  const isQuiet = !isBun && workers.capturesStack !== false && !given.includes("--inspect");
  const flags = [
    ...isQuiet ? ["--inspect-publish-uid=http"] : [],
    isBun ? "--preload" : "--require",
    preload,
  ];
  return {
    key,
    words: [words[0]!, ...flags, ...words.slice(1)],
    address: `${key.slice(16)}${prefix}${key.slice(0, 16)}/s`,
  };
}

function announce(key: string): void {
  if (workers.announce) workers.announce(key, false);
  else workers.waiting.add(key);
}

function noteEnd(key: string): void {
  if (!workers.waiting.delete(key)) workers.announce?.(key, true);
}

module.exports = {
  /** Calls `spawn`, the method of ChildProcess, for a worker. Node. */
  spawnWorker(
    child: ChildProcess,
    options: SpawnOptions,
    spawn: (options: SpawnOptions) => unknown,
    link: string,
  ): unknown {
    const { args, envPairs, uid } = options;
    const nodeOptions = envPairs.find((pair) => pair.startsWith("NODE_OPTIONS=")) ?? "";
    // Another user cannot connect to the socket, and may not be allowed to read the preload.
    const prepared = uid === undefined ? prepare(args, nodeOptions, link) : undefined;
    if (!prepared) return Reflect.apply(spawn, child, [options]);
    const { key, words, address } = prepared;
    options.args = words;
    envPairs.push(`SAM_MEMBER=${address}`);
    announce(key);
    child.once("exit", () => noteEnd(key));
    let failure: unknown = true;
    try {
      failure = Reflect.apply(spawn, child, [options]);
    } finally {
      if (failure) noteEnd(key);
      child.spawnargs = args; // the program sees the command line without the flags
    }
    return failure;
  },
  /** Calls `Bun.spawn` for a worker. */
  spawnBunWorker(
    options: BunOptions,
    spawn: (options: BunOptions) => { readonly exited: Promise<unknown> },
    link: string,
  ): unknown {
    const prepared = prepare(options.cmd, "", link);
    if (!prepared) return spawn(options);
    const { key, words, address } = prepared;
    announce(key);
    const child = spawn({ ...options, cmd: words, env: { ...options.env, SAM_MEMBER: address } });
    void child.exited.then(() => noteEnd(key));
    return child;
  },
};
