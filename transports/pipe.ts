/** The pipe transport: a descriptor that the process inherits. Nothing is in the file system, nobody else can connect. */
import { SamError } from "../src/errors.ts";
import { streamLink } from "./stream_link.ts";
import type { Endpoint, Transport } from "./transport.ts";

/** Heartbeats and frames over an inherited descriptor. */
export const pipe: Transport = {
  name: "pipe",
  coalesces: true,
  open(): Promise<Endpoint> {
    return Promise.resolve({
      address: String,
      accept: (child, onLink) => onLink(streamLink(child.stream!)),
      close() {},
    });
  },
  async connect(address, runtime) {
    try {
      return streamLink(await runtime.inherited(Number(address)));
    } catch (cause) {
      throw new SamError(
        "LIBRARY",
        `descriptor ${address}, inherited from the server, cannot be used: a wrapper between the two must keep it open`,
        { cause },
      );
    }
  },
};
