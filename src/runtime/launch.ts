/**
 * The work that must happen as soon as the library is imported, before the program's next line runs:
 *
 * - It reads how this process was launched: the address of its server, and the working directory.
 * - It removes what the server added for this process only (the address and some flags), so that child processes of the
 *   program do not inherit it.
 * - On Deno, it adds the listeners with which a server overrides those of its program. They must be the first to be
 *   added.
 */

/** The environment variable with the address of an active process's server. */
export const linkVariable = "SAM_LINK";
/** The environment variable that describes the inherited sockets: the id of the process, a space, and JSON. */
export const socketsVariable = "SAM_SOCKETS";
/** The Node flag that keeps the inspector from printing its port to standard error. */
export const quietInspectorFlag = "--inspect-publish-uid=http";

/** A listening socket that this process has inherited from its server. */
export interface InheritedSocket {
  /** Name of the socket, as in `LISTEN_FDNAMES`. */
  readonly name: string;
  /** Address of the socket: `8080`, `127.0.0.1:8080`, `[::1]:8080`, `unix:/run/web.sock`. */
  readonly address: string;
  /** File descriptor of the socket. */
  readonly fd: number;
}

/** The state of this process when the library was imported. */
interface Launch {
  /** The listening sockets that this process has inherited from its server. */
  readonly sockets: readonly InheritedSocket[];
  /** True if the preload delays `start()` until the program listens on one of the sockets. */
  readonly mustListen: boolean;
  /** The value of SAM_LINK; undefined if this process is not supervised. */
  readonly link: string | undefined;
  /** The error if SAM_LINK could not be read; else undefined. */
  readonly linkError: unknown;
  /** The working directory at the start of the program. */
  readonly cwd: string | undefined;
  /**
   * The command line of a Deno process with all permissions that is not supervised. Read early, because setting
   * `process.title` overwrites it.
   */
  readonly commandLine?: string | undefined;
}

interface DenoGlobal {
  readonly pid: number;
  readonly cwd: () => string;
  readonly env: { get(name: string): string | undefined; delete(name: string): void };
  readonly permissions: {
    querySync(what: { name: string; variable?: string }): { readonly state: string };
  };
  readTextFileSync(path: string): string;
}
interface ProcessGlobal {
  readonly pid: number;
  readonly env: Record<string, string | undefined>;
  readonly execArgv: string[];
  cwd(): string;
}

type SocketsLaunch = Pick<Launch, "sockets" | "mustListen">;
const noSockets: SocketsLaunch = { sockets: [], mustListen: false };

/** Reads the description of the inherited sockets. A process that is not their receiver may inherit the variable, too. */
function readSockets(text: string | undefined, pid: number): SocketsLaunch {
  const prefix = `${pid} `;
  const given = globalThis as unknown as Record<symbol, SocketsLaunch | undefined>;
  const key = Symbol.for("@x/sam/sockets");
  if (!text?.startsWith(prefix)) return given[key] ?? noSockets;
  // For the program's own copy of the library, because the caller removes the variable.
  return given[key] = attempt(() => JSON.parse(text.slice(prefix.length))) ?? noSockets;
}

function read(): Launch {
  const { Deno } = globalThis as unknown as { Deno?: DenoGlobal };
  const inWorker = "WorkerGlobalScope" in globalThis;
  if (Deno === undefined) {
    // Not read on Deno, where access to `process` loads the Node layer (13 ms).
    const { process } = globalThis as unknown as { process: ProcessGlobal };
    const link = takeAddress() ?? process.env[linkVariable];
    delete process.env[linkVariable];
    const flagAt = link === undefined ? -1 : process.execArgv.indexOf(quietInspectorFlag);
    if (flagAt >= 0) process.execArgv.splice(flagAt, 1); // the server's flag: child processes must not inherit it
    const sockets = readSockets(process.env[socketsVariable], process.pid);
    delete process.env[socketsVariable];
    return { link, linkError: undefined, cwd: attempt(() => process.cwd()), ...sockets };
  }
  const cwd = attempt(() => Deno.cwd());
  const mayRead = (variable: string) =>
    Deno.permissions.querySync({ name: "env", variable }).state === "granted";
  try {
    // Merely importing the library must not make Deno prompt for a permission on the terminal.
    if (!mayRead(linkVariable)) {
      return {
        link: undefined,
        linkError: new Error(`permission --allow-env=${linkVariable} is missing`),
        cwd,
        ...noSockets,
      };
    }
    const link = Deno.env.get(linkVariable);
    if (link !== undefined && !inWorker) Deno.env.delete(linkVariable);
    const commandLine = link === undefined && isUnrestricted(Deno)
      ? attempt(() => Deno.readTextFileSync("/proc/self/cmdline"))
      : undefined;
    const text = mayRead(socketsVariable) ? Deno.env.get(socketsVariable) : undefined;
    const sockets = readSockets(text, Deno.pid);
    if (text !== undefined && !inWorker) Deno.env.delete(socketsVariable);
    return { link, linkError: undefined, cwd, commandLine, ...sockets };
  } catch (error) {
    return { link: undefined, linkError: error, cwd, ...noSockets };
  }
}

/** Takes the address that `preload_node.cts`, which Node loads first, has removed from the environment. */
function takeAddress(): string | undefined {
  const given = globalThis as unknown as Record<symbol, string | undefined>;
  const key = Symbol.for("@x/sam/address");
  const address = given[key];
  delete given[key];
  return address;
}

/** True if this process has all permissions, which Deno requires for /proc. */
function isUnrestricted(Deno: DenoGlobal): boolean {
  return ["read", "write", "net", "env", "run", "sys", "ffi"].every((name) =>
    Deno.permissions.querySync({ name }).state === "granted"
  );
}

function attempt<T>(get: () => T): T | undefined {
  try {
    return get();
  } catch {
    return undefined;
  }
}

/** The state of this process when the library was imported. */
export const launch: Launch = read();

/** Removes the flag that preloaded a module from `process.execArgv`, so that child processes do not inherit it. */
export function removePreloadFlag(module: string): void {
  if ("Deno" in globalThis) return; // Deno does not expose a program's flags
  const { execArgv } = (globalThis as unknown as { process: ProcessGlobal }).process;
  const path = decodeURIComponent(new URL(module).pathname);
  const at = execArgv.findIndex((word) => word === module || word === path);
  if (at > 0) execArgv.splice(at - 1, 2);
}

interface BunSpawn {
  (command: readonly string[] | SpawnOptions, options?: SpawnOptions): unknown;
}
interface SpawnOptions {
  readonly env?: unknown;
}

// By default, Bun starts child processes with the environment that this process was started with, including variables
// that have been deleted since. In an active process, child processes get the current environment, unless the program
// passes one.
const { Bun } = globalThis as unknown as { Bun?: Record<"spawn" | "spawnSync", BunSpawn> };
if (Bun !== undefined && launch.link !== undefined) {
  const withCurrentEnvironment = (options?: SpawnOptions): SpawnOptions =>
    options?.env === undefined
      ? { ...options, env: (globalThis as unknown as { process: ProcessGlobal }).process.env }
      : options;
  for (const name of ["spawn", "spawnSync"] as const) {
    const spawn = Bun[name];
    Bun[name] = (command, options) =>
      Array.isArray(command)
        ? spawn(command, withCurrentEnvironment(options))
        : spawn(withCurrentEnvironment(command as SpawnOptions));
  }
}

/** A Deno event: the end of the process, or an uncaught error. */
interface StrayEvent {
  readonly type: string;
  readonly reason: unknown;
  readonly error: unknown;
  preventDefault(): void;
  stopImmediatePropagation(): void;
}

/**
 * The handler of these events, called before the program's own listeners; null until this process becomes a server. It
 * is added early, because Deno calls listeners in the order of their addition, and the program's listeners cannot be
 * removed.
 */
export const interception: { handle: ((event: StrayEvent) => void) | null } = { handle: null };

if ("Deno" in globalThis) {
  const { addEventListener } = globalThis as unknown as {
    addEventListener(type: string, listener: (event: StrayEvent) => void): void;
  };
  for (const type of ["unload", "unhandledrejection", "error"]) {
    addEventListener(type, (event) => interception.handle?.(event));
  }
}
