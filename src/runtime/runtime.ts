/**
 * The runtime interface, divided into roles: everything that SAM needs of a JavaScript runtime. Node, Deno and Bun have
 * one adapter each, which implements all roles; `load.ts` loads it. Outside this directory, only `src/ffi` and
 * `src/cli/host` use globals or modules of a runtime.
 * @module
 */
import type { EndSignal, Signal } from "../core/signals.ts";

/** The name of a supported runtime. */
export type RuntimeName = "node" | "deno" | "bun";

/**
 * The kind of a program's standard stream. `"inherit"` shares the server's stream, and `"ignore"` opens /dev/null.
 * `"tee"`, for output and error only, passes the output on to the server's stream and records the last lines as
 * evidence. With `"tee"`, the program does not see a terminal.
 */
export type Stdio = "inherit" | "ignore" | "tee";

/** A command line in parts. `module` is separate because Node's `fork()` takes it as an argument of its own. */
export interface Command {
  /** The executable: a path, or a name that is looked up on PATH. */
  readonly file: string;
  /** Flags of the runtime, placed before the module. */
  readonly flags: readonly string[];
  /** The module to run, if the executable is a runtime. */
  readonly module?: string | undefined;
  /** Arguments of the program. */
  readonly args: readonly string[];
  /** The runtime that `file` is, if known. */
  readonly runtime?: RuntimeName | undefined;
  /** The working directory of the new process. Default: that of this process. */
  readonly cwd?: string | undefined;
  /** Environment variables of the new process, in addition to those of this process. */
  readonly env: Readonly<Record<string, string>>;
  /** The kinds of standard input, output and error. */
  readonly stdio: readonly [Stdio, Stdio, Stdio];
  /** True if the process starts a new session, and so a new process group. Default false. */
  readonly ownGroup?: boolean;
  /**
   * True if the command restarts its program by itself, as a file watcher does. Default false. Such a program cannot
   * connect to the server: the address of the server admits one connection, and a file watcher starts many processes.
   */
  readonly restartsItself?: boolean;
  /** The listening sockets that the process inherits: the first one as descriptor 3, the next as 4, and so on. */
  readonly sockets?: readonly PassedSocket[];
  /** True if the preload delays `start()` until the program listens on one of the sockets. Default false. */
  readonly mustListen?: boolean;
}

/** A listening socket that this process holds open, and hands on to the processes of a program. */
export interface PassedSocket {
  /** The name of the socket, as in LISTEN_FDNAMES. */
  readonly name: string;
  /** The address of the socket: `8080`, `127.0.0.1:8080`, `[::1]:8080`, `unix:/run/web.sock`. */
  readonly address: string;
  /** The file descriptor in this process. It is not inherited by other processes. */
  readonly descriptor: number;
  /**
   * Opens another file descriptor of the socket, from number 10 on. The next process inherits it if `isInherited` is true. Used on
   * Deno, which cannot hand on a descriptor under its own number.
   */
  duplicate(isInherited: boolean): { readonly descriptor: number; close(): void };
}

/** The end of a process: an exit code or a signal. Exactly one of the two is not null. */
export interface Exit {
  /** The exit code, or null if a signal ended the process. */
  readonly code: number | null;
  /** The signal that ended the process, or null. */
  readonly signal: EndSignal | null;
}

/** An output stream of a started process, read by the server. */
export interface Output {
  /** 1 for standard output, 2 for standard error. */
  readonly descriptor: 1 | 2;
  /** Resolves to the next bytes, or to null at the end and after `close()`. Never rejects. */
  read(): Promise<Uint8Array | null>;
  /** Stops reading. */
  close(): void;
}

/** A started process. */
export interface Child {
  /** Its process id. */
  readonly pid: number;
  /** Resolves when the process has ended and has been reaped. */
  readonly exited: Promise<Exit>;
  /** The server's end of the inherited file descriptor; null if the process did not get one. */
  readonly stream: Stream | null;
  /** The standard streams of kind `"tee"`. */
  readonly outputs: readonly Output[];
  /** Sends a signal. Does nothing if the process has ended. Throws ACCESS if it runs as another user. */
  kill(signal: Signal): void;
  /** Lets the event loop of the current process end while the child process still runs. */
  release(): void;
}

/** A connected byte stream. */
export interface Stream {
  /** The number of written bytes that the kernel has not taken yet. */
  readonly unsent: number;
  /** The file descriptor, if the runtime exposes it; -1 once the stream is closed. */
  readonly descriptor?: number;
  /** Writes bytes. The part that the kernel does not take at once is sent later, in order. */
  write(bytes: Uint8Array): void;
  /**
   * Writes one byte, if the kernel has taken all earlier bytes and takes this one now. Works in a loop that never yields.
   * Returns false if the byte was not written. It is then not sent later either.
   */
  offer(byte: Uint8Array): boolean;
  /** Starts reading; call it once. `onEnd` is called once, after the last data, also after `close()`. */
  read(onData: (bytes: Uint8Array) => void, onEnd: (detail: string) => void): void;
  /** Sets whether this stream keeps the event loop alive. */
  hold(on: boolean): void;
  /** Closes both directions. */
  close(): void;
}

/** A listening Unix socket. */
export interface Listener {
  /** Stops listening. Does not remove the socket's file. */
  close(): void;
}

/** An open file that is read and written at any offset. */
export interface RandomFile {
  /** Reads into `bytes`, from offset `at`. Returns the number of bytes read. */
  read(bytes: Uint8Array, at: number): number;
  /** Writes all of `bytes` at offset `at`. */
  write(bytes: Uint8Array, at: number): void;
  /** Closes the file. */
  close(): void;
}

/** The status of a file, from lstat(2). */
export interface FileStatus {
  /** File type and permissions (`st_mode`). */
  readonly mode: number;
  /** The user id of the owner. */
  readonly uid: number;
  /** The time of the last change, in milliseconds since 1970. */
  readonly mtimeMs: number;
}

/** The directories for temporary files, where a server makes its private directories. */
export interface TemporaryFiles {
  /** The process id of this process. */
  readonly pid: number;
  /** The inode of this process's pid namespace; undefined if /proc cannot be read, or belongs to another namespace. */
  readonly pidNamespace: number | undefined;
  /** The directories in which `makeDirectory` creates directories. */
  readonly parents: readonly string[];
  /**
   * Creates a directory that only this user can enter, and returns its path. Its name begins with `prefix`. With
   * `inMemory`, it is in /dev/shm, or, on Deno without `-A`, in the directory for temporary files. Rejects if it cannot
   * be created.
   */
  makeDirectory(prefix: string, inMemory: boolean): Promise<string>;
  /** Creates a directory at this path that only this user can enter. Rejects if it exists or cannot be created. */
  makeExactDirectory(path: string): Promise<void>;
  /** Returns the file names in a directory; undefined if it cannot be read. */
  list(directory: string): readonly string[] | undefined;
  /** Returns the status of a file, without following links; undefined if it is missing or not accessible. */
  status(path: string): FileStatus | undefined;
  /** Returns true if no process has this id; false if unknown. */
  hasEnded(pid: number): boolean;
}

/** The clock and its timers. */
export interface Clock {
  /** Returns the time of a monotonic clock, in milliseconds. */
  now(): number;
  /**
   * Calls `callback` after `delayMs` milliseconds. Returns a function that cancels it. `hold` keeps the event loop
   * alive until then.
   */
  schedule(callback: () => void, delayMs: number, hold: boolean): () => void;
  /** Resolves when the callbacks have run for all input that had arrived before the call. */
  settle(): Promise<void>;
  /** Milliseconds by which a timer and `settle()` together may be late. SAM begins to check a deadline this much earlier. */
  readonly settleMs: number;
}

/** Starts and signals processes. */
export interface Processes {
  /**
   * Starts a process. With `link`, the process inherits a file descriptor connected to `Child.stream`; `link` returns
   * the environment variables that contain the descriptor's number. Rejects with a `SamError` if it cannot be started.
   */
  spawn(
    command: Command,
    link?: (descriptor: number) => Readonly<Record<string, string>>,
  ): Promise<Child>;
  /**
   * Sends a signal to a process that this process did not start, or to the process group `-pid` if `pid` is negative.
   * Does nothing if the target has ended. Throws ACCESS if it runs as another user.
   */
  kill(pid: number, signal: Signal): void;
}

/** Reads /proc. */
export interface SystemFiles {
  /** Returns the text of a file in /proc; undefined if it is missing or not readable. */
  systemText(path: string): string | undefined;
  /** Returns the names in a directory of /proc; an empty list if it is not readable. */
  systemNames(directory: string): readonly string[];
  /** Returns the target of a link in /proc; undefined if it is missing or not readable. */
  systemLink(path: string): string | undefined;
}

/** Access to files. */
export interface Files {
  /** Returns true if a file exists at `path`, or if this process has no permission to find out. */
  exists(path: string): boolean;
  /**
   * Reads a text file. Returns undefined if it is not a regular file, is larger than `maxBytes`, or is not readable.
   */
  readText(path: string, maxBytes: number): string | undefined;
  /** Opens an existing file, or with `create` a new one. Rejects if it is missing, or with `create`, if it exists. */
  openFile(path: string, create: boolean): Promise<RandomFile>;
  /**
   * True if another user has made the directory `path`, or if it is no directory. Throws the error of the system if it is
   * missing. Left out on Deno, which may not see it.
   */
  isForeign?(path: string): boolean;
  /** Removes files and empty directories, in the given order. Ignores those that are missing or not empty. */
  remove(...paths: string[]): void;
  /** Imports the code for temporary files, which only servers need, and resolves to its interface. */
  temporaryFiles(): Promise<TemporaryFiles>;
}

/** Sockets and other connected byte streams. */
export interface Sockets {
  /** Listens on a Unix socket at `path`. Rejects if it cannot be created. */
  listen(path: string, onStream: (stream: Stream) => void): Promise<Listener>;
  /** Connects to the Unix socket at `path`. Rejects if no process listens. */
  connect(path: string): Promise<Stream>;
  /**
   * Connects to a TCP port and disconnects at once, to check that the port accepts connections. Rejects if `signal`
   * is aborted first.
   */
  probePort(host: string, port: number, signal: AbortSignal): Promise<void>;
  /** Connects to a TCP port on 127.0.0.1. */
  connectPort(port: number): Promise<Stream>;
  /** Opens a stream on a file descriptor inherited from the parent process. */
  inherited(descriptor: number): Promise<Stream>;
  /** True on Deno: from a loop that never yields, the runtime passes only the first few writes to the kernel. */
  readonly limitsWrites: boolean;
  /** True if the streams of `listen()` have a `descriptor`. */
  readonly exposesDescriptors: boolean;
}

/** The current process. */
export interface OwnProcess {
  /** The name of its runtime. */
  readonly name: RuntimeName;
  /** Its process id. */
  readonly pid: number;
  /** The path of its runtime's executable. */
  readonly executable: string;
  /** True in the main thread, false in a worker. */
  readonly isMainThread: boolean;
  /** True if standard input is a terminal. */
  readonly stdinIsTerminal: boolean;
  /**
   * Resolves to the command line of this program, to start it again. Rejects with ACCESS or NOT_SUPPORTED if it cannot
   * be found out.
   */
  self(): Promise<Pick<Command, "file" | "flags" | "module" | "args" | "runtime" | "cwd">>;
  /** Resolves to the runtime flags for a module if the user sets none: those of this process that apply to modules. */
  defaultFlags(): Promise<readonly string[]>;
  /** Throws ACCESS if a program started with these Deno flags in `cwd` would have more permissions than this process. */
  checkFlags?(flags: readonly string[], cwd: string | undefined): void;
  /**
   * Removes a variable from the environment, so that no child process inherits it, and returns its value. Returns
   * undefined if the variable is not set, or if this process may not read it.
   */
  takeVariable(name: string): string | undefined;
  /**
   * Writes to this process's standard output (1) or standard error (2). Resolves when all bytes are written, or when
   * the stream has no reader any more.
   */
  writeOutput(descriptor: 1 | 2, bytes: Uint8Array): Promise<void>;
  /** Writes compiled code to the compile cache, if the user has enabled one. The next instance then starts faster. */
  saveCompileCache?(): void;
  /**
   * Returns how the server can capture the stack of this active process while its event loop is blocked:
   *
   * - `signal PORT`: the inspector listens at PORT already, or will after SIGUSR1.
   * - `flags`: only if the process was started with the inspector's flag.
   * - `none: REASON`: not at all.
   */
  stackAccess(): string;
  /**
   * Closes the inspector of this server process if `flags` or the environment make the program open one, too. The
   * program can then use the port.
   */
  freeInspectorPort?(flags: readonly string[]): void | Promise<void>;
  /** Adds a listener for a signal. Returns a function that removes it. */
  onSignal(signal: Signal, listener: () => void): () => void;
  /**
   * Turns this process into a SAM server. Disables the program's listeners for signals (not on Deno), exit and uncaught
   * errors. `onStray` then receives each uncaught error. A call of the runtime's exit function no longer ends the process:
   * `onStray` receives an error for it.
   */
  takeOver(onStray: (error: unknown) => void): void;
  /**
   * Calls `announce` with a new key before this process starts a worker of node:cluster, and again when the worker has ended. The
   * worker gets the key, and connects to the server with it. A later call replaces `announce`. `capturesStack`: the server takes
   * the stack of a blocked worker. Left out on runtimes without node:cluster.
   */
  announceWorkers?(
    announce: (key: string, hasEnded: boolean) => void,
    capturesStack: boolean,
  ): void;
  /** True if this process is a worker of node:cluster. Left out on runtimes without node:cluster. */
  isWorker?(): boolean;
  /** Ends this process with an exit code. */
  exit(code: number): never;
}

/** Everything that SAM needs of a JavaScript runtime. A transport gets only the part in `TransportRuntime`. */
export interface Runtime extends Clock, Processes, SystemFiles, Files, Sockets, OwnProcess {}
