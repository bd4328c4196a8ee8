/**
 * The preload file for programs below a wrapper such as `npm start`. NODE_OPTIONS and BUN_OPTIONS load it into each process of Node
 * and Bun there. In a wrapper, it does nothing. In any other process, it hides what SAM has added to the environment, and waits
 * until the process has proved to be the program. Then it registers the process, so that SAM watches its event loop.
 *
 * The first process that listens is the program. A process that does not listen is the program once it has run for a while, unless
 * it waits for another process of JavaScript. The server admits one process; no other is watched.
 */
interface Added {
  /** Matches the path and the arguments of a script that is no program, but a wrapper or a build. */
  readonly skip: string;
  /** The text that the server has added to each variable. */
  readonly texts: Readonly<Record<string, string>>;
}
interface SpawnOptions {
  readonly file?: string;
  /** The environment as `NAME=VALUE`. Only on Node. */
  envPairs?: readonly string[];
  /** The environment on Bun, by a symbol of Bun's own. */
  readonly [name: symbol]: unknown;
}
interface ServerPrototype {
  listen(
    this: { once(event: "listening", listener: () => void): void },
    ...args: unknown[]
  ): unknown;
}
interface ChildPrototype {
  spawn(this: { once(event: "exit", listener: () => void): void }, options: SpawnOptions): unknown;
}
interface Globals {
  readonly process: {
    readonly argv: readonly string[];
    readonly execArgv: string[];
    readonly env: Record<string, string | undefined>;
  };
  readonly Bun?: { serve(...args: unknown[]): unknown };
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

function begin(address: string, { skip, texts }: Added): void {
  if (new RegExp(skip).test([realPath(argv[1]), ...argv.slice(2)].join(" "))) return;
  const { isMainThread } = require("node:worker_threads") as { readonly isMainThread: boolean };
  if (!isMainThread) return;
  const hidden = hide(texts);
  // Also for a program that registers itself, with another copy of the library.
  const shared = globalThis as unknown as Record<symbol, string | undefined>;
  const key = Symbol.for("@x/sam/address");
  shared[key] = address;
  watch(hidden, () => {
    shared[key] ??= address;
    void import("./auto_register.ts").then(({ attach }) => attach(null, true));
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

/** Restores the environment that the program would have without SAM. Returns what was there. */
function hide(texts: Added["texts"]): Readonly<Record<string, string>> {
  const names = ["SAM_LINK", "SAM_WRAPPED", ...Object.keys(texts)];
  const hidden = Object.fromEntries(names.map((name) => [name, env[name] ?? ""]));
  for (const name of names) {
    const rest = texts[name] && env[name]?.replace(texts[name], "").trim();
    if (rest) env[name] = rest;
    else delete env[name];
  }
  const flagAt = execArgv.indexOf(texts["BUN_OPTIONS"]!); // Bun shows it there
  if (flagAt >= 0) execArgv.splice(flagAt, 1);
  return hidden;
}

/** Calls back once, when this process has proved to be the program. Until then, a child process may be the program. */
function watch(hidden: Readonly<Record<string, string>>, onProgram: () => void): void {
  const server =
    (require("node:net") as { Server: { prototype: ServerPrototype } }).Server.prototype;
  const child =
    (require("node:child_process") as { ChildProcess: { prototype: ChildPrototype } }).ChildProcess
      .prototype;
  const { listen } = server;
  const { spawn } = child;
  const serve = Bun?.serve;
  let candidates = 0; // child processes that may be the program
  let isProgram = false;
  const claim = () => {
    if (isProgram) return;
    isProgram = true;
    clearInterval(timer);
    onProgram();
  };
  const timer = setInterval(() => candidates === 0 && claim(), patienceMs);
  (timer as unknown as { unref(): void }).unref();
  server.listen = function (...args) {
    if (!isProgram) this.once("listening", claim);
    return Reflect.apply(listen, this, args);
  };
  child.spawn = function (options) {
    const { file = "", envPairs } = options;
    // The workers of node:cluster belong to this process.
    if (envPairs?.some((pair) => pair.startsWith("NODE_UNIQUE_ID="))) claim();
    if (!isProgram) {
      const ofBun = Object.getOwnPropertySymbols(options).find((symbol) =>
        symbol.description === "bunEnv"
      );
      if (ofBun) Object.assign(options[ofBun] as object, hidden);
      if (envPairs) {
        const others = envPairs.filter((pair) => !(pair.slice(0, pair.indexOf("=")) in hidden));
        options.envPairs = [...others, ...Object.entries(hidden).map((pair) => pair.join("="))];
      }
      if (starters.test(file)) {
        candidates++;
        this.once("exit", () => candidates--);
      }
    }
    return Reflect.apply(spawn, this, [options]);
  };
  if (!Bun) return;
  Bun.serve = (...args) => {
    claim();
    return Reflect.apply(serve!, Bun, args);
  };
}
