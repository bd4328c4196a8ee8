/**
 * Writes to this process's standard output and standard error on Node. They block neither the event loop nor a thread:
 * a thread that is blocked in a write would delay Node's exit. Only servers load this module.
 */
import { fs, process, setTimeout, writeOutput as writeByThread } from "./node_api.ts";

/** Tries to write. Returns the number of bytes written, or the system's error code. */
type Put = (bytes: Uint8Array) => number | string;

const puts: Partial<Record<1 | 2, Put | null>> = {};
/**
 * The longest delay between retries to a full output. The delay grows, to disturb other users of a shared socket less.
 */
const maxRetryMs = 50;

/** Writes all of `bytes`. Resolves when they are written, or when the output has no reader any more. */
export async function writeOutput(descriptor: 1 | 2, bytes: Uint8Array): Promise<void> {
  const put = puts[descriptor] === undefined
    ? puts[descriptor] = putOf(descriptor)
    : puts[descriptor];
  if (!put) return await writeByThread(descriptor, bytes);
  let retryMs = 1;
  for (let rest = bytes; rest.length > 0;) {
    const result = put(rest);
    if (typeof result === "number") {
      rest = rest.subarray(result);
      retryMs = 1;
    } else if (result !== "EAGAIN") return; // the output has no reader any more
    else {
      // Unreferenced, because the caller decides how long the process waits for a slow reader.
      await new Promise((resolve) => void setTimeout(resolve, retryMs).unref());
      retryMs = Math.min(2 * retryMs, maxRetryMs);
    }
  }
}

/** Returns the write function of an output; null for a file, where a write never blocks for long. */
function putOf(descriptor: 1 | 2): Put | null {
  const { constants, fstatSync, openSync } = fs();
  const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants;
  const stat = fstatSync(descriptor);
  if (!stat.isFIFO() && !stat.isCharacterDevice() && !stat.isSocket()) return null;
  try {
    // Opened again, so that O_NONBLOCK affects only this process. This fails for a socket, and for another user's pipe.
    const own = openSync(`/proc/self/fd/${descriptor}`, O_WRONLY | O_NONBLOCK | O_NOCTTY);
    return (bytes) => putTo(own, bytes);
  } catch {
    return putNonBlocking(descriptor);
  }
}

/** Writes to a shared socket. Its other users share O_NONBLOCK too, so it is set only during each write. */
function putNonBlocking(descriptor: 1 | 2): Put | null {
  const { _handle: handle } = descriptor === 1 ? process.stdout : process.stderr;
  if (!handle?.setBlocking) return null;
  handle.setBlocking(true); // undoes O_NONBLOCK, which Node set when it opened the stream
  return (bytes) => {
    handle.setBlocking!(false);
    try {
      return putTo(descriptor, bytes);
    } finally {
      handle.setBlocking!(true);
    }
  };
}

function putTo(descriptor: number, bytes: Uint8Array): number | string {
  try {
    return fs().writeSync(descriptor, bytes);
  } catch (error) {
    return (error as { code?: string }).code ?? "";
  }
}
