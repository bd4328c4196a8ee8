/**
 * The shared file that a server and its active process both have open beside their link. The active process writes,
 * the server reads. The contents outlive the process that wrote them.
 *
 * | offset | contents                                                                                                |
 * | ------ | ------------------------------------------------------------------------------------------------------- |
 * | 0      | heartbeat count: 32 bits that wrap, in the byte order of the machine                                    |
 * | 64     | data record: increasing version, offset of the data, size of the data; three 64-bit floats              |
 * | 128    | note: timestamp (64-bit float, milliseconds since 1970), length of the text (32 bits), text             |
 * | 4096   | data; "shm" maps only the page before it                                                                |
 */
import { maxNoteBytes } from "../src/core/wire.ts";
import type { Mapping } from "../src/ffi/mapped_page.ts";
import type { RandomFile } from "../src/runtime/runtime.ts";
import { withEndHook } from "./stream_link.ts";
import type { Link, StoredData, TimedNote } from "./transport.ts";

const countAt = 0;
const recordAt = 64;
const noteAt = 128;
/** Offset of the data, and so the size of the part before it. */
export const dataAt = 4096;

/** Number of floats in the data record. */
const recordLength = 3;
/** Bytes before the text of a note: timestamp and length. */
const noteHeadBytes = 12;

/** The heartbeat count in a shared file. */
interface Counter {
  add(): void;
  /** Returns the count, which wraps at 2^32. */
  read(): number;
  /** Unmaps the memory of the count, if it is mapped. */
  close(): void;
}

/** An open shared file. */
export interface SharedFile {
  readonly file: RandomFile;
  readonly counter: Counter;
  /** Closes the file, and unmaps its first page if that is mapped. */
  close(): void;
}

/** Wraps an open file, and its first page if that is mapped. */
export function sharedFile(file: RandomFile, mapping?: Mapping): SharedFile {
  const counter = mapping ? mappedCounter(mapping) : fileCounter(file);
  return {
    file,
    counter,
    close() {
      counter.close();
      file.close();
    },
  };
}

/**
 * A counter in mapped memory: a heartbeat is one atomic add. After `close()`, `add()` no longer touches that memory.
 */
function mappedCounter({ memory, unmap }: Mapping): Counter {
  let count = new Uint32Array(memory, countAt, 1);
  let isOpen = true;
  return {
    add() {
      Atomics.add(count, 0, 1);
    },
    read: () => Atomics.load(count, 0),
    close() {
      if (!isOpen) return;
      isOpen = false;
      count = new Uint32Array(1);
      unmap();
    },
  };
}

/** A counter in a file that is not mapped: a heartbeat is one write. */
function fileCounter(file: RandomFile): Counter {
  const count = new Uint32Array(1);
  const bytes = new Uint8Array(count.buffer);
  return {
    add() {
      count[0]!++;
      file.write(bytes, countAt);
    },
    read() {
      file.read(bytes, countAt);
      return count[0]!;
    },
    close() {},
  };
}

/**
 * Returns the active side's `Link.storeData()`. It first writes the data to a place where it does not overwrite the
 * valid data, then the record in one write. So the file holds complete data at every moment, also when a write fails
 * for lack of room.
 */
export function dataWriter(file: RandomFile): (bytes: Uint8Array) => void {
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

/**
 * Reads the data that was stored last, on the server's side. Undefined if there is none, or if the record is invalid.
 */
export function readStoredData(file: RandomFile): StoredData | undefined {
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

/** Returns the active side's `Link.note()`, which stores a note with a single write. */
export function noteWriter(file: RandomFile): (text: string) => void {
  const bytes = new Uint8Array(noteHeadBytes + maxNoteBytes);
  const view = new DataView(bytes.buffer);
  const encoder = new TextEncoder();
  return (text) => {
    const { written } = encoder.encodeInto(text, bytes.subarray(noteHeadBytes));
    view.setFloat64(0, Date.now());
    view.setUint32(8, written);
    file.write(bytes.subarray(0, noteHeadBytes + written), noteAt);
  };
}

/** Reads the last note, on the server's side. Undefined if there is none, or if it is invalid. */
export function readLastNote(file: RandomFile): TimedNote | undefined {
  const bytes = new Uint8Array(noteHeadBytes + maxNoteBytes);
  if (file.read(bytes, noteAt) < noteHeadBytes) return undefined;
  const view = new DataView(bytes.buffer);
  const at = view.getFloat64(0);
  const length = view.getUint32(8);
  if (!(at > 0) || length > maxNoteBytes) return undefined;
  const text = bytes.subarray(noteHeadBytes, noteHeadBytes + length);
  return { text: new TextDecoder().decode(text), at };
}

/**
 * Adds a shared file to the server's end of a link. If the active process ends the link, the file stays open until the
 * receiver has handled that. `close()` closes the file at once, so read the stored data first.
 */
export function serverLinkWithFile(link: Link, { file, counter, close }: SharedFile): Link {
  return {
    ...link,
    receive(sink) {
      link.receive(
        sink && {
          ...sink,
          end(detail) {
            try {
              sink.end(detail);
            } finally {
              close();
            }
          },
        },
      );
    },
    sample: counter.read,
    storedData: () => readStoredData(file),
    close() {
      close();
      link.close();
    },
  };
}

/** Adds a shared file to the active end of a link. The file is closed when the link ends. */
export function activeLinkWithFile(link: Link, { file, close }: SharedFile): Link {
  return {
    ...withEndHook(link, close),
    storeData: dataWriter(file),
    close() {
      close();
      link.close();
    },
  };
}
