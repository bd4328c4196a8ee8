/**
 * Data that the active process leaves with its server without a message: written to a file that both have open, then made
 * valid by a record of where it lies, written in one piece. What was valid before stays whole meanwhile.
 */
import type { RandomFile } from "../src/runtime/runtime.ts";

/** The record: a number that grows, where the data begins, how long it is. */
const recordAt = 64;
const recordLength = 3;
/** Before it is the page in which heartbeats are counted. */
const dataAt = 4096;

/** What lies in the file. */
export interface Kept {
  /** How many bytes, as the other side says: to be checked before `read`, which allocates them. */
  readonly size: number;
  /** The bytes; undefined where the file does not have what the record says. */
  read(): Uint8Array | undefined;
}

/** The active side: returns the function that keeps bytes. It throws where there is no room; then the last ones stay. */
export function keeper(file: RandomFile): (bytes: Uint8Array) => void {
  const record = new Float64Array(recordLength);
  const recordBytes = new Uint8Array(record.buffer);
  let [version, at, size] = [0, dataAt, 0];
  return (bytes) => {
    const next = dataAt + bytes.length <= at ? dataAt : at + size;
    file.write(bytes, next);
    [version, at, size] = [version + 1, next, bytes.length];
    record.set([version, at, size]);
    file.write(recordBytes, recordAt);
  };
}

/** The server's side: what was kept last; undefined for nothing. */
export function kept(file: RandomFile): Kept | undefined {
  const record = new Float64Array(recordLength);
  const recordBytes = new Uint8Array(record.buffer);
  if (file.read(recordBytes, recordAt) !== recordBytes.length) return undefined;
  const [version, at, size] = record as unknown as [number, number, number];
  if (!(version > 0 && at >= dataAt && size >= 0)) return undefined;
  if (![at, size, at + size].every(Number.isSafeInteger)) return undefined;
  return {
    size,
    read() {
      const bytes = new Uint8Array(size);
      return file.read(bytes, at) === size ? bytes : undefined;
    },
  };
}
