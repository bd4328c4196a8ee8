/**
 * The Unix socket transport: the default. A heartbeat is one byte, written at once. The active process leaves a file beside
 * the socket, which has no name any more once it has connected: its data lie there, and where a runtime lets only some
 * writes through in a loop that never yields (Deno), further heartbeats are counted there; the server reads it before it
 * judges a deadline.
 */
import { servedLink, type SharedFile, sharedFile, sharingLink } from "./shared_file.ts";
import { connectSocket, directoryOf, fileIn } from "./private_socket.ts";
import type { Endpoint, Link, Transport, TransportRuntime } from "./transport.ts";

async function openShared(
  runtime: TransportRuntime,
  directory: string,
  create: boolean,
): Promise<SharedFile> {
  return sharedFile(await runtime.openFile(fileIn(directory), create));
}

/** Heartbeats and frames over a Unix socket, data in a file. */
export const unix: Transport = {
  name: "unix",
  coalesces: true,
  async open(runtime): Promise<Endpoint> {
    // What only a server needs is loaded by a server alone.
    const [{ makePrivateDirectory }, { openSocket }] = await Promise.all([
      import("./private_directories.ts"),
      import("./private_listener.ts"),
    ]);
    const directory = await makePrivateDirectory(runtime, false);
    const socket = await openSocket(runtime, directory, async (link) => {
      const shared = await openShared(runtime, directory, false).catch((error) => {
        if (runtime.exists(fileIn(directory))) throw error; // data that were left there would be lost
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
      const link = await connectSocket(runtime, address, limitsWrites ? shared.counter : undefined);
      return sharingLink(link, shared);
    } catch (error) {
      shared.close();
      throw error;
    }
  },
};
