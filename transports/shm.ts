/**
 * The shared-memory transport. A heartbeat is one atomic add in a page that both sides have mapped; the server looks at it
 * from time to time and is not woken by it. Control frames, confirmations and the end of the process come over a Unix socket. Where
 * nothing can be mapped, the same page is a file: written with pwrite, read with pread.
 */
import type { Page, Runtime } from "../src/runtime/runtime.ts";
import { pagedLink } from "./paged_link.ts";
import { connectSocket, directoryOf, openSocket, pageIn } from "./socket.ts";
import type { Endpoint, Link, Transport } from "./transport.ts";

function unmappedNotice(runtime: Runtime): string {
  const cure = {
    node: "use Node 26, or install koffi",
    deno: "run Deno with --allow-ffi",
    bun: "see the table of limits in the docs",
  }[runtime.name];
  return `${runtime.name} cannot map memory here, so heartbeats go through a file (about 1 µs each): ${cure}`;
}

/** Heartbeats go to the page, and to the page alone; confirmations, which are few, go the way of frames. */
function sharedLink(link: Link, page: Page, runtime: Runtime): Link {
  return {
    ...pagedLink(link, page),
    heartbeat: page.add,
    confirm: link.heartbeat,
    ...(!page.mapped && { notice: unmappedNotice(runtime) }),
  };
}

/** Heartbeats in shared memory, frames over a Unix socket. */
export const shm: Transport = {
  name: "shm",
  sampled: true,
  async open(runtime): Promise<Endpoint> {
    const directory = await runtime.makePrivateDirectory(true);
    let page: Page | undefined;
    let linked = false;
    const socket = await openSocket(runtime, directory, (link) => {
      linked = true;
      return sharedLink(link, page!, runtime);
    });
    try {
      page = await runtime.openPage(pageIn(directory), { create: true, map: true });
    } catch (error) {
      socket.close();
      throw error;
    }
    return {
      address: socket.address,
      accept: (_child, onLink) => socket.accept(onLink),
      close() {
        socket.close();
        if (!linked) page.close();
      },
    };
  },
  async connect(address, runtime) {
    const page = await runtime.openPage(pageIn(directoryOf(address)), { create: false, map: true });
    try {
      return sharedLink(await connectSocket(runtime, address), page, runtime);
    } catch (error) {
      page.close();
      throw error;
    }
  },
};
