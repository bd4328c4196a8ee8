/**
 * The parts of the adapter that Node and Bun share, based on the `process` object and `node:fs`. Built-in modules are
 * loaded on demand with `getBuiltinModule`, because importing them would add some milliseconds to the start of every
 * program.
 */
import type * as Fs from "node:fs";
import type * as Net from "node:net";
import type * as Tty from "node:tty";
import { SamError } from "../errors.ts";
import type { Signal } from "../core/signals.ts";
import { launch } from "./launch.ts";
import type { Command, Runtime, RuntimeName } from "./runtime.ts";

/** The used part of a standard stream: Node's internal handle. */
interface StandardStream {
  readonly _handle?: { setBlocking?(on: boolean): void } | null;
}

/** The used part of `process`. */
interface ProcessLike {
  readonly pid: number;
  readonly platform: string;
  readonly versions: { readonly node: string };
  readonly channel?: object;
  geteuid(): number;
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

export const process: ProcessLike = (globalThis as unknown as { process: ProcessLike }).process;

/**
 * The original timer. Read when the library is loaded, because a program may replace it later: with a browser's timer,
 * which has no `unref`, or with a fake.
 */
export const setTimeout: typeof globalThis.setTimeout = globalThis.setTimeout;
/** See `setTimeout`. */
export const clearTimeout: typeof globalThis.clearTimeout = globalThis.clearTimeout;
/** See `setTimeout`. */
export const setImmediate: typeof globalThis.setImmediate = globalThis.setImmediate;

/** The original `process.exit`. `takeOver()` replaces the one that the program sees. */
export const exit: (code: number) => never = process.exit.bind(process);

export function fs(): typeof Fs {
  return process.getBuiltinModule("node:fs") as typeof Fs;
}

/** Returns the command line of this program. There is no module for `-e` and for single-file executables. */
export function ownCommand(
  runtime: RuntimeName,
): Pick<Command, "file" | "flags" | "module" | "args" | "runtime" | "cwd"> {
  const [, script, ...args] = process.argv;
  const isSingleFile = script === process.execPath || script?.startsWith("/$bunfs/");
  const isInline = process.execArgv.some((flag) => /^(-[ep]+|--eval|--print)(=|$)/.test(flag));
  if (script === "-" || (script === undefined && !isInline)) {
    throw new SamError(
      "NOT_SUPPORTED",
      "SAM cannot restart a program that was read from standard input: put it into a file",
    );
  }
  return {
    file: process.execPath,
    runtime,
    cwd: launch.cwd,
    flags: flagsWithout(/^--(watch|hot)/),
    module: isSingleFile ? undefined : script,
    args,
  };
}

/**
 * The runtime flags of this process, without those that match `some` and without their values. The runtime has already
 * separated flags from arguments, so a word that is no flag is the value of the flag before it.
 */
function flagsWithout(some: RegExp): string[] {
  let isKept = true;
  return process.execArgv.filter((word) => {
    if (word.startsWith("-")) isKept = !some.test(word);
    return isKept;
  });
}

/** The environment of this process, with more variables added. */
export function environment(more: Readonly<Record<string, string>>): Record<string, string> {
  return { ...process.env as Record<string, string>, ...more };
}

/** Calls `look`; undefined if it throws, because files of other processes may vanish or be inaccessible at any time. */
export function attempt<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}

/** Milliseconds before a retry when the kernel's buffer was full. */
export const fullMs = 5;

/** Writes to this process's standard output or standard error, without blocking the event loop. */
export async function writeOutput(descriptor: 1 | 2, bytes: Uint8Array): Promise<void> {
  for (let rest = bytes; rest.length > 0;) {
    const result = await new Promise<number | string>((resolve) =>
      fs().write(descriptor, rest, (error, written) => resolve(error ? error.code ?? "" : written))
    );
    if (typeof result === "number") rest = rest.subarray(result);
    else if (result !== "EAGAIN") return; // the stream has no reader any more
    else await new Promise((resolve) => setTimeout(resolve, fullMs));
  }
}

/** Sends a signal. Does nothing if the process has ended. */
export function kill(pid: number, signal: Signal): void {
  try {
    process.kill(pid, signal);
  } catch (cause) {
    if (isDenied(cause)) {
      throw new SamError("ACCESS", "the process runs as another user", { cause });
    }
    if ((cause as { code?: string }).code !== "ESRCH") throw cause;
  }
}

/**
 * True if standard input is a terminal. Does not use `process.stdin`, which would change the mode of a stream that
 * child processes share.
 */
export function stdinIsTerminal(): boolean {
  return (process.getBuiltinModule("node:tty") as typeof Tty).isatty(0);
}

/** The exit listeners of the library, which `takeOver()` does not remove. */
const ownListeners = new WeakSet<object>();

/**
 * Adds a listener for the normal exit of this process, called with the exit code. Returns a function that removes it.
 */
export function onExit(listener: (code: number) => void): () => void {
  ownListeners.add(listener);
  process.on("exit", listener);
  return () => process.off("exit", listener);
}

/** True if a system error is a missing permission. */
export function isDenied(error: unknown): boolean {
  const { code } = error as { code?: string };
  return code === "EACCES" || code === "EPERM";
}

/** The members of the adapter that Node and Bun share. */
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
  | "isForeign"
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

/** The members of the adapter that Node and Bun share. */
export const nodeApi: NodeApi = {
  pid: process.pid,
  executable: process.execPath,

  schedule(callback, delayMs, hold) {
    const timer = setTimeout(callback, delayMs);
    if (!hold) timer.unref();
    return () => clearTimeout(timer);
  },
  settleMs: 1, // timers have a resolution of one millisecond

  kill,
  systemText: (path) => attempt(() => fs().readFileSync(path, "utf8")),
  systemNames: (directory) => attempt(() => fs().readdirSync(directory)) ?? [],
  systemLink: (path) => attempt(() => fs().readlinkSync(path)),

  exists: (path) => fs().existsSync(path),
  readText(path, maxBytes) {
    return attempt(() => {
      const stat = fs().statSync(path);
      return stat.isFile() && stat.size <= maxBytes ? fs().readFileSync(path, "utf8") : undefined;
    });
  },
  // deno-lint-ignore require-await
  async openFile(path, create) {
    const { openSync, writeSync, readSync, closeSync } = fs();
    const descriptor = openSync(path, create ? "wx+" : "r+", 0o600);
    let open = true; // after close(), the descriptor's number may belong to another file
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
  isForeign(path) {
    const status = fs().lstatSync(path);
    const user = process.geteuid();
    const isOwn = status.uid === user ||
      (user === 0 && String(status.uid) === process.env["SUDO_UID"]); // below the server of a user, by sudo
    return !status.isDirectory() || !isOwn;
  },
  remove(...paths) {
    for (const path of paths) {
      try {
        if (fs().lstatSync(path).isDirectory()) fs().rmdirSync(path);
        else fs().unlinkSync(path);
      } catch {
        // missing, or a directory that contains files of other programs
      }
    }
  },

  probePort(host, port, signal) {
    const { connect } = process.getBuiltinModule("node:net") as typeof Net;
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port });
      socket.once("connect", () => {
        socket.destroy();
        resolve();
      });
      signal.addEventListener("abort", () => socket.destroy(signal.reason));
      socket.once("error", reject);
    });
  },
  limitsWrites: false,
  exposesDescriptors: true,

  /** The flags of this process, without those for this process only: test runner, inspector port, `-e` and the like. */
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
        if (!ownListeners.has(listener)) process.off(event as string, listener);
      }
    }
    process.exit =
      ((code: number) => onStray(new Error(`process.exit(${code}) was called`))) as typeof exit;
    process.on("uncaughtException", onStray);
    process.on("unhandledRejection", onStray);
  },
  exit,
};
