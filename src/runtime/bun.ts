/** The adapter for Bun: `Bun.spawn`, `Bun.listen`, `Bun.connect`; of Node's modules only `node:fs`, on the server's side. */
import type { Signal } from "../core/signals.ts";
import { environment, nodeApi, ownCommand, stdinIsTerminal } from "./node_api.ts";
import type { Child, Command, Exit, Runtime, Stream } from "./runtime.ts";
import { spawnError } from "./spawn_error.ts";
import { webOutput } from "./web_output.ts";

// The parts of the global `Bun` that are used here, so that the library needs no type package.
interface BunLike {
  readonly isMainThread: boolean;
  spawn(command: string[], options: object): {
    readonly pid: number;
    readonly exited: Promise<number>;
    readonly exitCode: number | null;
    /** A number for a real-time signal, whatever the documentation says. */
    readonly signalCode: Signal | number | null;
    readonly stdio: readonly (number | null)[];
    readonly stdout: ReadableStream<Uint8Array>;
    readonly stderr: ReadableStream<Uint8Array>;
    kill(signal: Signal): void;
    unref(): void;
  };
  listen(options: object): { stop(closeActive: boolean): void };
  connect(options: object): Promise<BunSocket>;
  sleep(ms: number): Promise<void>;
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

/** As it is now: the program may put a fake in its place. */
const now = performance.now.bind(performance);

/** A flag for the debugger, with a port that is free: this process cannot give up its own, and without one Bun does not start. */
function withFreePort(flag: string): string {
  const [, name, host = "localhost"] =
    /^(--inspect(?:-brk|-wait)?)(?:=(?:(.*):)?[^:]*)?$/.exec(flag) ?? [];
  return name === undefined ? flag : `${name}=${host}:0`;
}

/** The adapter for Bun. */
export const bun: Runtime = {
  ...nodeApi,
  name: "bun",
  isMainThread: Bun.isMainThread,
  get stdinIsTerminal() {
    return stdinIsTerminal();
  },

  now,
  // Immediates run before the sockets are asked (measured: 300 of 300 arrivals missed), this after (0 of 300).
  settle: () => Bun.sleep(0),

  spawn,
  // deno-lint-ignore require-await
  async self() {
    const own = ownCommand("bun");
    return { ...own, flags: own.flags.map(withFreePort) };
  },

  listen(path, onStream) {
    return Promise.resolve().then(() => {
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
    });
  },
  connect: (path) => connectStream({ unix: path }),
  connectPort: (port) => connectStream({ hostname: "127.0.0.1", port }),
  inherited: (descriptor) => connectStream({ fd: descriptor }),

  stackAccess: () => "none: Bun has no way to look into a loop that is blocked",
};

async function spawn(
  command: Command,
  link?: (descriptor: number) => Readonly<Record<string, string>>,
): Promise<Child> {
  const descriptor = 3;
  let child: ReturnType<BunLike["spawn"]>;
  try {
    const words = [
      command.file,
      ...command.flags,
      ...(command.module ? [command.module] : []),
      ...command.args,
    ];
    child = Bun.spawn(words, {
      ...(command.cwd !== undefined && { cwd: command.cwd }),
      env: environment({ ...command.env, ...link?.(descriptor) }),
      stdio: [
        ...command.stdio.map((stdio) => stdio === "tee" ? "pipe" : stdio),
        ...(link ? ["pipe"] : []),
      ],
      detached: command.ownGroup === true,
    });
  } catch (error) {
    throw spawnError(command, error);
  }
  const exited = child.exited.then((): Exit => {
    const { exitCode, signalCode } = child;
    if (!signalCode) return { code: exitCode, signal: null };
    return { code: null, signal: typeof signalCode === "number" ? `SIG${signalCode}` : signalCode };
  });
  const connected = link && connectStream({ fd: child.stdio[descriptor] }).catch((error) => {
    child.kill("SIGKILL"); // it cannot be talked to
    throw spawnError(command, error);
  });
  return {
    pid: child.pid,
    exited,
    stream: connected ? await connected : null,
    outputs: [
      ...(command.stdio[1] === "tee" ? [webOutput(1, child.stdout)] : []),
      ...(command.stdio[2] === "tee" ? [webOutput(2, child.stderr)] : []),
    ],
    kill(signal) {
      if (child.exitCode === null && child.signalCode === null) nodeApi.kill(child.pid, signal);
    },
    release: () => child.unref(),
  };
}

/** A stream over a socket; what the kernel does not take at once waits here until it drains. */
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
    this.end("closed");
  }

  /** The kernel has room again. */
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
  end: (socket: BunSocket) => socket.data.stream.end("the peer closed it"),
  close: (socket: BunSocket) => socket.data.stream.end("closed"),
  error: (socket: BunSocket, error: Error) => socket.data.stream.end(error.message),
};

async function connectStream(where: object): Promise<Stream> {
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
