/**
 * The Unix socket transport: the default. A heartbeat is one byte, written at once. The active process leaves a file beside
 * the socket, which has no name any more once it has connected: its data lie there, and where a runtime lets only some
 * writes through in a loop that never yields (Deno), further heartbeats are counted there; the server reads it before it
 * judges a deadline.
 */
import type { Runtime } from "../src/runtime/runtime.ts";
import { keeper } from "./keep.ts";
import { filePage, servedLink, type Shared, sharingLink } from "./paged_link.ts";
import { connectSocket, directoryOf, openSocket, pageIn } from "./private_socket.ts";
import type { Endpoint, Link, Transport } from "./transport.ts";

async function openShared(runtime: Runtime, directory: string, create: boolean): Promise<Shared> {
  const file = await runtime.openFile(pageIn(directory), create);
  return { file, page: filePage(file), close: file.close };
}

/** Heartbeats and frames over a Unix socket, data in a file. */
export const unix: Transport = {
  name: "unix",
  coalesces: true,
  async open(runtime): Promise<Endpoint> {
    const directory = await runtime.makePrivateDirectory(false);
    const socket = await openSocket(runtime, directory, async (link) => {
      const shared = await openShared(runtime, directory, false).catch((error) => {
        if (runtime.exists(pageIn(directory))) throw error; // data that were left there would be lost
        return null;
      });
      return shared ? servedLink(link, shared) : link;
    });
    return {
      address: socket.address,
      accept: (_child, onLink) => socket.accept(onLink),
      close: socket.close,
    };
  },
  async connect(address, runtime): Promise<Link> {
    const { limitsWrites } = runtime;
    const shared = await openShared(runtime, directoryOf(address), true).catch((error) => {
      if (limitsWrites) throw error;
      return null; // no room for a file: data go by messages
    });
    if (!shared) return await connectSocket(runtime, address);
    try {
      const link = await connectSocket(runtime, address, limitsWrites ? shared.page : undefined);
      return { ...sharingLink(link, shared), keep: keeper(shared.file) };
    } catch (error) {
      shared.close();
      throw error;
    }
  },
};
