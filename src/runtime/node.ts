/** The runtime adapter for Node.js. `node_spawn.ts` starts processes. */
import type * as Inspector from "node:inspector";
import type * as Modules from "node:module";
import type * as Net from "node:net";
import type * as PerfHooks from "node:perf_hooks";
import type * as Workers from "node:worker_threads";
import { announceNodeWorkers, isWorker } from "./cluster_workers.ts";
import {
  fs,
  fullMs,
  nodeApi,
  ownCommand,
  process,
  setImmediate,
  setTimeout,
  stdinIsTerminal,
} from "./node_api.ts";
import { type DirectWrites, socketStream } from "./node_stream.ts";
import type { Runtime, Stream } from "./runtime.ts";

function net(): typeof Net {
  return process.getBuiltinModule("node:net") as typeof Net;
}

let performance: typeof PerfHooks.performance | null = null;
let performanceNow!: (this: object) => number;
/** Read when the library is loaded, because the program may replace it with a fake. */
const { hrtime } = process;

/**
 * Monotonic milliseconds, from the cheaper of two clocks. Loading `performance` takes a millisecond or more;
 * `process.hrtime()` needs no loading. But each call allocates memory in one of the two: in `performance` up to Node
 * 22, in `hrtime()` since Node 24. So on Node 24 and later, a process that reads the time often switches to
 * `performance`.
 */
function now(): number {
  return performance === null ? hrtimeMs() : performanceNow.call(performance) + ahead[0]!;
}

function hrtimeMs(): number {
  const [seconds, nanoseconds] = hrtime();
  const time = seconds * 1e3 + nanoseconds / 1e6;
  if (switchAfter !== Infinity && ++callCount === switchAfter) {
    // The method of the prototype is the original: a fake is a property of `performance` itself, or another global
    // object.
    ({ performance } = process.getBuiltinModule("node:perf_hooks") as typeof PerfHooks);
    performanceNow = Object.getPrototypeOf(performance).now;
    ahead[0] = time - performanceNow.call(performance);
  }
  return time;
}

/** The number of calls after which `now()` switches to `performance`. */
const switchAfter = Number.parseInt(process.versions.node) >= 24 ? 32 : Infinity;
let callCount = 0;
/**
 * The `hrtime()` clock minus the `performance` clock. In a Float64Array, because a plain number would be allocated on
 * the heap.
 */
const ahead = new Float64Array(1);

/**
 * True if this process has the IPC channel of `fork`. A worker has none, and reading `process.channel` there may throw.
 */
function hasChannel(): boolean {
  try {
    return typeof process.channel === "object";
  } catch {
    return false;
  }
}

/** The runtime adapter for Node.js. */
export const node: Runtime = {
  ...nodeApi,
  name: "node",
  get isMainThread() {
    return hasChannel() || // checked first, because `node:worker_threads` takes a millisecond to load
      (process.getBuiltinModule("node:worker_threads") as typeof Workers).isMainThread;
  },
  get stdinIsTerminal() {
    return stdinIsTerminal();
  },

  now,
  // Node runs immediates after the poll phase, which delivers everything that has arrived.
  settle: () => new Promise((resolve) => setImmediate(resolve)),

  // Imported here, because an active process must not wait for modules that only a server needs.
  spawn: async (command, link) => await (await import("./node_spawn.ts")).spawn(command, link),
  temporaryFiles: async () => (await import("./node_temporary_files.ts")).temporaryFiles,
  // deno-lint-ignore require-await
  self: async () => ownCommand("node"),
  async writeOutput(descriptor, bytes) {
    // The import may fail, for example if no file descriptors are left.
    const module = await import("./node_output.ts").catch(() => nodeApi);
    await module.writeOutput(descriptor, bytes);
  },

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

  // Node itself writes the cache only when a process exits normally; a killed process would never write it.
  saveCompileCache() {
    const { getCompileCacheDir, flushCompileCache } = process.getBuiltinModule(
      "node:module",
    ) as Partial<typeof Modules>;
    if (getCompileCacheDir?.() !== undefined) flushCompileCache?.();
  },

  stackAccess() {
    if (process.listenerCount("SIGUSR1") > 0) {
      return "none: the program has a SIGUSR1 handler, so SIGUSR1 does not open Node's inspector";
    }
    // With port 0, SIGUSR1 will open the inspector on a free port. This line itself opens nothing.
    const flags = [...process.execArgv, process.env.NODE_OPTIONS].join(" ");
    if (process.debugPort === 9229 && !flags.includes("--inspect")) process.debugPort = 0;
    return `signal ${process.debugPort}`;
  },

  announceWorkers: announceNodeWorkers,
  isWorker,

  freeInspectorPort(flags) {
    if (!/(^|\s)--inspect/.test([...flags, process.env.NODE_OPTIONS].join(" "))) return;
    (process.getBuiltinModule("node:inspector") as typeof Inspector | undefined)?.close();
  },
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

/** Read when the library is loaded, because the program may replace it with a fake. */
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
