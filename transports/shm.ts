/**
 * The shared-memory transport. A heartbeat is one atomic add in a page that the active process has mapped; the server reads
 * it from time to time, with pread, and is not woken by it. Data lie in the same file. Control frames, confirmations and the
 * end of the process come over a Unix socket. Where nothing can be mapped, the page is written with pwrite.
 */
import { pageBytes } from "../src/ffi/mapped_page.ts";
import type { Page, RandomFile, Runtime } from "../src/runtime/runtime.ts";
import { keeper } from "./keep.ts";
import { noted, noter } from "./noted.ts";
import { filePage, servedLink, type Shared, sharingLink } from "./paged_link.ts";
import { connectSocket, directoryOf, openSocket, pageIn } from "./private_socket.ts";
import type { Endpoint, Link, Transport } from "./transport.ts";

function unmappedNotice(runtime: Runtime): string {
  const cure = {
    node: "use Node 26, or install koffi",
    deno: "run Deno with --allow-ffi",
    bun: "see the table of limits in the docs",
  }[runtime.name];
  return `${runtime.name} cannot map memory here, so heartbeats go through a file (about a microsecond each): ${cure}`;
}

/** What the active side has open, and perhaps mapped. */
interface Memory extends Shared {
  readonly mapped: boolean;
}

function sharedBy(file: RandomFile, page: Page): Shared {
  const close = () => {
    page.close();
    file.close();
  };
  return { page, file, close };
}

/**
 * Makes the file. The server reads it, and never maps it: a program that cuts it short would end a server that has it mapped
 * (SIGBUS), and a read every sixteenth of a time interval costs next to nothing.
 */
async function makeShared(runtime: Runtime, directory: string): Promise<Shared> {
  const file = await runtime.openFile(pageIn(directory), true);
  try {
    file.write(new Uint8Array(pageBytes), 0); // reserved: a mapped page must not lack its memory
    return sharedBy(file, filePage(file));
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Opens the file that the server has made, mapped where that can be. */
async function openMemory(runtime: Runtime, directory: string): Promise<Memory> {
  const file = await runtime.openFile(pageIn(directory), false);
  try {
    const page = await runtime.mapPage(pageIn(directory));
    return { ...sharedBy(file, page ?? filePage(file)), mapped: page !== undefined };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** The server's end. */
function serverLink(link: Link, shared: Shared, notice: string | undefined): Link {
  return {
    ...servedLink(link, shared),
    noted: () => noted(shared.file),
    ...(notice !== undefined && { notice }),
  };
}

/** The active end: heartbeats go to the page alone; confirmations, which are few, go the way of frames. */
function activeLink(link: Link, memory: Memory, runtime: Runtime): Link {
  return {
    ...sharingLink(link, memory),
    heartbeat: memory.page.add,
    confirm: link.heartbeat,
    keep: keeper(memory.file),
    note: noter(memory.file),
    ...(!memory.mapped && { notice: unmappedNotice(runtime) }),
  };
}

async function openIn(runtime: Runtime, directory: string, notice?: string): Promise<Endpoint> {
  let shared: Shared | undefined;
  let linked = false;
  const socket = await openSocket(runtime, directory, (link) => {
    linked = true;
    return serverLink(link, shared!, notice);
  });
  try {
    shared = await makeShared(runtime, directory);
  } catch (error) {
    socket.close();
    throw error;
  }
  return {
    address: socket.address,
    accept: (_child, onLink) => socket.accept(onLink),
    close() {
      socket.close();
      if (!linked) shared.close();
    },
  };
}

/** Heartbeats and data in shared memory, frames over a Unix socket. */
export const shm: Transport = {
  name: "shm",
  sampled: true,
  async open(runtime): Promise<Endpoint> {
    try {
      return await openIn(runtime, await runtime.makePrivateDirectory(true));
    } catch (error) {
      // Shared memory may be full or missing, in a container most of all; an ordinary file serves as well.
      const other = await runtime.makePrivateDirectory(false);
      const reason = error instanceof Error ? error.message : String(error);
      return await openIn(runtime, other, `shared memory cannot be used (${reason}): ${other} is`);
    }
  },
  async connect(address, runtime) {
    const memory = await openMemory(runtime, directoryOf(address));
    try {
      return activeLink(await connectSocket(runtime, address), memory, runtime);
    } catch (error) {
      memory.close();
      throw error;
    }
  },
};
