/**
 * The shared-memory transport. A heartbeat is one atomic add in a page that the active process has mapped; the server reads
 * it from time to time, with pread, and is not woken by it. Data lie in the same file. Control frames, confirmations and the
 * end of the process come over a Unix socket. Where nothing can be mapped, the page is written with pwrite.
 */
import { pageBytes } from "../src/ffi/mapped_page.ts";
import type { Runtime } from "../src/runtime/runtime.ts";
import { keeper } from "./keep.ts";
import { noted, noter } from "./noted.ts";
import { filePage, servedLink, type Shared, sharingLink } from "./paged_link.ts";
import { connectSocket, directoryOf, openSocket, pageIn } from "./socket.ts";
import type { Endpoint, Link, Transport } from "./transport.ts";

function unmappedNotice(runtime: Runtime): string {
  const cure = {
    node: "use Node 26, or install koffi",
    deno: "run Deno with --allow-ffi",
    bun: "see the table of limits in the docs",
  }[runtime.name];
  return `${runtime.name} cannot map memory here, so heartbeats go through a file (about a microsecond each): ${cure}`;
}

/** What both sides have open, and perhaps mapped. */
interface Memory extends Shared {
  readonly mapped: boolean;
}

async function openMemory(runtime: Runtime, path: string, create: boolean): Promise<Memory> {
  const file = await runtime.openFile(path, create);
  try {
    if (create) file.write(new Uint8Array(pageBytes), 0); // reserved: a mapped page must not lack its memory
    // The server reads it, and never maps it: a program that cut it short would end a server that has (SIGBUS).
    const mapped = create ? undefined : await runtime.mapPage(path);
    const page = mapped ?? filePage(file);
    const close = () => {
      page.close();
      file.close();
    };
    return { page, file, mapped: mapped !== undefined, close };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** The server's end. */
function serverLink(link: Link, memory: Shared): Link {
  return { ...servedLink(link, memory), noted: () => noted(memory.file) };
}

/** The active end: heartbeats go to the page alone; confirmations, which are few, go the way of frames. */
function activeLink(link: Link, memory: Memory, runtime: Runtime): Link {
  return {
    ...sharingLink(link, memory),
    heartbeat: memory.page.add,
    confirm: link.heartbeat,
    keep: keeper(memory.file),
    note: noter(memory.file),
    ...noticeOf(memory, runtime),
  };
}

function noticeOf({ mapped }: Memory, runtime: Runtime): Pick<Link, "notice"> {
  return mapped ? {} : { notice: unmappedNotice(runtime) };
}

/** Heartbeats and data in shared memory, frames over a Unix socket. */
export const shm: Transport = {
  name: "shm",
  sampled: true,
  async open(runtime): Promise<Endpoint> {
    const directory = await runtime.makePrivateDirectory(true);
    let memory: Memory | undefined;
    let linked = false;
    const socket = await openSocket(runtime, directory, (link) => {
      linked = true;
      return serverLink(link, memory!);
    });
    try {
      memory = await openMemory(runtime, pageIn(directory), true);
    } catch (error) {
      socket.close();
      throw error;
    }
    return {
      address: socket.address,
      accept: (_child, onLink) => socket.accept(onLink),
      close() {
        socket.close();
        if (!linked) memory.close();
      },
    };
  },
  async connect(address, runtime) {
    const memory = await openMemory(runtime, pageIn(directoryOf(address)), false);
    try {
      return activeLink(await connectSocket(runtime, address), memory, runtime);
    } catch (error) {
      memory.close();
      throw error;
    }
  },
};
