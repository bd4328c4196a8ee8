/** Opens connections to Corosync. One loop in one thread serves all connections of a process. */
import { SamError } from "../../errors.ts";
import type { Thread } from "../../ffi/blocking_thread.ts";
import { startThread } from "../../ffi/start_blocking_thread.ts";
import { loadRuntime } from "../../runtime/load.ts";
import type { Clock } from "../../runtime/runtime.ts";
import type { LoopCommand, LoopMessage, PostedError, ServiceName } from "./loop.ts";

/** The callbacks of a connection. */
export interface ConnectionSink {
  /** The daemon answers, for the first time or again. It has forgotten everything that was set before. */
  up?(): void;
  /** The daemon does not answer. SAM tries again, and `up` follows. */
  away?(error: SamError): void;
  /** An event of the service. */
  event?(event: unknown): void;
}

/** A connection to one service of the daemon. It is opened again whenever the daemon comes back. */
export interface Connection {
  /** Settles after the first attempt to connect. Rejects if waiting would not help (ACCESS, LIBRARY, NOT_SUPPORTED). */
  readonly tried: Promise<void>;
  /**
   * Sends a request to the service. Rejects with TRY_AGAIN while the daemon is away, and stays pending while the daemon
   * does not answer. With `hold` (the default) a pending request keeps the event loop alive.
   */
  request(name: string, argument?: unknown, hold?: boolean): Promise<unknown>;
  /** With `on`, keeps the event loop alive even without a request. Otherwise only requests do so. */
  hold(on: boolean): void;
  /** Closes the connection. Resolves when its resources are released, at the latest after one second. */
  close(): Promise<void>;
}

/** The time limit for the thread to close a connection. A blocked call may need longer. */
const closeMs = 1000;

/** A promise that can keep the event loop alive until it is settled. */
class Pending {
  readonly promise: Promise<unknown>;
  #resolve!: (result?: unknown) => void;
  #reject!: (error: SamError) => void;
  #release: (() => void) | null;

  constructor(release: (() => void) | null) {
    this.#release = release;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  settle(result?: unknown, error?: SamError): void {
    this.#release?.();
    this.#release = null;
    if (error) this.#reject(error);
    else this.#resolve(result);
  }
}

interface Open {
  readonly sink: ConnectionSink;
  readonly tried: Pending;
  readonly requests: Map<number, Pending>;
  held: Pending | undefined;
  closed?: Promise<void>;
}

let currentLoop: Promise<Loop> | undefined;

/** Opens a connection, which closes when `signal` is aborted. Rejects if the thread cannot start. */
export async function connect(
  service: ServiceName,
  sink: ConnectionSink,
  signal?: AbortSignal,
): Promise<Connection> {
  const connection = await open(service, sink);
  const close = () => void connection.close();
  signal?.addEventListener("abort", close);
  if (signal?.aborted) close();
  return connection;
}

async function open(service: ServiceName, sink: ConnectionSink): Promise<Connection> {
  for (;;) {
    const loop = currentLoop ??= Loop.start();
    try {
      const { isOver } = await loop;
      if (!isOver) return (await loop).connect(service, sink);
    } catch (error) {
      if (currentLoop === loop) currentLoop = undefined;
      throw error;
    }
    if (currentLoop === loop) currentLoop = undefined;
  }
}

class Loop {
  /** True if the loop accepts no more connections. */
  isOver = false;

  readonly #runtime: Clock;
  #thread!: Thread;
  readonly #open = new Map<number, Open>();
  readonly #closing = new Map<number, Pending>();
  #lastId = 0;
  #holds = 0;

  private constructor(runtime: Clock) {
    this.#runtime = runtime;
  }

  static async start(): Promise<Loop> {
    const loop = new Loop(await loadRuntime());
    const extension = import.meta.url.slice(import.meta.url.lastIndexOf(".")); // ".ts", or ".js" after compilation
    loop.#thread = await startThread(
      new URL(`./corosync_thread${extension}`, import.meta.url),
      async () => (await import("./loop.ts")).serveCorosync,
      {
        message: (message) => loop.#receive(message as LoopMessage),
        ended: (error) => loop.#finish(error),
      },
    );
    loop.#thread.hold(false);
    return loop;
  }

  connect(service: ServiceName, sink: ConnectionSink): Connection {
    const id = ++this.#lastId;
    const open: Open = { sink, tried: this.#pending(true), requests: new Map(), held: undefined };
    open.tried.promise.catch(() => {}); // callers that await it still see the error
    this.#open.set(id, open);
    this.#post({ type: "connect", connection: id, service });
    return {
      tried: open.tried.promise as Promise<void>,
      request: (name, argument, hold = true) => {
        if (!this.#open.has(id)) {
          return Promise.reject(
            new SamError("BAD_HANDLE", "this connection to Corosync is closed"),
          );
        }
        const request = ++this.#lastId;
        const pending = this.#pending(hold);
        open.requests.set(request, pending);
        this.#post({ type: "request", connection: id, id: request, name, argument });
        return pending.promise;
      },
      hold: (on) => {
        if (on) open.held ??= this.#pending(true);
        else open.held = void open.held?.settle();
      },
      close: () => open.closed ??= this.#close(id, open),
    };
  }

  async #close(id: number, open: Open): Promise<void> {
    if (!this.#open.delete(id)) return;
    this.#drop(open, new SamError("INTERRUPT", "this connection to Corosync was closed"));
    const closing = this.#pending(true);
    this.#closing.set(id, closing);
    this.#post({ type: "disconnect", connection: id });
    if (this.#open.size === 0) {
      this.isOver = true;
      this.#thread.end();
    }
    const cancel = this.#runtime.schedule(() => closing.settle(), closeMs, true);
    await closing.promise;
    cancel();
  }

  #post(command: LoopCommand): void {
    this.#thread.post(command);
  }

  #pending(hold: boolean): Pending {
    if (!hold) return new Pending(null);
    if (++this.#holds === 1) this.#thread.hold(true);
    return new Pending(() => {
      if (--this.#holds === 0) this.#thread.hold(false);
    });
  }

  #receive(message: LoopMessage): void {
    if (message.type === "failed") return this.#fail(errorOf(message.error));
    const { connection } = message;
    if (message.type === "disconnected") {
      if (!this.isOver) this.#closing.get(connection)?.settle(); // otherwise the end of the thread settles it
      return;
    }
    const open = this.#open.get(connection);
    if (!open) return;
    switch (message.type) {
      case "up":
        open.sink.up?.();
        open.tried.settle();
        break;
      case "away":
        this.#away(connection, open, errorOf(message.error), message.final);
        break;
      case "event":
        open.sink.event?.(message.event);
        break;
      case "answer":
        open.requests.get(message.id)?.settle(
          message.result,
          message.error && errorOf(message.error),
        );
        open.requests.delete(message.id);
    }
  }

  #away(id: number, open: Open, error: SamError, final: boolean): void {
    open.sink.away?.(error);
    if (!final) return open.tried.settle();
    this.#open.delete(id);
    this.#drop(open, error);
    if (this.#open.size > 0 || this.isOver) return;
    this.isOver = true;
    this.#thread.end();
  }

  /** Rejects all pending requests of a connection. */
  #drop({ tried, requests }: Open, error: SamError): void {
    tried.settle(undefined, error);
    for (const pending of requests.values()) pending.settle(undefined, error);
    requests.clear();
  }

  #fail(error: SamError): void {
    this.isOver = true;
    for (const [id, open] of this.#open) this.#away(id, open, error, true);
  }

  #finish(error: unknown): void {
    const why = error instanceof Error ? error.message : String(error ?? "no reason is known");
    this.#fail(
      new SamError("LIBRARY", `the thread that talks to Corosync has ended: ${why}`, {
        cause: error,
      }),
    );
    for (const closing of this.#closing.values()) closing.settle();
  }
}

function errorOf({ code, message }: PostedError): SamError {
  return new SamError(code, message);
}
