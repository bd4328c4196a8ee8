/**
 * The Unix socket transport, the default. A heartbeat is one byte, written at once.
 *
 * The active process also creates a shared file beside the socket, for its data. Its name is removed once the process
 * has connected. On Deno, the file also counts heartbeats: in a loop that never yields, Deno passes only the first
 * writes on to the kernel, so later heartbeats are counted in the file. The server reads the count before it judges a
 * deadline.
 */
import {
  activeLinkWithFile,
  serverLinkWithFile,
  type SharedFile,
  sharedFile,
} from "./shared_file.ts";
import { connectSocket, fileIn, ownDirectoryOf } from "./private_socket.ts";
import type { Endpoint, Link, Transport, TransportRuntime } from "./transport.ts";

async function openShared(
  runtime: TransportRuntime,
  directory: string,
  create: boolean,
): Promise<SharedFile> {
  return sharedFile(await runtime.openFile(fileIn(directory), create));
}

/** Opens the server's side in a directory. The default nonce is random. */
async function openIn(
  runtime: TransportRuntime,
  directory: string,
  nonce?: Uint8Array,
): Promise<Endpoint> {
  const { openSocket, openWorkerSocket, remakeDirectory } = await import("./private_listener.ts");
  const socket = await openSocket(runtime, directory, async (link) => {
    const shared = await openShared(runtime, directory, false).catch((error) => {
      // If the file exists, it may hold data, which the server must not lose.
      if (runtime.exists(fileIn(directory))) throw error;
      return null;
    });
    return shared ? serverLinkWithFile(link, shared) : link;
  }, nonce);
  return {
    address: socket.address,
    accept: (_child, onLink) => socket.accept(onLink),
    close: socket.close,
    openWorker: (key) => openWorkerSocket(runtime, directory, key),
    async reopen() {
      await remakeDirectory(runtime, directory);
      return await openIn(runtime, directory, socket.nonce);
    },
  };
}

/** The default transport: heartbeats and frames over a Unix socket, data in a file. */
export const unix: Transport = {
  name: "unix",
  coalesces: true,
  async open(runtime): Promise<Endpoint> {
    // Imported here, because an active process must not wait for modules that only a server needs.
    const { makePrivateDirectory } = await import("./private_directories.ts");
    return await openIn(runtime, await makePrivateDirectory(runtime, false));
  },
  async connect(address, runtime): Promise<Link> {
    const { limitsWrites } = runtime;
    const shared = await openShared(runtime, ownDirectoryOf(runtime, address), true).catch(
      (error) => {
        if (limitsWrites) throw error;
        return null; // no room for a file: data is sent in frames
      },
    );
    if (!shared) return await connectSocket(runtime, address);
    try {
      const link = await connectSocket(runtime, address, limitsWrites ? shared.counter : undefined);
      return activeLinkWithFile(link, shared);
    } catch (error) {
      shared.close();
      throw error;
    }
  },
};
