/**
 * The shared-memory transport. A heartbeat is one atomic add in a page that the active process has mapped; the server reads
 * it from time to time, with pread, and is not woken by it. Data lie in the same file. Control frames, confirmations and the
 * end of the process come over a Unix socket. Where nothing can be mapped, the page is written with pwrite.
 */
import { mapPage, type Mapping } from "../src/ffi/mapped_page.ts";
import { runtimeName } from "../src/runtime/load.ts";
import { connectSocket, directoryOf, fileIn } from "./private_socket.ts";
import {
  dataAt,
  noteWriter,
  readLastNote,
  servedLink,
  type SharedFile,
  sharedFile,
  sharingLink,
} from "./shared_file.ts";
import type { Endpoint, Link, Transport, TransportRuntime } from "./transport.ts";

function unmappedNotice(): string {
  const name = runtimeName();
  const cure = {
    node: "use Node 26, or install koffi",
    deno: "run Deno with --allow-ffi",
    bun: "see the table of limits in the docs",
  }[name];
  return `${name} cannot map memory here, so heartbeats go through a file (about a microsecond each): ${cure}`;
}

/**
 * Makes the file. The server reads it, and never maps it: a program that cuts it short would end a server that has it mapped
 * (SIGBUS), and a read every sixteenth of a time interval costs next to nothing.
 */
async function makeShared(runtime: TransportRuntime, directory: string): Promise<SharedFile> {
  const file = await runtime.openFile(fileIn(directory), true);
  try {
    file.write(new Uint8Array(dataAt), 0); // reserved: a mapped page must not lack its memory
    return sharedFile(file);
  } catch (error) {
    file.close();
    throw error;
  }
}

/** The server's end. */
function serverLink(link: Link, shared: SharedFile, notice: string | undefined): Link {
  return {
    ...servedLink(link, shared),
    lastNote: () => readLastNote(shared.file),
    ...(notice !== undefined && { notice }),
  };
}

/** The active end: heartbeats go to the file alone; confirmations, which are few, go the way of frames. */
function activeLink(link: Link, shared: SharedFile, isMapped: boolean): Link {
  return {
    ...sharingLink(link, shared),
    heartbeat: shared.counter.add,
    confirm: link.heartbeat,
    note: noteWriter(shared.file),
    ...(!isMapped && { notice: unmappedNotice() }),
  };
}

async function openIn(
  runtime: TransportRuntime,
  directory: string,
  notice?: string,
): Promise<Endpoint> {
  const { openSocket } = await import("./private_listener.ts");
  let shared: SharedFile | undefined;
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

/** Makes the transport; `map` is `mapPage`, or in tests what stands for a system without it. */
export function sharedMemory(
  name: string,
  map: (path: string, size: number) => Promise<Mapping | undefined>,
): Transport {
  return {
    name,
    sampled: true,
    async open(runtime): Promise<Endpoint> {
      const { makePrivateDirectory } = await import("./private_directories.ts");
      try {
        return await openIn(runtime, await makePrivateDirectory(runtime, true));
      } catch (error) {
        // Shared memory may be full or missing, in a container most of all; an ordinary file serves as well.
        const other = await makePrivateDirectory(runtime, false);
        const reason = error instanceof Error ? error.message : String(error);
        return await openIn(
          runtime,
          other,
          `shared memory cannot be used (${reason}): ${other} is`,
        );
      }
    },
    async connect(address, runtime) {
      const path = fileIn(directoryOf(address));
      const file = await runtime.openFile(path, false);
      const mapping = await map(path, dataAt);
      const shared = sharedFile(file, mapping);
      try {
        return activeLink(await connectSocket(runtime, address), shared, mapping !== undefined);
      } catch (error) {
        shared.close();
        throw error;
      }
    },
  };
}

/** Heartbeats and data in shared memory, frames over a Unix socket. */
export const shm: Transport = sharedMemory("shm", mapPage);
