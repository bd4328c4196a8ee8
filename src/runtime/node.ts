/** The adapter for Node.js; `node_spawn.ts` has the part that starts processes. */
import type * as Inspector from "node:inspector";
import type * as Modules from "node:module";
import type * as Net from "node:net";
import type * as PerfHooks from "node:perf_hooks";
import type * as Workers from "node:worker_threads";
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
  ...nodeApi,
  name: "node",
  get isMainThread() {
    return hasChannel() || // `node:worker_threads` takes a millisecond to load
      (process.getBuiltinModule("node:worker_threads") as typeof Workers).isMainThread;
  },
  get stdinIsTerminal() {
    return stdinIsTerminal();
  },

  now,
  // Immediates run after the poll phase, in which everything that had arrived is delivered.
  settle: () => new Promise((resolve) => setImmediate(resolve)),

  // What only a server needs is loaded by a server alone.
  spawn: async (command, link) => await (await import("./node_spawn.ts")).spawn(command, link),
  temporaryFiles: async () => (await import("./node_temporary_files.ts")).temporaryFiles,
  // deno-lint-ignore require-await
  self: async () => ownCommand("node"),
  async writeOutput(descriptor, bytes) {
    const module = await import("./node_output.ts").catch(() => nodeApi); // no descriptor is left to load it with, say
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

  // Node writes it when a process exits, which one that is killed never does.
  saveCompileCache() {
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
