/**
 * What cannot wait until the program calls us: all of it happens when the library is imported, ahead of the program's next line.
 *
 * - How this process was launched is read: how it is linked to a server, and where it was started.
 * - What the server has added for this process alone, the link and some flags, is taken away, so that nothing the program starts
 *   inherits it.
 * - On Deno, the listeners by which a server silences those of its program are added. They must be the first.
 */

/** The variable that tells an active process how to reach its server. */
export const linkVariable = "SAM_LINK";
/** The flag of a Node program that keeps its inspector from announcing itself on standard error. */
export const silentInspector = "--inspect-publish-uid=http";

/** How this process was launched. */
interface Launch {
  /** The value of SAM_LINK; undefined when nobody supervises this process. */
  readonly link: string | undefined;
  /** Why the environment could not be read, or undefined. */
  readonly denied: unknown;
  /** The working directory at the start. */
  readonly cwd: string | undefined;
  /** The command line of an unrestricted Deno process that nobody supervises; `process.title` would overwrite it. */
  readonly commandLine?: string | undefined;
}

interface DenoGlobal {
  readonly cwd: () => string;
  readonly env: { get(name: string): string | undefined; delete(name: string): void };
  readonly permissions: {
    querySync(what: { name: string; variable?: string }): { readonly state: string };
  };
  readTextFileSync(path: string): string;
}
interface ProcessGlobal {
  readonly env: Record<string, string | undefined>;
  readonly execArgv: string[];
  cwd(): string;
}

function read(): Launch {
  const { Deno } = globalThis as unknown as { Deno?: DenoGlobal };
  const inWorker = "WorkerGlobalScope" in globalThis;
  if (Deno === undefined) {
    // Not read in Deno, where a mere look at `process` loads the Node layer (13 ms).
    const { process } = globalThis as unknown as { process: ProcessGlobal };
    const link = takeAddress() ?? process.env[linkVariable];
    delete process.env[linkVariable];
    const silent = link === undefined ? -1 : process.execArgv.indexOf(silentInspector);
    if (silent >= 0) process.execArgv.splice(silent, 1); // the server's, and for no child of the program
    return { link, denied: undefined, cwd: attempt(() => process.cwd()) };
  }
  const cwd = attempt(() => Deno.cwd());
  try {
    // A program that merely imports the library must not be asked for a permission on the terminal.
    if (Deno.permissions.querySync({ name: "env", variable: linkVariable }).state !== "granted") {
      return { link: undefined, denied: new Error(`--allow-env=${linkVariable} is missing`), cwd };
    }
    const link = Deno.env.get(linkVariable);
    if (link !== undefined && !inWorker) Deno.env.delete(linkVariable);
    const commandLine = link === undefined && isUnrestricted(Deno)
      ? attempt(() => Deno.readTextFileSync("/proc/self/cmdline"))
      : undefined;
    return { link, denied: undefined, cwd, commandLine };
  } catch (error) {
    return { link: undefined, denied: error, cwd };
  }
}

/** The link that the file which Node loads first has taken out of the environment (`preload_node.cts`). */
function takeAddress(): string | undefined {
  const given = globalThis as unknown as Record<symbol, string | undefined>;
  const key = Symbol.for("@x/sam/address");
  const address = given[key];
  delete given[key];
  return address;
}

/** Deno lets nobody else into /proc. */
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

/** How this process was launched. */
export const launch: Launch = read();

/** Takes the flag that loaded a module ahead of the program out of those that the program hands on to its children (Bun, `node -e`). */
export function forgetPreload(module: string): void {
  if ("Deno" in globalThis) return; // which tells no program its flags
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

// Bun hands a child the environment that this process was born with, whatever was deleted from it since: in an active
// process it is told to hand on the present one, where the program names none itself.
const { Bun } = globalThis as unknown as { Bun?: Record<"spawn" | "spawnSync", BunSpawn> };
if (Bun !== undefined && launch.link !== undefined) {
  const present = (options?: SpawnOptions): SpawnOptions =>
    options?.env === undefined
      ? { ...options, env: (globalThis as unknown as { process: ProcessGlobal }).process.env }
      : options;
  for (const name of ["spawn", "spawnSync"] as const) {
    const spawn = Bun[name];
    Bun[name] = (command, options) =>
      Array.isArray(command)
        ? spawn(command, present(options))
        : spawn(present(command as SpawnOptions));
  }
}

/** What happens to a Deno process: its end, and errors that nobody caught. */
interface StrayEvent {
  readonly type: string;
  readonly reason: unknown;
  readonly error: unknown;
  preventDefault(): void;
  stopImmediatePropagation(): void;
}

/**
 * Called for each event, ahead of the listeners of the program; null until this process becomes a server. Deno runs listeners in the
 * order in which they were added, and none can be removed by another.
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
