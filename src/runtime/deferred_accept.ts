/**
 * Keeps a replacement from accepting connections before it takes over. The program does not notice: its servers listen on the
 * sockets of the SAM server as usual. Only on Node.
 */
import { checkConnections } from "./served_requests.ts";

/** A server of `node:net`, as far as it is used here. */
export interface DeferrableServer {
  _handle?: Handle | null;
  emit(event: string, ...args: unknown[]): boolean;
  address(): { readonly port: number };
  listen(...args: unknown[]): unknown;
  close(): void;
  once(event: "listening" | "close" | "error", listener: () => void): unknown;
}
/** Node's own handle of a socket. */
interface Handle {
  listen(backlog: number): number;
}
interface NetModule {
  createServer(options: object, listener: (connection: object) => void): DeferrableServer;
}

/** The longest delay of a timer. */
const longestMs = 2 ** 31 - 1;

/** The servers of a replacement that do not accept connections yet. */
export class DeferredAccept {
  #isOver = false;
  readonly #ends: (() => void)[] = [];

  /**
   * Calls `listen` so that the server accepts no connection before `end()`. Until then, it answers requests at a port of
   * 127.0.0.1, which `whenListening` gets: 0 if it accepts connections already.
   */
  listen(
    net: NetModule,
    server: DeferrableServer,
    listen: DeferrableServer["listen"],
    args: readonly unknown[],
    whenListening: (checkPort: number) => void,
  ): unknown {
    if (this.#isOver) {
      server.once("listening", () => whenListening(0));
      return listen.apply(server, [...args]);
    }
    this.#deferHandle(server);
    server.once("listening", () => {
      if (this.#isOver) return whenListening(0);
      // A handle that does not accept does not keep the process alive.
      const timer = setInterval(() => {}, longestMs);
      const checks = net.createServer(
        { allowHalfOpen: true },
        (connection) => {
          checkConnections.add(connection);
          server.emit("connection", connection);
        },
      );
      const end = () => {
        clearInterval(timer);
        checks.close();
      };
      this.#ends.push(end);
      server.once("close", end);
      checks.once("error", () => whenListening(0));
      checks.once("listening", () => whenListening(checks.address().port));
      listen.call(checks, 0, "127.0.0.1");
    });
    return listen.apply(server, [...args]);
  }

  /** Accepts connections from now on. */
  end(): void {
    this.#isOver = true;
    for (const end of this.#ends.splice(0)) end();
  }

  /** Keeps the next handle of a server from accepting connections. Node sets the handle, and then calls its `listen()`. */
  #deferHandle(server: DeferrableServer): void {
    const setHandle = (value: Handle | null) =>
      Object.defineProperty(server, "_handle", {
        value,
        configurable: true,
        enumerable: true,
        writable: true,
      });
    Object.defineProperty(server, "_handle", {
      configurable: true,
      enumerable: true,
      get: () => null,
      set: (handle: Handle | null) => {
        setHandle(handle);
        if (handle === null) return;
        const { listen } = handle;
        handle.listen = (backlog) => {
          handle.listen = listen;
          if (this.#isOver) return handle.listen(backlog);
          this.#ends.push(() => void handle.listen(backlog)); // fails without effect if the program has closed the handle
          return 0;
        };
      },
    });
  }
}
