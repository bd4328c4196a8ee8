// Data in the shared file: complete at every moment, in a file of bounded size, and never more than the file holds.
import { assert, assertEquals } from "@std/assert";
import type { RandomFile } from "../../mod.ts";
import { dataWriter, readStoredData } from "../../transports/shared_file.ts";
import { test } from "../support/harness.ts";

/** A file in memory. After `crashAfter` writes, the next one writes only half its bytes and throws. */
class MemoryFile implements RandomFile {
  bytes = new Uint8Array(0);
  writes = 0;
  crashAfter = Infinity;

  read(into: Uint8Array, at: number): number {
    const found = this.bytes.subarray(at, at + into.length);
    into.set(found);
    return found.length;
  }

  write(bytes: Uint8Array, at: number): void {
    if (this.writes++ > this.crashAfter) throw new Error("dead");
    const crashes = this.writes > this.crashAfter;
    // A record is small enough for the system to write it in one piece or not at all.
    const written = !crashes
      ? bytes
      : bytes.length > 100
      ? bytes.subarray(0, bytes.length / 2)
      : [];
    const grown = new Uint8Array(Math.max(this.bytes.length, at + written.length));
    grown.set(this.bytes);
    grown.set(written, at);
    this.bytes = grown;
    if (crashes) throw new Error("killed");
  }

  close(): void {}
}

const filled = (size: number, value: number) => new Uint8Array(size).fill(value);

test("storeData: the last data can be read, whatever was stored before", () => {
  const file = new MemoryFile();
  assertEquals(readStoredData(file), undefined);
  const store = dataWriter(file);
  const sizes = [0, 1, 5000, 100, 100, 4999, 0, 3000, 5000, 5000, 1, 4000, 4000, 0];
  for (const [round, size] of [...sizes, ...sizes, ...sizes].entries()) {
    store(filled(size, round));
    assertEquals(readStoredData(file)?.size, size);
    assertEquals(readStoredData(file)?.read(), filled(size, round));
  }
  assert(file.bytes.length <= 4096 + 3 * 5000, `${file.bytes.length} bytes for 5,000`);
});

test("storeData: a process that is killed during a write leaves the data stored before", () => {
  for (let crashAfter = 0; crashAfter < 12; crashAfter++) {
    const file = new MemoryFile();
    const store = dataWriter(file);
    file.crashAfter = crashAfter;
    let whole = 0;
    try {
      for (let value = 1;; value++) {
        store(filled(1000, value));
        whole = value;
      }
    } catch {
      // the process was killed
    }
    assertEquals(whole, Math.floor(crashAfter / 2));
    assertEquals(readStoredData(file)?.read(), whole === 0 ? undefined : filled(1000, whole));
  }
});

test("storeData: an invalid record is ignored", () => {
  for (
    const record of [
      [1, 4096, 10],
      [1, 0, 10],
      [1, 4096, -1],
      [1, 4096.5, 1],
      [1, NaN, 1],
      [NaN, 4096, 0],
      [1, 4096, 2 ** 60],
      [1, Infinity, 1],
    ]
  ) {
    const file = new MemoryFile();
    file.write(new Uint8Array(new Float64Array(record).buffer), 64);
    const found = readStoredData(file);
    assert(found === undefined || found.size <= 10 && found.read() === undefined, String(record));
  }
});
