/**
 * The arguments, environment, files and terminal of the `sam` command, through the `node:` modules of all three runtimes. Only the
 * command loads this module.
 */
import * as fs from "node:fs";
import { createRequire } from "node:module";
import * as os from "node:os";
import process from "node:process";
import { runtimeName } from "../../runtime/load.ts";
import { removeVariablesOfFiles } from "./env_file.ts";
import { pathToFileURL } from "node:url";

export { readVariables } from "./env_file.ts";

/** The words of the command line after `sam`. */
export const words: readonly string[] = process.argv.slice(2);
if (runtimeName() === "node") removeVariablesOfFiles(words);

/** Returns an environment variable. Undefined if it is not set or empty, or if Deno denies the access. */
export function variable(name: string): string | undefined {
  try {
    return process.env[name] || undefined;
  } catch {
    return undefined;
  }
}

export function workingDirectory(): string {
  return process.cwd();
}

/** The period with which `onNpmEnd` checks the parent process. */
const parentMs = 500;

/**
 * Calls `listener` when npm or npx, whose script is this `sam`, has ended. A SIGTERM to npm ends npm and its shell, but does not
 * reach this process.
 */
export function onNpmEnd(listener: () => void): void {
  // Any other script, such as "sam run web.js &", may end on purpose before this process does.
  if (!/^\W*sam\b[^&|;]*$/.test(variable("npm_lifecycle_script") ?? "")) return;
  delete process.env["npm_lifecycle_script"]; // a sam below one of the programs was not started by npm
  const { ppid } = process;
  const timer = setInterval(() => {
    if (process.ppid === ppid) return;
    clearInterval(timer);
    // The signal that ended npm may also be on its way to this process, which then stops in the usual way.
    setTimeout(listener, parentMs).unref();
  }, parentMs);
  timer.unref();
}

/** True if the path is a file or a directory. */
export function exists(path: string): boolean {
  return fs.existsSync(path);
}

/**
 * Returns the main file of a directory, as Node resolves it: "main" in package.json, or index.js. Empty if the directory has none,
 * undefined if `path` is not a directory. Throws the error of the system.
 */
export function mainOf(path: string): string | undefined {
  if (!fs.statSync(path, { throwIfNoEntry: false })?.isDirectory()) return undefined;
  try {
    return createRequire(`${path}/`).resolve("./");
  } catch {
    return "";
  }
}

/** Reads a text file. Throws the error of the system. */
export function readText(path: string): string {
  return fs.readFileSync(path, "utf8");
}

/** Returns the first line of a file, at most 512 bytes. Empty if the file cannot be read. */
export function firstLine(path: string): string {
  let descriptor: number | undefined;
  try {
    descriptor = fs.openSync(path, "r");
    const bytes = new Uint8Array(512);
    const length = fs.readSync(descriptor, bytes, 0, bytes.length, 0);
    return new TextDecoder().decode(bytes.subarray(0, length)).split("\n", 1)[0]!;
  } catch {
    return "";
  } finally {
    if (descriptor !== undefined) fs.closeSync(descriptor);
  }
}

/** True if this version of Node cannot load TypeScript, and NODE_OPTIONS is not set, which could name a loader. */
export function withoutTypes(): boolean {
  const { typescript } = process.features as { readonly typescript?: unknown };
  return runtimeName() === "node" && !typescript && variable("NODE_OPTIONS") === undefined;
}

/** The number of modules that were loaded again. */
let reloads = 0;

/** Loads a module. `again`: its file may have changed since it was loaded. The modules that it imports are not loaded again. */
export function loadModule(path: string, again: boolean): Promise<{ readonly default?: unknown }> {
  const { href } = pathToFileURL(path);
  if (!again) return import(href);
  const file = fs.realpathSync(path);
  delete createRequire(file).cache?.[file]; // a CommonJS module
  return import(`${href}?reload=${++reloads}`);
}

/** Standard output or standard error. */
export interface Output {
  readonly isTerminal: boolean;
  /** The width of the terminal in characters. Default 80. */
  readonly columns: number;
  /** The height of the terminal in lines. Default 24. */
  readonly rows: number;
  write(text: string): void;
  /** Calls `listener` when a write fails. Without a listener, failures are ignored. */
  onError(listener: (error: OutputError) => void): void;
  /** Resolves when all output so far has been written, or its write has failed. */
  readonly written: Promise<void>;
}

/** The error of a failed write. The code is EPIPE if the reader has closed its end. */
export interface OutputError {
  readonly code?: string;
  readonly message: string;
}

/** Depending on the runtime, a failed write is an event, an argument of the callback, or an exception. */
function output(stream: typeof process.stdout | typeof process.stderr): Output {
  let written = Promise.resolve();
  let listener = (_error: OutputError) => {};
  const failed = (error: OutputError) => listener(error);
  stream.on("error", failed);
  return {
    onError(given) {
      listener = given;
    },
    get isTerminal() {
      return stream.isTTY === true;
    },
    get columns() {
      return stream.columns || 80;
    },
    get rows() {
      return stream.rows || 24;
    },
    write(text) {
      written = new Promise<void>((resolve, reject) =>
        stream.write(text, (error) => error ? reject(error) : resolve())
      ).catch(failed);
    },
    get written() {
      return written;
    },
  };
}

export const stdout: Output = output(process.stdout);
/** Standard error. Failed writes are ignored, so that supervision continues without a reader. */
export const stderr: Output = output(process.stderr);

/** Returns the directory for control sockets, and creates it if necessary. Throws if other users can access it. */
export function runtimeDirectory(): string {
  const userId = process.getuid?.();
  const given = variable("XDG_RUNTIME_DIR");
  const around = given ??
    (userId !== undefined && fs.existsSync(`/run/user/${userId}`)
      ? `/run/user/${userId}`
      : undefined);
  const path = around === undefined ? `${os.tmpdir()}/sam-${userId ?? "user"}` : `${around}/sam`;
  fs.mkdirSync(path, { recursive: true, mode: 0o700 });
  const stat = fs.lstatSync(path);
  const isOwn = userId === undefined || stat.uid === userId;
  if (!stat.isDirectory() || !isOwn || (stat.mode & 0o077) !== 0) {
    throw new Error(
      `${path} must be a directory that belongs to this user and has mode 0700. Remove it, or set XDG_RUNTIME_DIR.`,
    );
  }
  return path;
}

/** Returns the names in a directory. Empty if the directory cannot be read. */
export function namesIn(directory: string): readonly string[] {
  try {
    return fs.readdirSync(directory).sort();
  } catch {
    return [];
  }
}

/** True if the path is a socket, false if it is another file, undefined if it does not exist. */
export function isSocket(path: string): boolean | undefined {
  return fs.lstatSync(path, { throwIfNoEntry: false })?.isSocket();
}

/**
 * True if the kernel lists a process with a socket at this path. False if the list cannot be read. A refused connection alone does
 * not prove that the server has ended: it may be between bind() and listen(), or, on Bun, its queue may be full.
 */
export function isBound(path: string): boolean {
  try {
    return readText("/proc/net/unix").split("\n").some((line) => line.endsWith(` ${path}`));
  } catch {
    return false;
  }
}

/** Returns the system's code of an error, such as ENOENT. Finds it also in the `cause` of a `SamError`. */
export function systemCode(error: unknown): string | undefined {
  const { cause, code } = error as { cause?: { code?: string }; code?: string };
  return cause?.code ?? code;
}

/** Makes a file or a socket accessible to this user only. */
export function makePrivate(path: string): void {
  fs.chmodSync(path, 0o600);
}

/** Returns a text that distinguishes a file from a later file at the same path. */
export function identityOf(path: string): string | undefined {
  const stat = fs.lstatSync(path, { throwIfNoEntry: false });
  return stat && `${stat.ino} ${stat.mtimeMs}`;
}

/**
 * Removes a file, but not another file that a process has put in its place. The file is renamed first, because the path can change
 * at any time, and gets its name back if it proves to be another file.
 */
export function removeFile(path: string, identity: string | undefined): void {
  if (identity === undefined || identityOf(path) !== identity) return;
  const aside = asideOf(path);
  try {
    fs.renameSync(path, aside);
  } catch {
    return; // another process has already removed the file
  }
  if (identityOf(aside) === identity) fs.unlinkSync(aside);
  else restorePath(aside, path);
}

/** Closes a listener, but preserves its path, which may belong to another server by now. Node would remove it. */
export function closePreserving(path: string, close: () => void): void {
  const aside = asideOf(path);
  try {
    fs.linkSync(path, aside);
  } catch {
    return close(); // the path does not exist
  }
  close();
  restorePath(aside, path);
}

function asideOf(path: string): string {
  return `${path}.${process.pid}`;
}

function restorePath(aside: string, path: string): void {
  try {
    fs.linkSync(aside, path);
  } catch {
    // the path exists already
  }
  fs.unlinkSync(aside);
}

/** Returns the number of cores that this process may use. */
export function cores(): number {
  return os.availableParallelism();
}
