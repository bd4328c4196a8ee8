/**
 * A descriptor that a Deno program has inherited. Deno has no stream for it, so it is a socket of `node:net`; and where `--allow-ffi`
 * allows it, two calls of the C library do what neither can.
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
/** MSG_DONTWAIT and MSG_NOSIGNAL. */
const sendFlags = 0x4040;

/** The calls; undefined where they cannot be made. */
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

/** A stream over a descriptor. `later` calls back after a moment in which the kernel may have got room. */
export async function inherited(
  descriptor: number,
  later: (callback: () => void) => void,
): Promise<Stream> {
  const library = openLibrary();
  library?.fcntl(descriptor, setDescriptorFlags, closeOnExec); // programs that this one starts do not get it
  const { Socket } = await import("node:net");
  const socket = new Socket({ fd: descriptor, readable: true, writable: true });
  if (!library) return socketStream(socket);
  const { send } = library;
  const put = (descriptor: number, bytes: Uint8Array) =>
    Math.max(0, send(descriptor, bytes, bytes.length, sendFlags));
  return socketStream(socket, { put, later });
}
