/**
 * The pipe transport: heartbeats and frames over a file descriptor that the program inherits. It leaves nothing in the
 * file system, and no other process can connect.
 */
import { SamError } from "../src/errors.ts";
import { streamLink } from "./stream_link.ts";
import type { Endpoint, Transport } from "./transport.ts";

/** The pipe transport: heartbeats and frames over an inherited file descriptor. */
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
        `cannot use file descriptor ${address}, which the SAM server passes to its program: check that no wrapper between them closes it`,
        { cause },
      );
    }
  },
};
