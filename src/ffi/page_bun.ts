/** Shared memory for Bun: `Bun.mmap`, which needs no library; the memory goes back when it is collected. */
import type { Page } from "../runtime/runtime.ts";
import { mappedPage } from "./mapped_page.ts";

interface BunMemory {
  mmap(path: string, options: { shared: boolean }): Uint8Array<ArrayBuffer>;
}

/** Maps the page at `path`; undefined where nothing can be mapped. */
export function mapPage(path: string): Page | undefined {
  const { Bun } = globalThis as unknown as { Bun: BunMemory };
  let bytes: Uint8Array<ArrayBuffer> | undefined;
  try {
    bytes = Bun.mmap(path, { shared: true });
  } catch {
    return undefined;
  }
  return mappedPage(bytes.buffer, () => {
    bytes = undefined;
  });
}
