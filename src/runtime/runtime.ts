/**
 * What SAM needs of a JavaScript runtime. One adapter each for Node, Deno and Bun implements it; nothing else in the
 * library, except `src/ffi`, touches a global or a module of a runtime.
 * @module
 */
import type { EndSignal, Signal } from "../core/signals.ts";
import { SamError } from "../errors.ts";

/** The runtimes there are adapters for. */
export type RuntimeName = "node" | "deno" | "bun";

/**
 * What a standard stream of a started program is: ours, none, or, for output and error, `"tee"`: passed on to ours, and the
 * last lines kept as evidence. A `"tee"` is no terminal to the program.
 */
export type Stdio = "inherit" | "ignore" | "tee";

/** A command line, in parts, because Node's `fork` wants to know the module. */
export interface Command {
  /** The executable: a path, or a name to be looked up on PATH. */
  readonly file: string;
  /** Flags of the runtime, before the module. */
  readonly flags: readonly string[];
  /** The module, where the executable is a runtime. */
  readonly module?: string | undefined;
  /** Arguments of the program. */
  readonly args: readonly string[];
  /** The runtime that `file` is, where known. */
  readonly runtime?: RuntimeName | undefined;
  /** The working directory; default that of this process. */
  readonly cwd?: string | undefined;
  /** Added to the environment of this process. */
  readonly env: Readonly<Record<string, string>>;
  /** Standard input, output and error. */
  readonly stdio: readonly [Stdio, Stdio, Stdio];
  /** It leads a session, and so a process group, of its own. */
  readonly ownGroup?: boolean;
  /** It starts its program again by itself, so that no process is told how to reach the server: each could do so only once. */
  readonly unlinked?: boolean;
}

/** How a process ended: exactly one of the two is not null. */
export interface Exit {
  /** The exit code, or null. */
  readonly code: number | null;
  /** The signal that ended it, or null. */
  readonly signal: EndSignal | null;
}

/** An output stream of a started process that we read. */
export interface Output {
  /** 1 for standard output, 2 for standard error. */
  readonly descriptor: 1 | 2;
  /** The next bytes; null at the end, and after `close()`. Never rejects. */
  read(): Promise<Uint8Array | null>;
  /** Stops reading. */
  close(): void;
}

/** A started process. */
export interface Child {
  /** Its process id. */
  readonly pid: number;
  /** Resolved when the process has been reaped. */
  readonly exited: Promise<Exit>;
  /** Our end of the inherited descriptor, when one was asked for. */
  readonly stream: Stream | null;
  /** Those of its standard streams that are `"tee"`. */
  readonly outputs: readonly Output[];
  /** Sends a signal; a process that has ended is left alone. Throws ACCESS where that is not permitted. */
  kill(signal: Signal): void;
  /** It is waited for no longer, and does not keep the event loop alive. */
  release(): void;
}

/** A connected byte stream. */
export interface Stream {
  /** How many bytes were written, and wait because the kernel has no room for them. */
  readonly unsent: number;
  /** The kernel's number of it, where the runtime tells that; -1 when it is closed. */
  readonly descriptor?: number;
  /** Writes, at once as far as the kernel takes it. */
  write(bytes: Uint8Array): void;
  /**
   * Writes one byte, behind what waits, if the kernel takes all of that now, also in a loop that never yields. False: the
   * byte was not written, and does not wait.
   */
  offer(byte: Uint8Array): boolean;
  /** Begins to read. `onEnd` is called once, after the last data, also after `close()`. Called once. */
  read(onData: (bytes: Uint8Array) => void, onEnd: (detail: string) => void): void;
  /** Whether this stream keeps the event loop alive. */
  hold(on: boolean): void;
  /** Closes both directions. */
  close(): void;
}

/** A listening Unix socket. */
export interface Listener {
  /** Stops listening; leaves the file to whoever made the directory. */
  close(): void;
}

/** A file that is read and written at any place. */
export interface RandomFile {
  /** Reads into `bytes` from `at`; returns how many there were. */
  read(bytes: Uint8Array, at: number): number;
  /** Writes all of `bytes` at `at`. */
  write(bytes: Uint8Array, at: number): void;
  /** Gives the descriptor back. */
  close(): void;
}

/** One page of memory that two processes share: a counter of heartbeats. */
export interface Page {
  /** Counts one heartbeat. */
  add(): void;
  /** The count; wraps at 2^32. */
  read(): number;
  /** Gives the memory, or the descriptor, back. */
  close(): void;
}

/** A JavaScript runtime. */
export interface Runtime {
  /** Which one. */
  readonly name: RuntimeName;
  /** The id of this process. */
  readonly pid: number;

  /** Monotonic milliseconds. */
  now(): number;
  /** Calls back after `delayMs`; returns the cancellation. `hold`: keeps the event loop alive meanwhile. */
  schedule(callback: () => void, delayMs: number, hold: boolean): () => void;
  /** Resolved when input that had arrived before the call has been delivered. */
  settle(): Promise<void>;
  /** What a timer and `settle()` take together, in milliseconds: so long before a deadline they are begun. */
  readonly settleMs: number;

  /** Starts a process. With `link`, the child inherits a descriptor, and its number goes into the environment by it. */
  spawn(
    command: Command,
    link?: (descriptor: number) => Readonly<Record<string, string>>,
  ): Promise<Child>;
  /** How this very program was started. Rejects with ACCESS or NOT_SUPPORTED where that cannot be known. */
  self(): Promise<Pick<Command, "file" | "flags" | "module" | "args" | "runtime" | "cwd">>;
  /** The flags that a module of this runtime gets where the user names none. */
  defaultFlags(): Promise<readonly string[]>;
  /** Throws ACCESS for flags of Deno that would give a program, run in `cwd`, more than this process has. */
  checkFlags?(flags: readonly string[], cwd: string | undefined): void;
  /** The executable of this runtime. */
  readonly executable: string;
  /** Whether there is a file at `path`; true where that may not be known. */
  exists(path: string): boolean;
  /** Sends a signal to a process that is not our child, or to the group -`pid`; what has ended is left alone. Throws ACCESS. */
  kill(pid: number, signal: Signal): void;
  /** Reads a text file; undefined for anything else, for a file over `maxBytes`, and where it may not be read. */
  readText(path: string, maxBytes: number): string | undefined;
  /** The text of a file in /proc; undefined where there is none, or it may not be read. */
  systemText(path: string): string | undefined;
  /** The names in a directory of /proc; none where that may not be known. */
  systemNames(directory: string): readonly string[];
  /** What a link in /proc points to; undefined where there is none, or that may not be known. */
  systemLink(path: string): string | undefined;
  /** Writes to our own standard output (1) or error (2); resolved when all has been taken, or nobody takes it. */
  writeOutput(descriptor: 1 | 2, bytes: Uint8Array): Promise<void>;

  /** Takes a variable out of the environment, so that nothing inherits it; undefined for none, or where that is not allowed. */
  takeVariable(name: string): string | undefined;

  /** Makes a directory that only this user may enter; with `inMemory` in shared memory, where this program may. */
  makePrivateDirectory(inMemory: boolean): Promise<string>;
  /** What the paths of all private directories of this process begin with. */
  privatePrefixes(): readonly string[];
  /**
   * The private directories that other processes of this user have, or may have, left behind; none where that may not be known.
   * `own`: a private directory of this process. `abandoned`: nobody listens there. Otherwise the directory is only old.
   */
  strayDirectories(own: string): readonly { readonly path: string; readonly abandoned: boolean }[];
  /** Removes files and an empty directory, in this order; what is missing is passed over. */
  remove(...paths: string[]): void;
  /** Listens on a Unix socket. */
  listen(path: string, onStream: (stream: Stream) => void): Promise<Listener>;
  /** Connects to a Unix socket. */
  connect(path: string): Promise<Stream>;
  /** Connects to a TCP port, and lets go of it again. Rejects when `over` is aborted before. */
  reach(host: string, port: number, over: AbortSignal): Promise<void>;
  /** Connects to a TCP port at 127.0.0.1. */
  connectPort(port: number): Promise<Stream>;
  /** Takes over a descriptor inherited from the parent. */
  inherited(descriptor: number): Promise<Stream>;
  /** Opens a file that is there, or with `create` one that must not be. */
  openFile(path: string, create: boolean): Promise<RandomFile>;
  /** Maps the first page of a file; undefined where nothing can be mapped. */
  mapPage(path: string): Promise<Page | undefined>;
  /** Whether only so many writes reach the kernel in a loop that never yields (see `Stream.offer`). */
  readonly limitsWrites: boolean;
  /** Whether a stream of `listen()` has a `descriptor`. */
  readonly tellsDescriptors: boolean;

  /** Writes what the runtime has compiled of the program to the cache that the user has set up, for the next instance. */
  keepCompiled?(): void;

  /**
   * In an active process: how its stack can be had when its loop is blocked. `signal PORT`: by SIGUSR1, or at PORT where it
   * listens there already. `flags`: if it was started with the flag. `none: WHY`.
   */
  stackAccess(): string;

  /**
   * Closes the inspector of this process, a server, where a program with these flags, or by our environment, opens its own at the
   * same port: the debugger is for the program.
   */
  yieldInspector?(flags: readonly string[]): void | Promise<void>;

  /** Whether this is the thread the program began in. */
  readonly isMainThread: boolean;
  /** Whether standard input is a terminal. */
  readonly stdinIsTerminal: boolean;
  /** Listens for a signal; returns the cancellation. */
  onSignal(signal: Signal, listener: () => void): () => void;
  /** Makes this process a SAM server: silences the program's own listeners, and reports its stray errors. */
  takeOver(onStray: (error: unknown) => void): void;
  /** Ends this process. */
  exit(code: number): never;
}

interface Globals {
  readonly Deno?: { readonly build: { readonly os: string } };
  readonly Bun?: unknown;
  readonly process: { readonly platform: string };
}

/** Which runtime we are in. */
export function runtimeName(): RuntimeName {
  const { Deno, Bun } = globalThis as unknown as Globals;
  return Deno !== undefined ? "deno" : Bun !== undefined ? "bun" : "node";
}

/** The operating system, as `process.platform` or `Deno.build.os` names it. */
function platformName(): string {
  const globals = globalThis as unknown as Globals;
  // In Deno a mere look at `process` loads the Node layer (13 ms).
  return globals.Deno ? globals.Deno.build.os : globals.process.platform;
}

/** Throws NOT_SUPPORTED on an operating system on which SAM does not work. */
export function checkPlatform(platform: string = platformName()): void {
  if (platform === "linux" || platform === "darwin") return;
  const name = /^win/.test(platform) ? "Windows" : platform;
  throw new SamError(
    "NOT_SUPPORTED",
    `SAM does not run on ${name}: use Linux (on Windows in WSL 2 or a container), or macOS, on which it is not tested`,
  );
}

let loaded: Promise<Runtime> | undefined;

/** The adapter of the runtime we are in, loaded once. */
export function loadRuntime(): Promise<Runtime> {
  return loaded ??= load(runtimeName());
}

async function load(name: RuntimeName): Promise<Runtime> {
  switch (name) {
    case "deno":
      return (await import("./deno.ts")).deno;
    case "bun":
      return (await import("./bun.ts")).bun;
    case "node":
      return (await import("./node.ts")).node;
  }
}
