/** The transports that have a name of their own, each loaded when it is used. */
import type { Transport } from "./transport.ts";

/** The transports that have a name of their own. */
export type TransportName = "unix" | "pipe" | "shm";

const loaders: Readonly<Record<TransportName, () => Promise<Transport>>> = {
  unix: async () => (await import("./unix.ts")).unix,
  pipe: async () => (await import("./pipe.ts")).pipe,
  shm: async () => (await import("./shm.ts")).shm,
};

/** True if a name is one of a transport. */
export function isTransportName(name: unknown): name is TransportName {
  return typeof name === "string" && Object.hasOwn(loaders, name);
}

/** The transport of a name, or the one given. */
export function loadTransport(transport: TransportName | Transport): Promise<Transport> {
  return typeof transport === "string" ? loaders[transport]() : Promise.resolve(transport);
}
