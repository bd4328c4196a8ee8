/** Streams over sockets of `Bun.connect` and `Bun.listen`. */
import type { Listener, Stream } from "./runtime.ts";

interface BunLike {
  listen(options: object): { stop(closeActive: boolean): void };
  connect(options: object): Promise<BunSocket>;
}
interface BunSocket {
  data: { stream: SocketStream };
  readonly fd: number;
  write(bytes: Uint8Array): number;
  end(): void;
  ref(): void;
  unref(): void;
}

const Bun = (globalThis as unknown as { Bun: BunLike }).Bun;

/** A stream over a Bun socket. Bytes that the kernel does not take at once wait here until the socket drains. */
class SocketStream implements Stream {
  readonly #socket: BunSocket;
  #waiting: Uint8Array[] = [];
  #early: Uint8Array[] = [];
  #ended: string | null = null;
  #onData: ((bytes: Uint8Array) => void) | null = null;
  #onEnd: ((detail: string) => void) | null = null;

  constructor(socket: BunSocket) {
    this.#socket = socket;
  }

  get unsent(): number {
    return this.#waiting.reduce((sum, { length }) => sum + length, 0);
  }

  get descriptor(): number {
    return this.#socket.fd;
  }

  write(bytes: Uint8Array): void {
    if (this.#ended !== null) return;
    if (this.#waiting.length > 0) {
      this.#waiting.push(bytes);
      return;
    }
    const written = Math.max(0, this.#socket.write(bytes));
    if (written < bytes.length) this.#waiting.push(bytes.slice(written));
  }

  offer(byte: Uint8Array): boolean {
    if (this.#ended !== null) return false;
    if (this.#waiting.length > 0) this.drain();
    return this.#waiting.length === 0 && this.#socket.write(byte) > 0;
  }

  read(onData: (bytes: Uint8Array) => void, onEnd: (detail: string) => void): void {
    this.#onData = onData;
    this.#onEnd = onEnd;
    for (const bytes of this.#early.splice(0)) onData(bytes);
    if (this.#ended !== null) onEnd(this.#ended);
  }

  hold(on: boolean): void {
    if (on) this.#socket.ref();
    else this.#socket.unref();
  }

  close(): void {
    this.end("this side closed the connection");
  }

  /** Sends the waiting bytes. Called when the kernel has room again. */
  drain(): void {
    const waiting = this.#waiting.splice(0);
    for (const bytes of waiting) this.write(bytes);
  }

  data(bytes: Uint8Array): void {
    if (this.#ended !== null) return;
    if (this.#onData) this.#onData(bytes);
    else this.#early.push(bytes.slice());
  }

  end(detail: string): void {
    if (this.#ended !== null) return;
    this.#ended = detail;
    this.#waiting = [];
    this.#socket.end();
    this.#onEnd?.(detail);
  }
}

const handlers = {
  data: (socket: BunSocket, bytes: Uint8Array) => socket.data.stream.data(bytes),
  drain: (socket: BunSocket) => socket.data.stream.drain(),
  end: (socket: BunSocket) => socket.data.stream.end("the other side closed the connection"),
  close: (socket: BunSocket) => socket.data.stream.end("the connection was closed"),
  error: (socket: BunSocket, error: Error) => socket.data.stream.end(error.message),
};

export function listen(path: string, onStream: (stream: Stream) => void): Listener {
  const listener = Bun.listen({
    unix: path,
    socket: {
      ...handlers,
      open(socket: BunSocket) {
        const stream = new SocketStream(socket);
        socket.data = { stream };
        onStream(stream);
      },
    },
  });
  return { close: () => listener.stop(false) };
}

/** Connects to an address, or opens an inherited file descriptor. */
export async function connectStream(where: object): Promise<Stream> {
  const socket = await Bun.connect({
    ...where,
    socket: {
      ...handlers,
      open(opened: BunSocket) {
        opened.data = { stream: new SocketStream(opened) };
      },
    },
  });
  return socket.data.stream;
}
