/** The C library for Deno, where `--allow-ffi` allows it: shared memory, and descriptors that children do not inherit. */
import type { Page } from "../runtime/runtime.ts";
import { mappedPage, pageBytes } from "./mapped_page.ts";

interface DenoFfi {
  readonly build: { readonly os: string };
  readonly permissions: { querySync(what: { name: "ffi" }): { readonly state: string } };
  dlopen(path: string, symbols: object): {
    symbols: {
      open(path: Uint8Array, flags: number): number;
      close(descriptor: number): number;
      mmap(
        at: null,
        size: bigint,
        protection: number,
        flags: number,
        fd: number,
        offset: bigint,
      ): object | null;
      munmap(at: object, size: bigint): number;
      fcntl(descriptor: number, command: number, value: number): number;
      send(descriptor: number, bytes: Uint8Array, size: number, flags: number): number;
    };
  };
  readonly UnsafePointer: { value(pointer: object | null): bigint };
  readonly UnsafePointerView: { getArrayBuffer(pointer: object, size: number): ArrayBuffer };
}

const readWrite = 3;
const shared = 1;
const openReadWrite = 2;
const openCloseOnExec = 0o2000000;
const setDescriptorFlags = 2;
const closeOnExecFlag = 1;
/** MSG_DONTWAIT and MSG_NOSIGNAL. */
const sendFlags = 0x4040;

let libc: ReturnType<DenoFfi["dlopen"]>["symbols"] | undefined;

function load(): typeof libc {
  const { Deno } = globalThis as unknown as { Deno: DenoFfi };
  if (
    Deno.build.os !== "linux" || Deno.permissions.querySync({ name: "ffi" }).state !== "granted"
  ) return undefined;
  try {
    return libc ??= Deno.dlopen("libc.so.6", {
      open: { parameters: ["buffer", "i32"], result: "i32" },
      close: { parameters: ["i32"], result: "i32" },
      mmap: { parameters: ["pointer", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
      munmap: { parameters: ["pointer", "usize"], result: "i32" },
      fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
      send: { parameters: ["i32", "buffer", "usize", "i32"], result: "i32" },
    }).symbols;
  } catch {
    return undefined;
  }
}

/** Keeps a descriptor from the programs that this one starts, where that can be done. */
export function closeOnExec(descriptor: number): void {
  load()?.fcntl(descriptor, setDescriptorFlags, closeOnExecFlag);
}

/** Writes to a socket without blocking, and returns how many bytes the kernel took; undefined where that cannot be done. */
export function sender(): ((descriptor: number, bytes: Uint8Array) => number) | undefined {
  const send = load()?.send;
  return send &&
    ((descriptor, bytes) => Math.max(0, send(descriptor, bytes, bytes.length, sendFlags)));
}

/** Maps the page at `path`; undefined where nothing can be mapped. */
export function mapPage(path: string): Page | undefined {
  const { Deno } = globalThis as unknown as { Deno: DenoFfi };
  const libc = load();
  if (!libc) return undefined;
  const { open, close, mmap, munmap } = libc;
  const descriptor = open(new TextEncoder().encode(`${path}\0`), openReadWrite | openCloseOnExec);
  if (descriptor < 0) return undefined;
  const at = mmap(null, BigInt(pageBytes), readWrite, shared, descriptor, 0n);
  close(descriptor);
  if (at === null || Deno.UnsafePointer.value(at) === 2n ** 64n - 1n) return undefined;
  return mappedPage(
    Deno.UnsafePointerView.getArrayBuffer(at, pageBytes),
    () => munmap(at, BigInt(pageBytes)),
  );
}
