/** A `Stream` over a socket of `node:net`: Node's everywhere, Deno's where a descriptor is inherited. */
import type { Stream } from "./runtime.ts";

/** The part of `net.Socket` that is used here. */
export interface SocketLike {
  readonly writableLength: number;
  /** Node's own; it has no other name for the descriptor. */
  readonly _handle?: { readonly fd?: number } | null;
  write(bytes: Uint8Array): boolean;
  // deno-lint-ignore no-explicit-any
  on(event: string, listener: (argument: any) => void): unknown;
  ref(): unknown;
  unref(): unknown;
  destroy(): unknown;
}

/**
 * Makes a stream of a socket. With `direct`, `writableLength` tells whether a write went to the kernel; without, it
 * cannot be asked in a loop that never yields (Deno), and every write is taken to go there at once.
 */
export function socketStream(socket: SocketLike, direct = true): Stream {
  let ended: string | null = null;
  let onEnd: (detail: string) => void = () => {};
  const end = (detail: string) => {
    if (ended !== null) return;
    ended = detail;
    socket.destroy();
    onEnd(detail);
  };
  socket.on("error", (error: Error) => end(error.message));
  socket.on("end", () => end("the peer closed it"));
  socket.on("close", () => end("closed"));
  return {
    get idle() {
      return ended === null && (!direct || socket.writableLength === 0);
    },
    get unsent() {
      return ended === null ? socket.writableLength : 0;
    },
    get descriptor() {
      return socket._handle?.fd ?? -1;
    },
    write(bytes) {
      if (ended === null) socket.write(bytes);
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
      end("closed");
    },
  };
}
