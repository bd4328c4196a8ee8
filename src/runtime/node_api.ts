/**
 * What Node and Bun have in common: the `process` object and `node:fs`. Modules are taken by `getBuiltinModule` when
 * they are needed, because an import of them costs the start of every program some milliseconds.
 */
import type * as Fs from "node:fs";
import type * as Net from "node:net";
import type * as Tty from "node:tty";
import { SamError } from "../errors.ts";
import type { Signal } from "../core/signals.ts";
import { launch } from "./launch.ts";
import type { Command, Runtime, RuntimeName } from "./runtime.ts";

/** The part of a standard stream that is used here: Node's own handle. */
interface StandardStream {
  readonly _handle?: { setBlocking?(on: boolean): void } | null;
}

/** The part of `process` that is used here. */
interface ProcessLike {
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
/** See `setTimeout`. */
export const clearTimeout: typeof globalThis.clearTimeout = globalThis.clearTimeout;
/** See `setTimeout`. */
export const setImmediate: typeof globalThis.setImmediate = globalThis.setImmediate;

/** Ends the process, also when the program's `process.exit` has been taken away. */
export const exit: (code: number) => never = process.exit.bind(process);

/** `node:fs`. */
export function fs(): typeof Fs {
  return process.getBuiltinModule("node:fs") as typeof Fs;
}

/** How this program was started; a module is missing for `-e` and single-file executables. */
export function ownCommand(
  runtime: RuntimeName,
): Pick<Command, "file" | "flags" | "module" | "args" | "runtime" | "cwd"> {
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
    file: process.execPath,
    runtime,
    cwd: launch.cwd,
    flags: flagsWithout(/^--(watch|hot)/),
    module: single ? undefined : script,
    args,
  };
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

/** What is in /proc or in a directory of others may be gone at any time, or may not be looked at. */
export function unlessGone<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}

/** The time after which bytes are offered again to a kernel that had no room for them. */
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

/** Sends a signal to a process that may have ended. */
export function kill(pid: number, signal: Signal): void {
  try {
    process.kill(pid, signal);
  } catch (cause) {
    if (isDenied(cause)) throw new SamError("ACCESS", "it runs as another user", { cause });
    if ((cause as { code?: string }).code !== "ESRCH") throw cause;
  }
}

/** True if standard input is a terminal; `process.stdin` would change the mode of what our children share. */
export function stdinIsTerminal(): boolean {
  return (process.getBuiltinModule("node:tty") as typeof Tty).isatty(0);
}

const ours = new WeakSet<object>();

/** Has `listener` called, with the exit code, when this process exits in order; returns the cancellation. */
export function onExit(listener: (code: number) => void): () => void {
  ours.add(listener);
  process.on("exit", listener);
  return () => process.off("exit", listener);
}

/** True if a system error is one of permission. */
export function isDenied(error: unknown): boolean {
  const { code } = error as { code?: string };
  return code === "EACCES" || code === "EPERM";
}

/** What the adapters of Node and Bun have in common. */
type NodeApi = Pick<
  Runtime,
  | "pid"
  | "executable"
  | "schedule"
  | "settleMs"
  | "kill"
  | "systemText"
  | "systemNames"
  | "systemLink"
  | "exists"
  | "readText"
  | "openFile"
  | "remove"
  | "probePort"
  | "limitsWrites"
  | "exposesDescriptors"
  | "defaultFlags"
  | "takeVariable"
  | "writeOutput"
  | "onSignal"
  | "takeOver"
  | "exit"
>;

/** What the adapters of Node and Bun have in common. */
export const nodeApi: NodeApi = {
  pid: process.pid,
  executable: process.execPath,

  schedule(callback, delayMs, hold) {
    const timer = setTimeout(callback, delayMs);
    if (!hold) timer.unref();
    return () => clearTimeout(timer);
  },
  settleMs: 1, // a timer counts in whole milliseconds

  kill,
  systemText: (path) => unlessGone(() => fs().readFileSync(path, "utf8")),
  systemNames: (directory) => unlessGone(() => fs().readdirSync(directory)) ?? [],
  systemLink: (path) => unlessGone(() => fs().readlinkSync(path)),

  exists: (path) => fs().existsSync(path),
  readText(path, maxBytes) {
    return unlessGone(() => {
      const stat = fs().statSync(path);
      return stat.isFile() && stat.size <= maxBytes ? fs().readFileSync(path, "utf8") : undefined;
    });
  },
  // deno-lint-ignore require-await
  async openFile(path, create) {
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
  },
  remove(...paths) {
    for (const path of paths) {
      try {
        if (fs().lstatSync(path).isDirectory()) fs().rmdirSync(path);
        else fs().unlinkSync(path);
      } catch {
        // missing, or not empty because somebody else put something there: not ours to remove
      }
    }
  },

  probePort(host, port, over) {
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
  },
  limitsWrites: false,
  exposesDescriptors: true,

  /** Ours, less those that say what else this very process does (its tests, its debugger's port, a program given with `-e`). */
  defaultFlags() {
    const own = /^(--(test|report|inspect|watch|hot|eval|print|check|interactive)|-[epci]+$)/;
    return Promise.resolve(flagsWithout(own));
  },
  takeVariable(name) {
    const value = process.env[name];
    delete process.env[name];
    return value || undefined;
  },
  writeOutput,
  onSignal(signal, listener) {
    process.on(signal, listener);
    return () => process.off(signal, listener);
  },
  takeOver(onStray) {
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
  },
  exit,
};
