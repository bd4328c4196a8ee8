/** Shared memory for Node: `node:ffi` (Node 26), else the npm package `koffi` where the program has it, else none. */
import { fs, process } from "../runtime/node_api.ts";
import type { Page } from "../runtime/runtime.ts";
import { mappedPage, pageBytes } from "./mapped_page.ts";

interface Libc {
  /** Maps `pageBytes` of a file and returns the memory, or undefined. */
  map(descriptor: number): { memory: ArrayBuffer; unmap(): void } | undefined;
}

interface NodeFfi {
  dlopen(path: null, signatures: object): {
    functions: {
      mmap(
        at: bigint,
        size: bigint,
        protection: number,
        flags: number,
        fd: number,
        offset: bigint,
      ): bigint;
      munmap(at: bigint, size: bigint): number;
    };
  };
  toArrayBuffer(at: bigint, size: number, copy: boolean): ArrayBuffer;
}

interface Koffi {
  load(path: null): { func(signature: string): (...args: unknown[]) => unknown };
  view(pointer: unknown, size: number): ArrayBuffer;
  address(pointer: unknown): bigint;
}

const readWrite = 3;
const shared = 1;
const failed = 2n ** 64n - 1n;

function nodeFfi(): Libc | undefined {
  // The user chose shared memory, not the experiment: no warning about it in every instance.
  const warn = process.emitWarning;
  process.emitWarning = () => {};
  try {
    const ffi = process.getBuiltinModule("node:ffi") as NodeFfi | undefined;
    if (!ffi) return undefined;
    const { functions } = ffi.dlopen(null, {
      mmap: { arguments: ["pointer", "u64", "i32", "i32", "i32", "i64"], return: "pointer" },
      munmap: { arguments: ["pointer", "u64"], return: "i32" },
    });
    const size = BigInt(pageBytes);
    return {
      map(descriptor) {
        const at = functions.mmap(0n, size, readWrite, shared, descriptor, 0n);
        if (at === failed) return undefined;
        return {
          memory: ffi.toArrayBuffer(at, pageBytes, false),
          unmap: () => functions.munmap(at, size),
        };
      },
    };
  } catch {
    return undefined;
  } finally {
    process.emitWarning = warn;
  }
}

async function koffi(): Promise<Libc | undefined> {
  try {
    const name = "koffi"; // not a literal: an optional package must not be part of the module graph
    const { default: ffi } = await import(name) as { default: Koffi };
    const libc = ffi.load(null);
    const mmap = libc.func("void *mmap(void *, size_t, int, int, int, int64_t)");
    const munmap = libc.func("int munmap(void *, size_t)");
    return {
      map(descriptor) {
        const at = mmap(null, pageBytes, readWrite, shared, descriptor, 0);
        if (at === null || ffi.address(at) === failed) return undefined;
        return { memory: ffi.view(at, pageBytes), unmap: () => munmap(at, pageBytes) };
      },
    };
  } catch {
    return undefined;
  }
}

let libc: Promise<Libc | undefined> | undefined;

/** Maps the page at `path`; undefined where nothing can be mapped. */
export async function mapPage(path: string): Promise<Page | undefined> {
  if (process.platform !== "linux" && process.platform !== "darwin") return undefined;
  const found = await (libc ??= Promise.resolve(nodeFfi() ?? koffi()));
  if (!found) return undefined;
  const descriptor = fs().openSync(path, "r+");
  try {
    const mapped = found.map(descriptor);
    return mapped && mappedPage(mapped.memory, mapped.unmap);
  } finally {
    fs().closeSync(descriptor);
  }
}
