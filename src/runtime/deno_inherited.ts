/**
 * A stream over a file descriptor that a Deno program has inherited. Deno itself cannot open one, so this uses a socket
 * of `node:net`. With `--allow-ffi`, two C functions do what neither Deno nor `node:net` can: set close-on-exec, and
 * write in a loop that never yields.
 */
import { socketStream } from "./node_stream.ts";
import type { Stream } from "./runtime.ts";

interface DenoLike {
  readonly build: { readonly os: string };
  readonly permissions: { querySync(what: { name: "ffi" }): { readonly state: string } };
  dlopen(path: string, symbols: object): {
    symbols: {
      fcntl(descriptor: number, command: number, value: number): number;
      send(descriptor: number, bytes: Uint8Array, size: number, flags: number): number;
    };
  };
}

const setDescriptorFlags = 2;
const closeOnExec = 1;
/** `MSG_DONTWAIT | MSG_NOSIGNAL` */
const sendFlags = 0x4040;

/** Opens the C functions; undefined without `--allow-ffi`, and outside Linux. */
function openLibrary(): ReturnType<DenoLike["dlopen"]>["symbols"] | undefined {
  const { Deno } = globalThis as unknown as { Deno: DenoLike };
  if (
    Deno.build.os !== "linux" || Deno.permissions.querySync({ name: "ffi" }).state !== "granted"
  ) return undefined;
  try {
    return Deno.dlopen("libc.so.6", {
      fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
      send: { parameters: ["i32", "buffer", "usize", "i32"], result: "i32" },
    }).symbols;
  } catch {
    return undefined;
  }
}

/**
 * Opens a stream on a file descriptor. `later` calls back after a short delay, for a retry when the kernel's buffer was
 * full.
 */
export async function inherited(
  descriptor: number,
  later: (callback: () => void) => void,
): Promise<Stream> {
  const library = openLibrary();
  library?.fcntl(descriptor, setDescriptorFlags, closeOnExec); // so that child processes do not inherit the link
  const { Socket } = await import("node:net");
  const socket = new Socket({ fd: descriptor, readable: true, writable: true });
  if (!library) return socketStream(socket);
  const { send } = library;
  const put = (descriptor: number, bytes: Uint8Array) =>
    Math.max(0, send(descriptor, bytes, bytes.length, sendFlags));
  return socketStream(socket, { put, later });
}
