/** The adapter for Node.js: `child_process.fork` for Node programs, `spawn` for others. */
import type * as ChildProcesses from "node:child_process";
import type * as Inspector from "node:inspector";
import type * as Modules from "node:module";
import type * as Net from "node:net";
import type * as PerfHooks from "node:perf_hooks";
import type * as Workers from "node:worker_threads";
import type { EndSignal, Signal } from "../core/signals.ts";
import { mapPage } from "../ffi/page_node.ts";
import { birth } from "./launch.ts";
import { type DirectWrites, socketStream } from "./node_stream.ts";
import {
  clearTimeout,
  environment,
  exit,
  fs,
  fullMs,
  kill,
  makePrivateDirectory,
  moduleFlags,
  onSignal,
  openFile,
  ownArguments,
  privatePrefixes,
  process,
  reach,
  readText,
  remove,
  setImmediate,
  setTimeout,
  stdinIsTerminal,
  strayDirectories,
  systemLink,
  systemNames,
  systemText,
  takeOver,
  takeVariable,
  writeOutput,
} from "./node_api.ts";
import type { Child, Command, Exit, Output, Runtime, Stream } from "./runtime.ts";
import { spawnError } from "./spawn_error.ts";

function net(): typeof Net {
  return process.getBuiltinModule("node:net") as typeof Net;
}

let performance: typeof PerfHooks.performance | null = null;
let performanceNow!: (this: object) => number;
/** The program may put a fake in its place. */
const { hrtime } = process;

/**
 * `performance` costs the start of a program a millisecond or more, `process.hrtime()` nothing. In a loop, what the one
 * allocates until Node 22 the other allocates since Node 24: there, a process that asks for the time again and again
 * goes over to `performance`.
 */
function now(): number {
  return performance === null ? hrtimeMs() : performanceNow.call(performance) + ahead[0]!;
}

function hrtimeMs(): number {
  const [seconds, nanoseconds] = hrtime();
  const time = seconds * 1e3 + nanoseconds / 1e6;
  if (manyTimes !== Infinity && ++asked === manyTimes) {
    // A fake of the program's is a property of `performance` itself, or another global.
    ({ performance } = process.getBuiltinModule("node:perf_hooks") as typeof PerfHooks);
    performanceNow = Object.getPrototypeOf(performance).now;
    ahead[0] = time - performanceNow.call(performance);
  }
  return time;
}

const manyTimes = Number.parseInt(process.versions.node) >= 24 ? 32 : Infinity;
let asked = 0;
/** The one clock's reading less the other's; no plain number, which would have to be allocated to be added. */
const ahead = new Float64Array(1);

/** Only a main thread has the channel of `fork`; in a worker, to look for it may throw. */
function hasChannel(): boolean {
  try {
    return typeof process.channel === "object";
  } catch {
    return false;
  }
}

/** The adapter for Node.js. */
export const node: Runtime = {
  name: "node",
  limitsWrites: false,
  tellsDescriptors: true,
  pid: process.pid,
  executable: process.execPath,
  get isMainThread() {
    return hasChannel() || // `node:worker_threads` takes a millisecond to load
      (process.getBuiltinModule("node:worker_threads") as typeof Workers).isMainThread;
  },
  get stdinIsTerminal() {
    return stdinIsTerminal();
  },

  now,
  schedule(callback, delayMs, hold) {
    const timer = setTimeout(callback, delayMs);
    if (!hold) timer.unref();
    return () => clearTimeout(timer);
  },
  // Immediates run after the poll phase, in which everything that had arrived is delivered.
  settle: () => new Promise((resolve) => setImmediate(resolve)),
  settleMs: 1, // a timer counts in whole milliseconds

  spawn: start,
  async self() {
    return await Promise.resolve({
      file: process.execPath,
      runtime: "node" as const,
      cwd: birth.cwd,
      ...ownArguments(),
    });
  },
  defaultFlags: () => Promise.resolve(moduleFlags()),
  exists: (path) => fs().existsSync(path),
  kill,
  readText,
  systemText,
  systemLink,
  systemNames,
  async writeOutput(descriptor, bytes) {
    const module = await import("./node_output.ts").catch(() => null); // no descriptor is left to load it with, say
    await (module?.writeOutput ?? writeOutput)(descriptor, bytes);
  },
  takeVariable,

  makePrivateDirectory: (inMemory) => Promise.resolve().then(() => makePrivateDirectory(inMemory)),
  privatePrefixes,
  strayDirectories,
  remove: (...paths) => remove(paths),
  listen(path, onStream) {
    return new Promise((resolve, reject) => {
      const server = net().createServer(
        { allowHalfOpen: false },
        (socket) => onStream(socketStream(socket)),
      );
      server.once("error", reject);
      server.listen(path, () => resolve({ close: () => server.close() }));
    });
  },
  connect: (path) => connectStream({ path }),
  connectPort: (port) => connectStream({ host: "127.0.0.1", port, noDelay: true }),
  inherited(descriptor) {
    return Promise.resolve().then(() =>
      socketStream(new (net().Socket)({ fd: descriptor, readable: true, writable: true }), direct)
    );
  },
  reach,
  openFile: (path, create) => Promise.resolve().then(() => openFile(path, create)),
  mapPage,

  // Node writes it when a process exits, which one that is killed never does.
  keepCompiled() {
    const { getCompileCacheDir, flushCompileCache } = process.getBuiltinModule(
      "node:module",
    ) as Partial<typeof Modules>;
    if (getCompileCacheDir?.() !== undefined) flushCompileCache?.();
  },

  stackAccess() {
    if (process.listenerCount("SIGUSR1") > 0) {
      return "none: the program listens for SIGUSR1, by which Node would open its inspector";
    }
    // Its inspector is to open at a port that is free, where it is not open yet. Nothing is opened by this.
    const flags = [...process.execArgv, process.env.NODE_OPTIONS].join(" ");
    if (process.debugPort === 9229 && !flags.includes("--inspect")) process.debugPort = 0;
    return `signal ${process.debugPort}`;
  },

  yieldInspector(flags) {
    if (!/(^|\s)--inspect/.test([...flags, process.env.NODE_OPTIONS].join(" "))) return;
    (process.getBuiltinModule("node:inspector") as typeof Inspector | undefined)?.close();
  },
  onSignal,
  takeOver,
  exit,
};

function connectStream(where: Net.NetConnectOpts): Promise<Stream> {
  return new Promise((resolve, reject) => {
    const socket = net().connect(where);
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.off("error", reject);
      resolve(socketStream(socket, direct));
    });
  });
}

/**
 * Node reports exit code 0 for a process that a real-time signal ended. Only the kernel knows the difference, and only until Node
 * reaps the process. So each process inherits a socket at this number. Node reads the end of that socket before it reaps the
 * process: that is the moment to look. The number is one that programs seldom use, and that a Node program does not hand on.
 */
const endDescriptor = 15;

/** The real-time signal that is ending a process; undefined for every other end. */
function unnamedSignal(pid: number): EndSignal | undefined {
  const stat = systemText(`/proc/${pid}/stat`);
  const status = stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[exitStatusAt];
  const number = Number(status) & 127;
  return number >= leastRealTime ? `SIG${number}` : undefined;
}

/** The field `exit_code` of proc_pid_stat(5), counted from the state. */
const exitStatusAt = 49;
/** The first signal of Linux without a name. */
const leastRealTime = 32;

/** As it is now: the program may put a fake in its place. */
const { writeSync } = fs();
const direct: DirectWrites = {
  put(descriptor, bytes) {
    try {
      return writeSync(descriptor, bytes, 0, bytes.length);
    } catch {
      return 0;
    }
  },
  later: (callback) => void setTimeout(callback, fullMs),
};

async function start(
  command: Command,
  link?: (descriptor: number) => Readonly<Record<string, string>>,
): Promise<Child> {
  const forked = command.runtime === "node" && command.module !== undefined;
  const descriptor = forked ? 4 : 3; // fork's own channel is 3
  const env = environment({ ...command.env, ...link?.(descriptor) });
  const stdio = [
    ...command.stdio.map((stdio) => stdio === "tee" ? "pipe" : stdio),
    ...(forked ? ["ipc"] : []),
    ...(link ? ["pipe"] : []),
  ] as ("pipe" | "ipc" | "ignore")[];
  while (stdio.length < endDescriptor) stdio.push("ignore");
  const endAt = stdio.push("pipe") - 1;
  const options = { cwd: command.cwd, env, stdio, detached: command.ownGroup === true };
  const { fork, spawn } = process.getBuiltinModule("node:child_process") as typeof ChildProcesses;
  let child: ChildProcesses.ChildProcess;
  try {
    child = forked
      ? fork(command.module!, command.args, {
        ...options,
        execPath: command.file,
        execArgv: [...command.flags],
      })
      : spawn(command.file, [
        ...command.flags,
        ...(command.module ? [command.module] : []),
        ...command.args,
      ], options);
  } catch (error) {
    throw spawnError(command, error);
  }
  const end = (child.stdio as readonly unknown[] | undefined)?.[endAt] as Net.Socket | undefined;
  let unnamed: EndSignal | undefined;
  end?.on("end", () => unnamed = unnamedSignal(child.pid!)).on("error", () => {}).resume().unref();
  const exited = new Promise<Exit>((resolve) => {
    child.once("exit", (code, signal) => {
      end?.destroy();
      if (code === 0 && unnamed) resolve({ code: null, signal: unnamed });
      else resolve({ code, signal: signal as Signal | null });
    });
  });
  // Where there are no more descriptors, there are no streams; the error follows.
  const socket = link ? child.stdio?.[descriptor] as Net.Socket | undefined : undefined;
  const stream = socket ? socketStream(socket) : null;
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (error) => {
      stream?.close();
      reject(spawnError(command, error));
    });
  });
  child.on("error", () => {}); // a signal or message that could not be delivered: the exit tells all
  // Without a listener, Node keeps what the program sends by `process.send()`, for one that may come.
  child.on("message", (_message, handle) => {
    if (handle && "destroy" in handle) handle.destroy();
    else handle?.close();
  });
  child.channel?.unref();
  return {
    pid: child.pid!,
    exited,
    stream,
    outputs: ([1, 2] as const).filter((descriptor) => command.stdio[descriptor] === "tee")
      .map((descriptor) => outputOf(descriptor, child.stdio[descriptor] as Stdout)),
    kill(signal) {
      // Its own kill() does not say where it is not permitted.
      if (child.exitCode === null && child.signalCode === null) kill(child.pid!, signal);
    },
    release: () => child.unref(),
  };
}

type Stdout = ChildProcesses.ChildProcessWithoutNullStreams["stdout"];

function outputOf(descriptor: 1 | 2, stream: Stdout): Output {
  const chunks = stream[Symbol.asyncIterator]();
  return {
    descriptor,
    read: () => chunks.next().then(({ done, value }) => done ? null : value, () => null),
    close: () => void stream.destroy(),
  };
}
