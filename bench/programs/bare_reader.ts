// A bare runtime that reads the first four bytes of many files periodically. A server does the same to find heartbeats in shared
// memory.
import { mkdtempSync, openSync, readSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { say, settings } from "../support/say.ts";

interface DenoFile {
  seekSync(offset: number, whence: number): number;
  readSync(into: Uint8Array): number | null;
}
const { Deno } = globalThis as unknown as { Deno?: { openSync(path: string): DenoFile } };

const { files, ms } = settings;
const directory = mkdtempSync("/dev/shm/bench-");
const bytes = new Uint8Array(4);
const readers: (() => void)[] = [];
try {
  for (let nth = 0; nth < files; nth++) {
    const path = join(directory, String(nth));
    writeFileSync(path, new Uint8Array(4096));
    readers.push(reader(path));
  }
} finally {
  rmSync(directory, { recursive: true });
}
setInterval(() => {
  for (const read of readers) read();
}, ms);
say("ready");

/** Returns a function that reads a file in the same way as the adapter for the runtime. */
function reader(path: string): () => void {
  if (Deno) {
    const file = Deno.openSync(path);
    return () => {
      file.seekSync(0, 0);
      file.readSync(bytes);
    };
  }
  const descriptor = openSync(path, "r");
  return () => void readSync(descriptor, bytes, 0, bytes.length, 0);
}
