/** A page in mapped memory: a heartbeat is one atomic add. */
import type { Page } from "../runtime/runtime.ts";

/** The size of a page. */
export const pageBytes = 4096;

/** Makes a page of mapped memory; after `close()` its methods touch the memory no more. */
export function mappedPage(memory: ArrayBuffer, unmap: () => void): Page {
  let counter = new Uint32Array(memory, 0, 1);
  let open = true;
  return {
    add() {
      Atomics.add(counter, 0, 1);
    },
    read() {
      return Atomics.load(counter, 0);
    },
    close() {
      if (!open) return;
      open = false;
      counter = new Uint32Array(1);
      unmap();
    },
  };
}
