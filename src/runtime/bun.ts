/** The runtime adapter for Bun. `bun_spawn.ts` starts processes. */
import { connectStream, listen } from "./bun_stream.ts";
import { announceBunWorkers, isWorker } from "./cluster_workers.ts";
import { nodeApi, ownCommand, stdinIsTerminal } from "./node_api.ts";
import type { Runtime } from "./runtime.ts";

// Declares only the used parts of the global `Bun`, so that the library needs no type package.
interface BunLike {
  readonly isMainThread: boolean;
  sleep(ms: number): Promise<void>;
}

const Bun = (globalThis as unknown as { Bun: BunLike }).Bun;

/** Bound when the library is loaded, because the program may replace `performance.now` with a fake. */
const now = performance.now.bind(performance);

/**
 * Replaces the port of an inspector flag with 0, which picks a free port. Bun cannot close this process's own
 * inspector, and a program with the same port would not start.
 */
function withFreePort(flag: string): string {
  const [, name, host = "localhost"] =
    /^(--inspect(?:-brk|-wait)?)(?:=(?:(.*):)?[^:]*)?$/.exec(flag) ?? [];
  return name === undefined ? flag : `${name}=${host}:0`;
}

/** The runtime adapter for Bun. */
export const bun: Runtime = {
  ...nodeApi,
  name: "bun",
  isMainThread: Bun.isMainThread,
  get stdinIsTerminal() {
    return stdinIsTerminal();
  },

  now,
  // Bun runs immediates before it polls the sockets (measured: 300 of 300 arrivals missed), and this after (0 of 300).
  settle: () => Bun.sleep(0),

  // Imported here, because an active process must not wait for modules that only a server needs.
  spawn: async (command, link) => await (await import("./bun_spawn.ts")).spawn(command, link),
  temporaryFiles: async () => (await import("./node_temporary_files.ts")).temporaryFiles,
  // deno-lint-ignore require-await
  async self() {
    const own = ownCommand("bun");
    return { ...own, flags: own.flags.map(withFreePort) };
  },

  // deno-lint-ignore require-await
  listen: async (path, onStream) => listen(path, onStream),
  connect: (path) => connectStream({ unix: path }),
  connectPort: (port) => connectStream({ hostname: "127.0.0.1", port }),
  inherited: (descriptor) => connectStream({ fd: descriptor }),

  stackAccess: () => "none: Bun cannot capture the stack of a blocked event loop",
  announceWorkers: announceBunWorkers,
  isWorker,
};
