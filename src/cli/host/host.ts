/**
 * The process of the `sam` command: its words, environment, files and terminal, on all three runtimes through their Node
 * layer. Only the command loads this module.
 */
import * as fs from "node:fs";
import { createRequire } from "node:module";
import * as os from "node:os";
import process from "node:process";
import { runtimeName } from "../../runtime/load.ts";
import { pathToFileURL } from "node:url";

/** The words of the command line after the command itself. */
export const words: readonly string[] = process.argv.slice(2);

/** An environment variable; undefined if it is not set, is empty, or may not be read. */
export function variable(name: string): string | undefined {
  try {
    return process.env[name] || undefined;
  } catch {
    return undefined;
  }
}

/** The working directory. */
export function workingDirectory(): string {
  return process.cwd();
}

/** The period in which the parent process is checked. */
const parentMs = 500;

/**
 * Calls back when the npm or npx that runs this `sam`, and nothing else, has ended. SIGTERM to npm ends npm and its shell, and
 * does not reach this process.
 */
export function onNpmEnd(listener: () => void): void {
  // A longer script, like "sam run server.js &", may end on purpose while this process runs on.
  if (!/^\W*sam\b[^&|;]*$/.test(variable("npm_lifecycle_script") ?? "")) return;
  delete process.env["npm_lifecycle_script"]; // npm did not start a sam that one of the programs starts
  const { ppid } = process;
  const timer = setInterval(() => {
    if (process.ppid === ppid) return;
    clearInterval(timer);
    // The signal that ended npm may reach this process too, a moment later.
    setTimeout(listener, parentMs).unref();
  }, parentMs);
  timer.unref();
}

/** True if there is a file or a directory. */
export function exists(path: string): boolean {
  return fs.existsSync(path);
}

/**
 * The main file of a directory, as Node finds it ("main" in package.json, index.js): empty if it has none, undefined if `path`
 * is no directory. Throws the error of the system.
 */
export function mainOf(path: string): string | undefined {
  if (!fs.statSync(path, { throwIfNoEntry: false })?.isDirectory()) return undefined;
  try {
    return createRequire(`${path}/`).resolve("./");
  } catch {
    return "";
  }
}

/** The text of a file; throws the error of the system. */
export function readText(path: string): string {
  return fs.readFileSync(path, "utf8");
}

/** The first line of a file; empty if it cannot be read. */
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

/** True if this is a Node that cannot load TypeScript, and NODE_OPTIONS loads nothing that could. */
export function withoutTypes(): boolean {
  const { typescript } = process.features as { readonly typescript?: unknown };
  return runtimeName() === "node" && !typescript && variable("NODE_OPTIONS") === undefined;
}

/** The resident memory of a process in bytes; undefined if it is not known. */
export function memoryOf(pid: number): number | undefined {
  try {
    const [, kilobytes] = /^VmRSS:\s+(\d+) kB$/m.exec(
      fs.readFileSync(`/proc/${pid}/status`, "utf8"),
    ) ?? [];
    return kilobytes === undefined ? undefined : Number(kilobytes) * 1024;
  } catch {
    return undefined;
  }
}

/** Loads a module by its path. */
export function loadModule(path: string): Promise<{ readonly default?: unknown }> {
  return import(pathToFileURL(path).href);
}

/** One of the two streams for output. */
export interface Output {
  readonly isTerminal: boolean;
  /** The width of the terminal. */
  readonly columns: number;
  /** Its height. */
  readonly rows: number;
  write(text: string): void;
  /** Calls back when it takes no more output. Without a listener, that is ignored. */
  onError(listener: (error: OutputError) => void): void;
  /** Resolved when all output so far has been taken, or cannot be taken. */
  readonly written: Promise<void>;
}

/** The reason for which an output takes no more; EPIPE if nobody reads it. */
export interface OutputError {
  readonly code?: string;
  readonly message: string;
}

/** A failure is an event, an argument of the callback, or thrown, depending on the runtime. */
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

/** Standard output. */
export const stdout: Output = output(process.stdout);
/** Standard error. When nobody reads it any more, supervision goes on. */
export const stderr: Output = output(process.stderr);

/** The directory for the sockets of this user's servers. It is created if missing, and refused if it is not this user's own. */
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
  const mine = userId === undefined || stat.uid === userId;
  if (!stat.isDirectory() || !mine || (stat.mode & 0o077) !== 0) {
    throw new Error(
      `${path} must be a directory of this user's that nobody else may enter (mode 0700): remove it, or set XDG_RUNTIME_DIR`,
    );
  }
  return path;
}

/** The names in a directory; none if it cannot be read. */
export function namesIn(directory: string): readonly string[] {
  try {
    return fs.readdirSync(directory).sort();
  } catch {
    return [];
  }
}

/** True for a socket, false for any other file, undefined for none. */
export function isSocket(path: string): boolean | undefined {
  return fs.lstatSync(path, { throwIfNoEntry: false })?.isSocket();
}

/**
 * True if a process has a socket at this path, by the kernel's list; false if that is not known. On Bun, a connection to a
 * server whose queue is full is refused, as one to any server between bind() and listen() is.
 */
export function isBound(path: string): boolean {
  try {
    return readText("/proc/net/unix").split("\n").some((line) => line.endsWith(` ${path}`));
  } catch {
    return false;
  }
}

/** The system's code of an error, like ENOENT, also of an error that the runtime's adapter has wrapped. */
export function systemCode(error: unknown): string | undefined {
  const { cause, code } = error as { cause?: { code?: string }; code?: string };
  return cause?.code ?? code;
}

/** Makes a file or a socket accessible for this user only. */
export function makePrivate(path: string): void {
  fs.chmodSync(path, 0o600);
}

/** Tells a file from another file that gets its name later. */
export function identityOf(path: string): string | undefined {
  const stat = fs.lstatSync(path, { throwIfNoEntry: false });
  return stat && `${stat.ino} ${stat.mtimeMs}`;
}

/**
 * Removes the file of this identity. Another process may put another file in its place at any time. So the file gets a name of its
 * own first; a wrong one gets its old name back.
 */
export function removeFile(path: string, identity: string | undefined): void {
  if (identity === undefined || identityOf(path) !== identity) return;
  const aside = asideOf(path);
  try {
    fs.renameSync(path, aside);
  } catch {
    return; // another process has removed it
  }
  if (identityOf(aside) === identity) fs.unlinkSync(aside);
  else giveBack(aside, path);
}

/** Closes a listener whose path another server may have taken over. Node would remove the path, whoever has it. */
export function closeKeeping(path: string, close: () => void): void {
  const aside = asideOf(path);
  try {
    fs.linkSync(path, aside);
  } catch {
    return close(); // nobody has the name
  }
  close();
  giveBack(aside, path);
}

function asideOf(path: string): string {
  return `${path}.${process.pid}`;
}

function giveBack(aside: string, path: string): void {
  try {
    fs.linkSync(aside, path);
  } catch {
    // the name is there, or has been taken again
  }
  fs.unlinkSync(aside);
}
