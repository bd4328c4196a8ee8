/**
 * What Node and Bun have in common: the `process` object and `node:fs`. Modules are taken by `getBuiltinModule` when
 * they are needed, because an import of them costs the start of every program some milliseconds.
 */
import type * as Fs from "node:fs";
import type * as Net from "node:net";
import type * as Os from "node:os";
import type * as Tty from "node:tty";
import { SamError } from "../errors.ts";
import type { Signal } from "../core/signals.ts";
import {
  privatePrefix,
  strayDirectories as straysIn,
  type Surroundings,
} from "./private_directories.ts";
import type { RandomFile, Runtime } from "./runtime.ts";

/** The part of a standard stream that is used here: Node's own handle. */
interface StandardStream {
  readonly _handle?: { setBlocking?(on: boolean): void } | null;
}

/** The part of `process` that is used here. */
export interface ProcessLike {
  readonly pid: number;
  readonly platform: string;
  readonly versions: { readonly node: string };
  readonly channel?: object;
  readonly execPath: string;
  readonly execArgv: readonly string[];
  readonly argv: readonly string[];
  readonly env: Record<string, string | undefined>;
  getBuiltinModule(name: string): unknown;
  hrtime(): [number, number];
  emitWarning(warning: string): void;
  kill(pid: number, signal: string | 0): boolean;
  exit: (code: number) => never;
  on(event: string, listener: (...args: never[]) => void): void;
  off(event: string, listener: (...args: never[]) => void): void;
  debugPort: number;
  readonly stdout: StandardStream;
  readonly stderr: StandardStream;
  listenerCount(event: string): number;
  eventNames(): (string | symbol)[];
  listeners(event: string | symbol): ((...args: never[]) => void)[];
}

/** The `process` of Node and Bun. */
export const process: ProcessLike = (globalThis as unknown as { process: ProcessLike }).process;

/**
 * As they are when the library is loaded: a program may put others in their place, those of browsers, which have no `unref`, or
 * fakes for its tests.
 */
export const setTimeout: typeof globalThis.setTimeout = globalThis.setTimeout;
/** The same. */
export const clearTimeout: typeof globalThis.clearTimeout = globalThis.clearTimeout;
/** The same. */
export const setImmediate: typeof globalThis.setImmediate = globalThis.setImmediate;

/** Ends the process, also when the program's `process.exit` has been taken away. */
export const exit: (code: number) => never = process.exit.bind(process);

/** `node:fs`. */
export function fs(): typeof Fs {
  return process.getBuiltinModule("node:fs") as typeof Fs;
}

/** How a Node or Bun program was started; a module is missing for `-e` and single-file executables. */
export function ownArguments(): { flags: string[]; module: string | undefined; args: string[] } {
  const [, script, ...args] = process.argv;
  const single = script === process.execPath || script?.startsWith("/$bunfs/");
  const given = process.execArgv.some((flag) => /^(-[ep]+|--eval|--print)(=|$)/.test(flag));
  if (script === "-" || (script === undefined && !given)) {
    throw new SamError(
      "NOT_SUPPORTED",
      "a program from standard input cannot be run again: put it into a file",
    );
  }
  return {
    flags: flagsWithout(/^--(watch|hot)/),
    module: single ? undefined : script,
    args,
  };
}

/**
 * The flags that a module gets where the user names none: ours, less those that say what else this very process does
 * (its tests, its reports, its debugger's port, a program given on the command line).
 */
export function moduleFlags(): readonly string[] {
  return flagsWithout(
    /^(--(test|report|inspect|watch|hot|eval|print|check|interactive)|-[epci]+$)/,
  );
}

/**
 * Our flags without some, and their values. The runtime has told flags and program apart: a word among the flags that is no
 * flag is the value of the one before it.
 */
function flagsWithout(some: RegExp): string[] {
  let isKept = true;
  return process.execArgv.filter((word) => {
    if (word.startsWith("-")) isKept = !some.test(word);
    return isKept;
  });
}

/** The environment of this process with some variables more. */
export function environment(more: Readonly<Record<string, string>>): Record<string, string> {
  return { ...process.env as Record<string, string>, ...more };
}

/** Takes a variable out of the environment. */
export function takeVariable(name: string): string | undefined {
  const value = process.env[name];
  delete process.env[name];
  return value || undefined;
}

const surroundings: Surroundings = {
  pid: process.pid,
  get namespace() {
    try {
      const { readlinkSync, statSync } = fs();
      if (Number(readlinkSync("/proc/self")) !== process.pid) return undefined;
      return statSync("/proc/self/ns/pid").ino;
    } catch {
      return undefined;
    }
  },
  list: (directory) => unlessGone(() => fs().readdirSync(directory)),
  lstat: (path) => unlessGone(() => fs().lstatSync(path)),
  hasEnded(pid) {
    try {
      process.kill(pid, 0);
      return false;
    } catch (error) {
      return (error as { code?: string }).code === "ESRCH";
    }
  },
};

function temporaryDirectory(): string {
  return (process.getBuiltinModule("node:os") as typeof Os).tmpdir();
}

/** Makes a directory that only this user may enter; with `inMemory` in shared memory. */
export function makePrivateDirectory(inMemory: boolean): string {
  const prefix = privatePrefix(surroundings);
  if (inMemory) return fs().mkdtempSync(`/dev/shm/${prefix}`);
  const directory = temporaryDirectory();
  try {
    return fs().mkdtempSync(`${directory}/${prefix}`);
  } catch (cause) {
    throw new SamError(
      isDenied(cause) ? "ACCESS" : "LIBRARY",
      `cannot make a directory for the socket in ${directory}: ${
        messageOf(cause)
      }; set TMPDIR to one you may write to`,
      { cause },
    );
  }
}

/** What the paths of our private directories begin with. */
export function privatePrefixes(): readonly string[] {
  return ["/dev/shm", temporaryDirectory()].map((parent) =>
    `${parent}/${privatePrefix(surroundings)}`
  );
}

/** The private directories that may have been left behind. */
export function strayDirectories(own: string): ReturnType<Runtime["strayDirectories"]> {
  return straysIn(["/dev/shm", temporaryDirectory()], own, surroundings);
}

/** Removes files and empty directories, in this order. */
export function remove(paths: readonly string[]): void {
  for (const path of paths) {
    try {
      if (fs().lstatSync(path).isDirectory()) fs().rmdirSync(path);
      else fs().unlinkSync(path);
    } catch {
      // missing, or not empty because somebody else put something there: not ours to remove
    }
  }
}

/** Connects to a TCP port, and lets go of it again. */
export function reach(host: string, port: number, over: AbortSignal): Promise<void> {
  const { connect } = process.getBuiltinModule("node:net") as typeof Net;
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    socket.once("connect", () => {
      socket.destroy();
      resolve();
    });
    over.addEventListener("abort", () => socket.destroy(over.reason));
    socket.once("error", reject);
  });
}

/** The text of a file in /proc. */
export function systemText(path: string): string | undefined {
  return unlessGone(() => fs().readFileSync(path, "utf8"));
}

/** See `Runtime`. */
export function readText(path: string, maxBytes: number): string | undefined {
  return unlessGone(() => {
    const stat = fs().statSync(path);
    return stat.isFile() && stat.size <= maxBytes ? fs().readFileSync(path, "utf8") : undefined;
  });
}

/** The names in a directory of /proc. */
export function systemNames(directory: string): readonly string[] {
  return unlessGone(() => fs().readdirSync(directory)) ?? [];
}

/** What a link in /proc points to. */
export function systemLink(path: string): string | undefined {
  return unlessGone(() => fs().readlinkSync(path));
}

/** What is in /proc or in a directory of others may be gone at any time, or may not be looked at. */
function unlessGone<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}

/** What the kernel has no room for is offered to it again after so long. */
export const fullMs = 5;

/** Writes to our standard output or error, without blocking the event loop. */
export async function writeOutput(descriptor: 1 | 2, bytes: Uint8Array): Promise<void> {
  for (let rest = bytes; rest.length > 0;) {
    const result = await new Promise<number | string>((resolve) =>
      fs().write(descriptor, rest, (error, written) => resolve(error ? error.code ?? "" : written))
    );
    if (typeof result === "number") rest = rest.subarray(result);
    else if (result !== "EAGAIN") return; // nobody reads it any more
    else await new Promise((resolve) => setTimeout(resolve, fullMs));
  }
}

/** Signals a process that may have ended. */
export function kill(pid: number, signal: Signal): void {
  try {
    process.kill(pid, signal);
  } catch (cause) {
    if (isDenied(cause)) throw new SamError("ACCESS", "it runs as another user", { cause });
    if ((cause as { code?: string }).code !== "ESRCH") throw cause;
  }
}

/** Whether standard input is a terminal; `process.stdin` would change the mode of what our children share. */
export function stdinIsTerminal(): boolean {
  return (process.getBuiltinModule("node:tty") as typeof Tty).isatty(0);
}

/** Listens for a signal. */
export function onSignal(signal: Signal, listener: () => void): () => void {
  process.on(signal, listener);
  return () => process.off(signal, listener);
}

const ours = new WeakSet<object>();

/** Has `listener` called, with the exit code, when this process exits in order; returns the cancellation. */
export function onExit(listener: (code: number) => void): () => void {
  ours.add(listener);
  process.on("exit", listener);
  return () => process.off("exit", listener);
}

/** Removes the program's own listeners from what happens to a process, and reports stray errors instead of dying of them. */
export function takeOver(onStray: (error: unknown) => void): void {
  const own = (event: string | symbol) =>
    typeof event === "string" &&
    (event.startsWith("SIG") || /^(exit|beforeExit|uncaught|unhandled|disconnect)/.test(event));
  for (const event of process.eventNames().filter(own)) {
    for (const listener of process.listeners(event)) {
      if (!ours.has(listener)) process.off(event as string, listener);
    }
  }
  process.exit =
    ((code: number) => onStray(new Error(`process.exit(${code}) was called`))) as typeof exit;
  process.on("uncaughtException", onStray);
  process.on("unhandledRejection", onStray);
}

/** Opens a file that is there, or with `create` one that must not be. */
export function openFile(path: string, create: boolean): RandomFile {
  const { openSync, writeSync, readSync, closeSync } = fs();
  const descriptor = openSync(path, create ? "wx+" : "r+", 0o600);
  let open = true; // once closed, the number may be another file's
  return {
    read: (bytes, at) => open ? readSync(descriptor, bytes, 0, bytes.length, at) : 0,
    write(bytes, at) {
      for (let done = 0; open && done < bytes.length;) {
        done += writeSync(descriptor, bytes, done, bytes.length - done, at + done);
      }
    },
    close() {
      if (open) closeSync(descriptor);
      open = false;
    },
  };
}

/** Whether a system error is one of permission. */
export function isDenied(error: unknown): boolean {
  const { code } = error as { code?: string };
  return code === "EACCES" || code === "EPERM";
}

/** The message of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
