/** Streams over sockets of `node:net`: on Node always, on Deno for an inherited file descriptor. */
import type { Stream } from "./runtime.ts";

/** The used part of `net.Socket`. */
interface SocketLike {
  readonly writableLength: number;
  /** Node's internal handle, the only access to the file descriptor. */
  readonly _handle?: { readonly fd?: number } | null;
  write(bytes: Uint8Array): boolean;
  // deno-lint-ignore no-explicit-any
  on(event: string, listener: (argument: any) => void): unknown;
  ref(): unknown;
  unref(): unknown;
  destroy(): unknown;
}

/**
 * Writes that bypass the socket's own queue. That queue is sent only when the event loop turns, so in a loop that never
 * yields, bytes would stay there.
 */
export interface DirectWrites {
  /**
   * Writes without blocking. Returns the number of bytes written; 0 on any failure, because reading reports the end.
   */
  put(descriptor: number, bytes: Uint8Array): number;
  /** Calls back after a short delay, for a retry when the kernel's buffer was full. */
  later(callback: () => void): void;
}

/**
 * Makes a stream of a socket. With `direct`, bytes that the kernel does not take at once wait here instead of in the
 * socket.
 */
export function socketStream(socket: SocketLike, direct?: DirectWrites): Stream {
  let ended: string | null = null;
  let waiting: Uint8Array[] = [];
  let retrying = false;
  const put = (bytes: Uint8Array) => direct!.put(socket._handle?.fd ?? -1, bytes);
  /** Writes the waiting bytes. Returns true if none are left. */
  const flush = () => {
    while (waiting.length > 0) {
      const [first] = waiting as [Uint8Array];
      const taken = put(first);
      if (taken < first.length) {
        waiting[0] = first.subarray(taken);
        return false;
      }
      waiting.shift();
    }
    return true;
  };
  const retry = () => {
    retrying = !flush();
    if (retrying) direct!.later(retry);
  };
  let onEnd: (detail: string) => void = () => {};
  const end = (detail: string) => {
    if (ended !== null) return;
    ended = detail;
    waiting = [];
    socket.destroy();
    onEnd(detail);
  };
  socket.on("error", (error: Error) => end(error.message));
  socket.on("end", () => end("the other side closed the connection"));
  socket.on("close", () => end("the connection was closed"));
  return {
    get unsent() {
      return waiting.reduce((sum, { length }) => sum + length, ended ? 0 : socket.writableLength);
    },
    get descriptor() {
      return socket._handle?.fd ?? -1;
    },
    write(bytes) {
      if (ended !== null) return;
      if (!direct) return void socket.write(bytes);
      waiting.push(bytes);
      if (!retrying) retry();
    },
    offer(byte) {
      if (ended !== null) return false;
      if (direct) return flush() && put(byte) > 0;
      socket.write(byte);
      return true;
    },
    read(onData, whenEnded) {
      if (ended !== null) return whenEnded(ended);
      onEnd = whenEnded;
      socket.on("data", (bytes: Uint8Array) => {
        if (ended === null) onData(bytes);
      });
    },
    hold(on) {
      if (on) socket.ref();
      else socket.unref();
    },
    close() {
      end("this side closed the connection");
    },
  };
}
