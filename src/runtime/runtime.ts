/**
 * What SAM needs of a JavaScript runtime, by roles. One adapter each for Node, Deno and Bun implements them all; `load.ts` loads it.
 * Nothing else in the library, except `src/ffi` and `src/cli/host`, touches a global or a module of a runtime.
 * @module
 */
import type { EndSignal, Signal } from "../core/signals.ts";

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
  /** Sets if this stream keeps the event loop alive. */
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

/** What lstat(2) says about a file. */
export interface FileStatus {
  /** Type and permissions. */
  readonly mode: number;
  /** The id of the user who owns it. */
  readonly uid: number;
  /** When it was last changed, in milliseconds since 1970. */
  readonly mtimeMs: number;
}

/** The places for temporary files, as a server uses them for its private directories. */
export interface TemporaryFiles {
  /** The id of this process. */
  readonly pid: number;
  /** The inode of our process namespace; undefined where /proc may not be read, or shows another one. */
  readonly pidNamespace: number | undefined;
  /** The directories in which `makeDirectory` makes one. */
  readonly parents: readonly string[];
  /**
   * Makes a directory that only this user may enter, with a name that begins with `prefix`; with `inMemory` in shared memory, where
   * this program may.
   */
  makeDirectory(prefix: string, inMemory: boolean): Promise<string>;
  /** The names in a directory; undefined where it cannot be read. */
  list(directory: string): readonly string[] | undefined;
  /** Looks at a file, or at a link itself; undefined where there is none, or where it may not be looked at. */
  status(path: string): FileStatus | undefined;
  /** True if there is no process with this id; false where that is not known. */
  hasEnded(pid: number): boolean;
}

/** Time, and when to do something in it. */
export interface Clock {
  /** Monotonic milliseconds. */
  now(): number;
  /** Calls back after `delayMs`; returns the cancellation. `hold`: keeps the event loop alive meanwhile. */
  schedule(callback: () => void, delayMs: number, hold: boolean): () => void;
  /** Resolved when input that had arrived before the call has been delivered. */
  settle(): Promise<void>;
  /** What a timer and `settle()` take together, in milliseconds: they begin that long before a deadline. */
  readonly settleMs: number;
}

/** Processes: started, signaled, and looked at. */
export interface Processes {
  /** Starts a process. With `link`, the child inherits a descriptor, and its number goes into the environment by it. */
  spawn(
    command: Command,
    link?: (descriptor: number) => Readonly<Record<string, string>>,
  ): Promise<Child>;
  /** Sends a signal to a process that is not our child, or to the group -`pid`; what has ended is left alone. Throws ACCESS. */
  kill(pid: number, signal: Signal): void;
}

/** What the system says about processes, in /proc. */
export interface SystemFiles {
  /** The text of a file in /proc; undefined where there is none, or it may not be read. */
  systemText(path: string): string | undefined;
  /** The names in a directory of /proc; none where that may not be known. */
  systemNames(directory: string): readonly string[];
  /** What a link in /proc points to; undefined where there is none, or that may not be known. */
  systemLink(path: string): string | undefined;
}

/** Files. */
export interface Files {
  /** True if there is a file at `path`, and where that may not be known. */
  exists(path: string): boolean;
  /** Reads a text file; undefined for anything else, for a file over `maxBytes`, and where it may not be read. */
  readText(path: string, maxBytes: number): string | undefined;
  /** Opens a file that is there, or with `create` one that must not be. */
  openFile(path: string, create: boolean): Promise<RandomFile>;
  /** Removes files and an empty directory, in this order; what is missing is passed over. */
  remove(...paths: string[]): void;
  /** The places for temporary files; loaded by a server alone. */
  temporaryFiles(): Promise<TemporaryFiles>;
}

/** Connected byte streams. */
export interface Sockets {
  /** Listens on a Unix socket. */
  listen(path: string, onStream: (stream: Stream) => void): Promise<Listener>;
  /** Connects to a Unix socket. */
  connect(path: string): Promise<Stream>;
  /** Connects to a TCP port, and lets go of it again. Rejects when `over` is aborted before. */
  probePort(host: string, port: number, over: AbortSignal): Promise<void>;
  /** Connects to a TCP port at 127.0.0.1. */
  connectPort(port: number): Promise<Stream>;
  /** Takes over a descriptor inherited from the parent. */
  inherited(descriptor: number): Promise<Stream>;
  /** True if a loop that never yields reaches the kernel with its first writes only (see `Stream.offer`). */
  readonly limitsWrites: boolean;
  /** True if a stream of `listen()` has a `descriptor`. */
  readonly exposesDescriptors: boolean;
}

/** The process in which this code runs. */
export interface OwnProcess {
  /** Its runtime. */
  readonly name: RuntimeName;
  /** Its id. */
  readonly pid: number;
  /** The executable of its runtime. */
  readonly executable: string;
  /** True if this is the thread that the program began in. */
  readonly isMainThread: boolean;
  /** True if standard input is a terminal. */
  readonly stdinIsTerminal: boolean;
  /** How this very program was started. Rejects with ACCESS or NOT_SUPPORTED where that cannot be known. */
  self(): Promise<Pick<Command, "file" | "flags" | "module" | "args" | "runtime" | "cwd">>;
  /** The flags that a module of this runtime gets where the user names none. */
  defaultFlags(): Promise<readonly string[]>;
  /** Throws ACCESS for flags of Deno that would give a program, run in `cwd`, more than this process has. */
  checkFlags?(flags: readonly string[], cwd: string | undefined): void;
  /** Takes a variable out of the environment, so that nothing inherits it; undefined for none, or where that is not allowed. */
  takeVariable(name: string): string | undefined;
  /** Writes to our own standard output (1) or error (2); resolved when all has been taken, or nobody takes it. */
  writeOutput(descriptor: 1 | 2, bytes: Uint8Array): Promise<void>;
  /** Writes what the runtime has compiled of the program to the cache that the user has set up, for the next instance. */
  saveCompileCache?(): void;
  /**
   * In an active process: how its stack can be had when its loop is blocked. `signal PORT`: by SIGUSR1, or at PORT where it
   * listens there already. `flags`: if it was started with the flag. `none: WHY`.
   */
  stackAccess(): string;
  /**
   * Closes the inspector of this process, a server, where a program with these flags, or by our environment, opens its own at the
   * same port: the debugger is for the program.
   */
  freeInspectorPort?(flags: readonly string[]): void | Promise<void>;
  /** Listens for a signal; returns the cancellation. */
  onSignal(signal: Signal, listener: () => void): () => void;
  /** Makes this process a SAM server: silences the program's own listeners, and reports its stray errors. */
  takeOver(onStray: (error: unknown) => void): void;
  /** Ends this process. */
  exit(code: number): never;
}

/** A JavaScript runtime: all roles. Whoever needs some of them asks for those. */
export interface Runtime extends Clock, Processes, SystemFiles, Files, Sockets, OwnProcess {}
