// A bare runtime that writes bytes to an open file. data.store() does the same over `unix` and `shm`.
import { mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { say, settings } from "../support/say.ts";

interface DenoFile {
  seekSync(offset: number, whence: number): number;
  writeSync(bytes: Uint8Array): number;
}
const { Deno } = globalThis as unknown as {
  Deno?: { openSync(path: string, options: object): DenoFile };
};

const { parent, size, count } = settings;
const directory = mkdtempSync(join(parent, "bench-"));
const bytes = new Uint8Array(size).fill(7);
const samples: number[] = [];
try {
  const write = writer(join(directory, "file"));
  for (let round = -3; round < count; round++) {
    const before = performance.now();
    for (let done = 0; done < size;) done += write(done);
    if (round >= 0) samples.push(1000 * (performance.now() - before));
  }
} finally {
  rmSync(directory, { recursive: true });
}
say("samples", { samples });

/** Returns a function that writes the bytes from a position on, in the same way as the adapter for the runtime. */
function writer(path: string): (from: number) => number {
  if (Deno) {
    const file = Deno.openSync(path, { write: true, create: true });
    return (from) => {
      file.seekSync(from, 0);
      return file.writeSync(bytes.subarray(from));
    };
  }
  const descriptor = openSync(path, "w");
  return (from) => writeSync(descriptor, bytes, from, size - from, from);
}
