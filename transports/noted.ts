/** What a program notes before it does something, in a page that its server has open too. */
import { maxNoteBytes } from "../src/core/wire.ts";
import type { RandomFile } from "../src/runtime/runtime.ts";

/** Behind the counter of heartbeats and the record of the data. */
const noteAt = 128;
/** When (milliseconds since 1970), and how many bytes of text follow. */
const headBytes = 12;

/** A note, and when it was made, in milliseconds since 1970. */
export interface Noted {
  /** The text. */
  readonly text: string;
  /** When. */
  readonly at: number;
}

/** The active side: one write. */
export function noter(file: RandomFile): (text: string) => void {
  const bytes = new Uint8Array(headBytes + maxNoteBytes);
  const view = new DataView(bytes.buffer);
  const encoder = new TextEncoder();
  return (text) => {
    const { written } = encoder.encodeInto(text, bytes.subarray(headBytes));
    view.setFloat64(0, Date.now());
    view.setUint32(8, written);
    file.write(bytes.subarray(0, headBytes + written), noteAt);
  };
}

/** The server's side: the last note; undefined for none. */
export function noted(file: RandomFile): Noted | undefined {
  const bytes = new Uint8Array(headBytes + maxNoteBytes);
  if (file.read(bytes, noteAt) < headBytes) return undefined;
  const view = new DataView(bytes.buffer);
  const at = view.getFloat64(0);
  const length = view.getUint32(8);
  if (!(at > 0) || length > maxNoteBytes) return undefined;
  return { text: new TextDecoder().decode(bytes.subarray(headBytes, headBytes + length)), at };
}
