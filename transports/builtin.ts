/** The built-in transports. Each module is loaded when its transport is first used. */
import type { Transport } from "./transport.ts";

/**
 * The name of a built-in transport.
 *
 * - `"unix"`: a Unix socket in a private directory. The default.
 * - `"pipe"`: a file descriptor that the program inherits. Needs no directory.
 * - `"shm"`: shared memory. A heartbeat is a memory write.
 */
export type TransportName = "unix" | "pipe" | "shm";

const loaders: Readonly<Record<TransportName, () => Promise<Transport>>> = {
  unix: async () => (await import("./unix.ts")).unix,
  pipe: async () => (await import("./pipe.ts")).pipe,
  shm: async () => (await import("./shm.ts")).shm,
};

/** True if `name` is the name of a built-in transport. */
export function isTransportName(name: unknown): name is TransportName {
  return typeof name === "string" && Object.hasOwn(loaders, name);
}

/** Loads a built-in transport by its name. Returns a transport object as it is. */
export function loadTransport(transport: TransportName | Transport): Promise<Transport> {
  return typeof transport === "string" ? loaders[transport]() : Promise.resolve(transport);
}
