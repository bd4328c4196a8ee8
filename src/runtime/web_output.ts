/** Reads a child process's output on Deno and Bun, which provide it as a web stream. */
import type { Output } from "./runtime.ts";

export function webOutput(descriptor: 1 | 2, stream: ReadableStream<Uint8Array>): Output {
  const reader = stream.getReader();
  return {
    descriptor,
    read: () => reader.read().then(({ done, value }) => done ? null : value, () => null),
    close: () => void reader.cancel().catch(() => {}),
  };
}
