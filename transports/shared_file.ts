/**
 * The file that a server and its active process both have open beside their link, and a link with such a file. The active process
 * writes, the server reads. Nothing in it is a message, and it outlives the process that wrote it.
 *
 * | from | what                                                                                                         |
 * | ---- | ------------------------------------------------------------------------------------------------------------ |
 * | 0    | the count of heartbeats: 32 bits that wrap, in the byte order of the machine                                 |
 * | 64   | the record of the data: a version that grows, where they begin, how long they are; three 64-bit floats       |
 * | 128  | the note: when it was made (64-bit float, milliseconds since 1970), its length (32 bits), its text           |
 * | 4096 | the data; before them is one page of memory, which "shm" maps                                                |
 */
import { maxNoteBytes } from "../src/core/wire.ts";
import type { Mapping } from "../src/ffi/mapped_page.ts";
import type { RandomFile } from "../src/runtime/runtime.ts";
import { atEnd } from "./stream_link.ts";
import type { Link, StoredData, TimedNote } from "./transport.ts";

const countAt = 0;
const recordAt = 64;
const noteAt = 128;
/** Where the data begin, and how long the part before them is. */
export const dataAt = 4096;

/** The numbers in the record. */
const recordLength = 3;
/** What stands before the text of a note. */
const noteHeadBytes = 12;

/** The count of heartbeats. */
interface Counter {
  /** Counts one heartbeat. */
  add(): void;
  /** The count; wraps at 2^32. */
  read(): number;
  /** Gives back the memory in which it lies, where it is mapped. */
  close(): void;
}

/** A shared file that is open. */
export interface SharedFile {
  readonly file: RandomFile;
  readonly counter: Counter;
  /** Gives the file, and memory that is mapped, back. */
  close(): void;
}

/** Makes one of a file, and of its first page where that is mapped. */
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

/** A heartbeat is one atomic add. After `close()` the memory is not touched any more. */
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

/** A heartbeat is one write. */
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
 * The active side: returns the function that keeps data. It writes them where they overwrite none that are valid, and then the
 * record, in one piece. It throws where there is no room; then the last data stay.
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

/** The server's side: the data that were kept last; undefined for none. */
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

/** The active side: returns the function that notes a text, by one write. */
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

/** The server's side: the last note; undefined for none. */
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

/** The server's end of a link with a file. The file is asked for its data when the link ends, and only then given back. */
export function servedLink(link: Link, { file, counter, close }: SharedFile): Link {
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

/** The active end of a link with a file, which is given back when the link ends. */
export function sharingLink(link: Link, { file, close }: SharedFile): Link {
  return {
    ...atEnd(link, close),
    storeData: dataWriter(file),
    close() {
      close();
      link.close();
    },
  };
}
