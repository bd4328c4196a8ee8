/**
 * Node's writes to our own standard output and error, which never block and never leave a thread behind in a write: Node would
 * wait for that thread when it exits. Loaded by a server alone.
 */
import { fs, process, setTimeout, writeOutput as writeByThread } from "./node_api.ts";

/** Tries to write; returns how many bytes were taken, or the system's code of an error. */
type Put = (bytes: Uint8Array) => number | string;

const puts: Partial<Record<1 | 2, Put | null>> = {};
/** A full output is tried again at once, then ever more rarely, for the sake of those who share a socket with us. */
const maxRetryMs = 50;

/** Writes all of `bytes`; resolved when they have been taken, or nobody takes them. */
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
    } else if (result !== "EAGAIN") return; // nobody reads it any more
    else {
      // Not held: who waits for the reader says for how long.
      await new Promise((resolve) => void setTimeout(resolve, retryMs).unref());
      retryMs = Math.min(2 * retryMs, maxRetryMs);
    }
  }
}

/** Null for a file, which never blocks for long. */
function putOf(descriptor: 1 | 2): Put | null {
  const { constants, fstatSync, openSync } = fs();
  const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants;
  const stat = fstatSync(descriptor);
  if (!stat.isFIFO() && !stat.isCharacterDevice() && !stat.isSocket()) return null;
  try {
    // Opened once more, so that O_NONBLOCK is ours alone. A socket cannot be, nor another user's pipe.
    const own = openSync(`/proc/self/fd/${descriptor}`, O_WRONLY | O_NONBLOCK | O_NOCTTY);
    return (bytes) => putTo(own, bytes);
  } catch {
    return putNonBlocking(descriptor);
  }
}

/** Those who share a socket share O_NONBLOCK as well: it is set for the microseconds of a write. */
function putNonBlocking(descriptor: 1 | 2): Put | null {
  const { _handle: handle } = descriptor === 1 ? process.stdout : process.stderr;
  if (!handle?.setBlocking) return null;
  handle.setBlocking(true); // Node has just set it for good
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
