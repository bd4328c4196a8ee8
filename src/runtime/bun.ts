/** The adapter for Bun; `bun_spawn.ts` has the part that starts processes. */
import { connectStream, listen } from "./bun_stream.ts";
import { nodeApi, ownCommand, stdinIsTerminal } from "./node_api.ts";
import type { Runtime } from "./runtime.ts";

// The parts of the global `Bun` that are used here, so that the library needs no type package.
interface BunLike {
  readonly isMainThread: boolean;
  sleep(ms: number): Promise<void>;
}

const Bun = (globalThis as unknown as { Bun: BunLike }).Bun;

/** As it is now: the program may put a fake in its place. */
const now = performance.now.bind(performance);

/** A flag for the debugger, with a port that is free: this process cannot give up its own, and without one Bun does not start. */
function withFreePort(flag: string): string {
  const [, name, host = "localhost"] =
    /^(--inspect(?:-brk|-wait)?)(?:=(?:(.*):)?[^:]*)?$/.exec(flag) ?? [];
  return name === undefined ? flag : `${name}=${host}:0`;
}

/** The adapter for Bun. */
export const bun: Runtime = {
  ...nodeApi,
  name: "bun",
  isMainThread: Bun.isMainThread,
  get stdinIsTerminal() {
    return stdinIsTerminal();
  },

  now,
  // Immediates run before the sockets are asked (measured: 300 of 300 arrivals missed), this after (0 of 300).
  settle: () => Bun.sleep(0),

  // What only a server needs is loaded by a server alone.
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

  stackAccess: () => "none: Bun has no way to look into a loop that is blocked",
};
