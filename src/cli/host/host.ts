/**
 * The process of the `sam` command: its words, environment, files and terminal, on all three runtimes by the layer of
 * Node that each has. Loaded by the command alone: it is on nobody's hot path.
 */
import * as fs from "node:fs";
import { createRequire } from "node:module";
import * as os from "node:os";
import process from "node:process";
import { runtimeName } from "../../runtime/runtime.ts";
import { pathToFileURL } from "node:url";

/** The words of the command line after the command itself. */
export const words: readonly string[] = process.argv.slice(2);

/** An environment variable; undefined where it is not set, empty, or may not be read. */
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

/** How often the parent process is looked at. */
const parentMs = 500;

/**
 * Calls back when npm or npx, if one of them runs `sam` and nothing else, has ended. SIGTERM ends npm and its shell, and does
 * not reach this process.
 */
export function onNpmEnd(listener: () => void): void {
  // A script that has more to do, as in "sam run server.js &", may leave this process to itself.
  if (!/^\W*sam\b[^&|;]*$/.test(variable("npm_lifecycle_script") ?? "")) return;
  delete process.env["npm_lifecycle_script"]; // npm did not start a sam that one of the programs starts
  const { ppid } = process;
  const timer = setInterval(() => {
    if (process.ppid === ppid) return;
    clearInterval(timer);
    // What ended npm may reach this process as well, in a moment.
    setTimeout(listener, parentMs).unref();
  }, parentMs);
  timer.unref();
}

/** Whether there is a file or directory. */
export function exists(path: string): boolean {
  return fs.existsSync(path);
}

/**
 * The file for which a directory stands, as Node has it ("main" in package.json, index.js): empty where it has none, undefined for
 * no directory. Throws what the system says.
 */
export function mainOf(path: string): string | undefined {
  if (!fs.statSync(path, { throwIfNoEntry: false })?.isDirectory()) return undefined;
  try {
    return createRequire(`${path}/`).resolve("./");
  } catch {
    return "";
  }
}

/** The text of a file; throws what the system says. */
export function readText(path: string): string {
  return fs.readFileSync(path, "utf8");
}

/** The first line of a file; empty where it cannot be read. */
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

/** Whether this is a Node that cannot load TypeScript, and nothing in NODE_OPTIONS might. */
export function withoutTypes(): boolean {
  const { typescript } = process.features as { readonly typescript?: unknown };
  return runtimeName() === "node" && !typescript && variable("NODE_OPTIONS") === undefined;
}

/** The resident memory of a process in bytes; undefined where it cannot be known. */
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
  /** Calls back where it takes no more; without, that is overlooked. */
  onError(listener: (error: OutputError) => void): void;
  /** Resolved when all that was written so far has been taken, or nobody takes it. */
  readonly written: Promise<void>;
}

/** Why an output takes no more; EPIPE where nobody reads. */
export interface OutputError {
  readonly code?: string;
  readonly message: string;
}

/** A failure is an event, an argument, or thrown, as the runtime has it. */
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
/** Standard error. Who does not listen any more is no reason to leave programs alone. */
export const stderr: Output = output(process.stderr);

/** The directory for the sockets of this user's servers: made where it is missing, refused where it is somebody else's. */
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

/** The names in a directory; none where it cannot be read. */
export function namesIn(directory: string): readonly string[] {
  try {
    return fs.readdirSync(directory).sort();
  } catch {
    return [];
  }
}

/** Whether a socket is there: false for anything else, undefined for nothing. */
export function isSocket(path: string): boolean | undefined {
  return fs.lstatSync(path, { throwIfNoEntry: false })?.isSocket();
}

/**
 * Whether a process holds a socket by this path, as the kernel's list has it; false where that cannot be known. Bun takes a
 * server whose queue is full for one that refuses, and between bind() and listen() every server does.
 */
export function isBound(path: string): boolean {
  try {
    return readText("/proc/net/unix").split("\n").some((line) => line.endsWith(` ${path}`));
  } catch {
    return false;
  }
}

/** The system's code of an error, like ENOENT, that our adapter has wrapped or not. */
export function systemCode(error: unknown): string | undefined {
  const { cause, code } = error as { cause?: { code?: string }; code?: string };
  return cause?.code ?? code;
}

/** Makes a file, a socket too, this user's alone. */
export function makePrivate(path: string): void {
  fs.chmodSync(path, 0o600);
}

/** What tells a file from another one that has its name later. */
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

/** Closes a listener of ours whose name another server may have taken over: Node removes the name, whoever has it. */
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
