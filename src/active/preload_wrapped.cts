/**
 * The preload file for programs below a wrapper such as `npm start`. NODE_OPTIONS and BUN_OPTIONS load it into each process of Node
 * and Bun there. In a wrapper, it does nothing. In any other process, it hides what SAM has added to the environment. It ends there
 * in a build. Otherwise, it waits until the process has proved to be the program. Then it registers the process, so that SAM watches
 * its event loop.
 *
 * The first process that listens is the program. A process that does not listen is the program once it has run for a while, unless
 * it waits for another process of JavaScript. The server admits one process; no other is watched.
 *
 * The versions of Node below a wrapper may be older than those that SAM supports, so this file has syntax of Node 14 only.
 */
interface Added {
  /** Matches the path and the arguments of a script that is a wrapper. */
  readonly wrappers: string;
  /** Matches the path and the arguments of a script that is a build. The processes below it belong to the build. */
  readonly builds: string;
  /** The text that the server has added to each variable. */
  readonly texts: Readonly<Record<string, string>>;
}
interface SpawnOptions {
  readonly file?: string;
  readonly detached?: boolean;
  /** The environment as `NAME=VALUE`. Only on Node. */
  envPairs?: readonly string[];
  /** The environment on Bun, by a symbol of Bun's own. */
  readonly [name: symbol]: unknown;
}
interface BunOptions {
  readonly cmd?: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
}
/** See cluster_primary.cts. */
interface Primary {
  spawnWorker(child: unknown, options: SpawnOptions, spawn: unknown, link: string): unknown;
  spawnBunWorker(options: BunOptions, spawn: unknown, link: string): unknown;
}
interface ServerPrototype {
  listen(
    this: { once(event: "listening", listener: () => void): void },
    ...args: unknown[]
  ): unknown;
}
interface ChildPrototype {
  spawn(
    this: { once(event: "exit" | "error", listener: () => void): void },
    options: SpawnOptions,
  ): unknown;
}
interface Globals {
  readonly process: {
    readonly argv: readonly string[];
    readonly execArgv: string[];
    readonly env: Record<string, string | undefined>;
  };
  readonly Bun?: {
    serve(...args: unknown[]): unknown;
    spawn(options?: BunOptions, more?: unknown): unknown;
  };
}
declare const require: (name: string) => never;

/** Time after which a process that does not listen is the program, in milliseconds. A build usually takes less. */
const patienceMs = 30_000;
/** The commands that may start a program of JavaScript. */
const starters = /(^|\/)(node|bun|npm|npx|pnpm|yarn|(ba|da|z)?sh)$/;

const { process: { argv, execArgv, env }, Bun } = globalThis as unknown as Globals;
const link = env["SAM_LINK"];
const text = env["SAM_WRAPPED"];
if (link !== undefined && text !== undefined) begin(link, JSON.parse(text) as Added);

function begin(address: string, added: Added): void {
  const line = [realPath(argv[1]), ...argv.slice(2)].join(" ");
  if (new RegExp(added.wrappers).test(line)) return;
  const { isMainThread } = require("node:worker_threads") as { readonly isMainThread: boolean };
  if (!isMainThread) return;
  hide(added.texts);
  if (new RegExp(added.builds).test(line)) return;
  const shared = globalThis as unknown as Record<symbol, unknown>;
  const key = Symbol.for("@x/sam/address");
  // Also for a program that registers itself, with another copy of the library.
  shared[key] = address;
  // Wrappers seldom pass a descriptor on. When the process proves to be the program, its number may be that of another file.
  if (address.startsWith("pipe:")) return;
  // The first workers of node:cluster start before this process has registered.
  const workers = Symbol.for("@x/sam/workers");
  if (shared[workers] === undefined) shared[workers] = { announce: null, waiting: new Set() };
  watch({ ...added.texts, SAM_LINK: address, SAM_WRAPPED: text! }, () => {
    if (shared[Symbol.for("@x/sam/initialized")]) return; // the program registers itself
    if (shared[key] === undefined) shared[key] = address;
    // It fails if the program may not read the file, or if another version of SAM has replaced it. The program must not notice.
    shared[Symbol.for("@x/sam/attaching")] = import("./auto_register.ts")
      .then(({ attach }) => attach(null, true))
      .catch(() => {});
  });
}

/** The path of a script without symbolic links, such as those in node_modules/.bin. */
function realPath(path = ""): string {
  try {
    return (require("node:fs") as { realpathSync(path: string): string }).realpathSync(path);
  } catch {
    return path;
  }
}

/** Restores the environment that the program would have without SAM. */
function hide(texts: Added["texts"]): void {
  for (const name of ["SAM_LINK", "SAM_WRAPPED", ...Object.keys(texts)]) {
    const rest = texts[name] && env[name]?.replace(texts[name], "").trim();
    if (rest) env[name] = rest;
    else delete env[name];
  }
  const flagAt = execArgv.indexOf(texts["BUN_OPTIONS"]!.replace(/^"|"$/g, "")); // Bun shows it there
  if (flagAt >= 0) execArgv.splice(flagAt, 1);
}

/** Adds to the environment of a child process what `hide` has removed. The options that the program gives its child stay. */
function restore(
  child: Record<string, string | undefined>,
  hidden: Readonly<Record<string, string>>,
) {
  if (child["SAM_LINK"] !== undefined) return; // another server starts a program of its own
  for (const [name, text] of Object.entries(hidden)) {
    const given = child[name] ?? "";
    child[name] = (name === "BUN_OPTIONS" ? `${text} ${given}` : `${given} ${text}`).trim();
  }
}

/** Calls back once, when this process has proved to be the program. Until then, a child process may be the program. */
function watch(
  hidden: Readonly<Record<string, string>> & { readonly SAM_LINK: string },
  onProgram: () => void,
): void {
  const server =
    (require("node:net") as { Server: { prototype: ServerPrototype } }).Server.prototype;
  const child =
    (require("node:child_process") as { ChildProcess: { prototype: ChildPrototype } }).ChildProcess
      .prototype;
  const { listen } = server;
  const { spawn } = child;
  const { serve, spawn: spawnBun } = Bun ?? {};
  const candidates = new Set<unknown>(); // child processes that may be the program
  const heard = new WeakSet<object>(); // servers that may listen again after an error
  let isProgram = false;
  const claim = () => {
    if (isProgram) return;
    isProgram = true;
    clearInterval(timer);
    onProgram();
  };
  const timer = setInterval(() => candidates.size === 0 && claim(), patienceMs);
  (timer as unknown as { unref(): void }).unref();
  server.listen = function (...args) {
    if (!isProgram && !heard.has(this)) {
      heard.add(this);
      this.once("listening", claim);
    }
    return Reflect.apply(listen, this, args);
  };
  child.spawn = function (options) {
    const { file = "", envPairs, detached } = options;
    const ofBun = Object.getOwnPropertySymbols(options).find((symbol) =>
      symbol.description === "bunEnv"
    );
    const bunEnv = ofBun && options[ofBun] as Record<string, string>;
    // The workers of node:cluster belong to this process.
    if (bunEnv?.["NODE_UNIQUE_ID"] !== undefined) claim(); // see below
    if (envPairs?.some((pair) => pair.startsWith("NODE_UNIQUE_ID="))) {
      claim();
      const primary = loadPrimary();
      if (primary) return primary.spawnWorker(this, options, spawn, hidden.SAM_LINK);
    }
    // A detached process, such as a daemon, may outlive the program.
    if (!isProgram && !detached) {
      if (bunEnv) restore(bunEnv, hidden);
      if (envPairs) {
        const child = Object.fromEntries(envPairs.map((pair) => {
          const at = pair.indexOf("=", 1);
          return [pair.slice(0, at), pair.slice(at + 1)];
        }));
        restore(child, hidden);
        options.envPairs = Object.entries(child).map((pair) => pair.join("="));
      }
      if (starters.test(file)) {
        candidates.add(this);
        const end = () => void candidates.delete(this);
        this.once("exit", end);
        this.once("error", end);
      }
    }
    return Reflect.apply(spawn, this, [options]);
  };
  if (!Bun) return;
  // Their handlers are replaced later if the server asks for counts of the requests.
  const opened: { readonly server: unknown; readonly options: unknown }[] = [];
  Object.assign(globalThis, { [Symbol.for("@x/sam/opened")]: opened });
  Bun.serve = (...args) => {
    claim();
    const server = Reflect.apply(serve!, Bun, args);
    // node:http of Bun opens its socket here.
    const isOfNode = Object.hasOwn(args[0] as object, "onNodeHTTPRequest");
    if (!isOfNode) opened.push({ server, options: args[0] });
    return server;
  };
  Bun.spawn = (options, more) => {
    const isWorker = options?.env?.["NODE_UNIQUE_ID"] !== undefined && options.cmd !== undefined;
    if (isWorker) claim();
    const primary = isWorker ? loadPrimary() : undefined;
    return primary
      ? primary.spawnBunWorker(options!, spawnBun, hidden.SAM_LINK)
      : Reflect.apply(spawnBun!, Bun, [options, more]);
  };
}

/** Undefined if the program may not read the file. */
function loadPrimary(): Primary | undefined {
  try {
    return require(
      __filename.replace(/preload_wrapped(\.c[jt]s)$/, "cluster_primary$1"),
    ) as Primary;
  } catch {
    return undefined;
  }
}
