/** An output stream of a child as Deno and Bun give it: a web stream. */
import type { Output } from "./runtime.ts";

/** Reads a web stream. */
export function webOutput(descriptor: 1 | 2, stream: ReadableStream<Uint8Array>): Output {
  const reader = stream.getReader();
  return {
    descriptor,
    read: () => reader.read().then(({ done, value }) => done ? null : value, () => null),
    close: () => void reader.cancel().catch(() => {}),
  };
}
