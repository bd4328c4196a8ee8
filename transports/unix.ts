/**
 * The Unix socket transport: the default. A heartbeat is one byte, written at once. Where a runtime lets only some writes
 * through in a loop that never yields (Deno), further heartbeats are counted in a page, a file that the active process
 * leaves beside the socket; the server reads it before it judges a deadline.
 */
import type { Page, Runtime } from "../src/runtime/runtime.ts";
import { filePage, pagedLink } from "./paged_link.ts";
import { connectSocket, directoryOf, openSocket, pageIn } from "./socket.ts";
import type { Endpoint, Link, Transport } from "./transport.ts";

async function openPage(runtime: Runtime, directory: string, create: boolean): Promise<Page> {
  return filePage(await runtime.openFile(pageIn(directory), create));
}

/** Heartbeats and frames over a Unix socket. */
export const unix: Transport = {
  name: "unix",
  coalesces: true,
  async open(runtime): Promise<Endpoint> {
    const directory = await runtime.makePrivateDirectory(false);
    const socket = await openSocket(runtime, directory, async (link) => {
      const page = await openPage(runtime, directory, false).catch(() => null);
      return page ? pagedLink(link, page) : link;
    });
    return {
      address: socket.address,
      accept: (_child, onLink) => socket.accept(onLink),
      close: socket.close,
    };
  },
  async connect(address, runtime): Promise<Link> {
    if (!runtime.limitsWrites) return await connectSocket(runtime, address);
    const page = await openPage(runtime, directoryOf(address), true);
    try {
      return pagedLink(await connectSocket(runtime, address, page), page);
    } catch (error) {
      page.close();
      throw error;
    }
  },
};
