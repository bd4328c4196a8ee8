/**
 * The shared-memory transport. A heartbeat is one atomic add in a page that the active process has mapped. The server
 * reads the page about 16 times in a time interval, with pread(2); a heartbeat does not wake it. Data and notes lie in
 * the same file. Control frames, event-loop heartbeats and the end of the process come over a Unix socket. If the
 * runtime cannot map memory, the active process writes the page with pwrite(2).
 */
import { mapPage, type Mapping } from "../src/ffi/mapped_page.ts";
import { runtimeName } from "../src/runtime/load.ts";
import { connectSocket, fileIn, ownDirectoryOf } from "./private_socket.ts";
import {
  activeLinkWithFile,
  dataAt,
  noteWriter,
  readLastNote,
  serverLinkWithFile,
  type SharedFile,
  sharedFile,
} from "./shared_file.ts";
import type { Endpoint, Link, Transport, TransportRuntime } from "./transport.ts";

function unmappedNotice(): string {
  const name = runtimeName();
  const remedy = {
    node: "use Node 26, or install koffi",
    deno: "run Deno with --allow-ffi",
    bun: "see https://github.com/x/sam/blob/main/docs/runtimes.md",
  }[name];
  return `${name} cannot map memory here, so each heartbeat is a write to a file (about a microsecond): ${remedy}`;
}

/**
 * Creates the shared file. The server reads the file but never maps it: if a program truncated a mapped file, the
 * server would die of SIGBUS. Reading is cheap enough, at 16 reads in a time interval.
 */
async function makeShared(runtime: TransportRuntime, directory: string): Promise<SharedFile> {
  const file = await runtime.openFile(fileIn(directory), true);
  try {
    // Allocates the page now: without memory behind it, a heartbeat would end the program with SIGBUS.
    file.write(new Uint8Array(dataAt), 0);
    return sharedFile(file);
  } catch (error) {
    file.close();
    throw error;
  }
}

function serverLink(link: Link, shared: SharedFile, notice: string | undefined): Link {
  return {
    ...serverLinkWithFile(link, shared),
    lastNote: () => readLastNote(shared.file),
    ...(notice !== undefined && { notice }),
  };
}

/**
 * The active end: heartbeats go to the shared page only. Event-loop heartbeats go over the socket, which wakes the
 * server.
 */
function activeLink(link: Link, shared: SharedFile, isMapped: boolean): Link {
  return {
    ...activeLinkWithFile(link, shared),
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
  nonce?: Uint8Array,
): Promise<Endpoint> {
  const { openSocket, openWorkerSocket, remakeDirectory } = await import("./private_listener.ts");
  let shared: SharedFile | undefined;
  let linked = false;
  const socket = await openSocket(runtime, directory, (link) => {
    linked = true;
    return serverLink(link, shared!, notice);
  }, nonce);
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
    openWorker: (key) => openWorkerSocket(runtime, directory, key),
    async reopen() {
      await remakeDirectory(runtime, directory);
      return await openIn(runtime, directory, notice, socket.nonce);
    },
  };
}

/** Creates the transport. `map` is `mapPage`; tests pass a function that cannot map. */
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
        // Shared memory may be full or missing, especially in a container. An ordinary file works too.
        const other = await makePrivateDirectory(runtime, false);
        const reason = error instanceof Error ? error.message : String(error);
        return await openIn(
          runtime,
          other,
          `cannot use shared memory (${reason}): ${other} is used instead`,
        );
      }
    },
    async connect(address, runtime) {
      const path = fileIn(ownDirectoryOf(runtime, address));
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

/** The shared-memory transport: heartbeats and data in shared memory, frames over a Unix socket. */
export const shm: Transport = sharedMemory("shm", mapPage);
