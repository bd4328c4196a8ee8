/** Connections to Corosync, for the code that uses them: one loop, in one thread, serves all connections of a process. */
import { SamError } from "../../errors.ts";
import type { Thread } from "../../ffi/blocking_thread.ts";
import { startThread } from "../../ffi/start_blocking_thread.ts";
import { loadRuntime } from "../../runtime/load.ts";
import type { Clock } from "../../runtime/runtime.ts";
import type { LoopCommand, LoopMessage, PostedError, ServiceName } from "./loop.ts";

/** What the user of a connection is told. */
export interface ConnectionSink {
  /** The daemon answers, for the first time or again: it knows nothing of what was before. */
  up?(): void;
  /** It does not; it is tried again, and `up` follows. */
  away?(error: SamError): void;
  /** Something that the service tells. */
  event?(event: unknown): void;
}

/** A connection to one service of the daemon, made again whenever the daemon comes back. */
export interface Connection {
  /** Settled when the first attempt is over; rejected where waiting would not help (ACCESS, LIBRARY, NOT_SUPPORTED). */
  readonly tried: Promise<void>;
  /**
   * Asks the service for something. Rejects with TRY_AGAIN while the daemon is away; pending while it does not answer.
   * With `hold` (the default) the event loop is kept alive meanwhile.
   */
  request(name: string, argument?: unknown, hold?: boolean): Promise<unknown>;
  /** Whether the event loop is kept alive without a request, too. */
  hold(on: boolean): void;
  /** Ends the connection, once; resolved when nothing is left of it, or its end cannot be waited for. */
  close(): Promise<void>;
}

/** A thread that a call blocks is not waited for any longer. */
const closeMs = 1000;

/** What somebody waits for; while it is `hold`, the event loop is kept alive. */
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

let present: Promise<Loop> | undefined;

/** Opens a connection, which `signal` closes. Rejects with what keeps a thread from being started. */
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
    const loop = present ??= Loop.start();
    try {
      const { over } = await loop;
      if (!over) return (await loop).connect(service, sink);
    } catch (error) {
      if (present === loop) present = undefined;
      throw error;
    }
    if (present === loop) present = undefined;
  }
}

class Loop {
  /** It takes no more connections. */
  over = false;

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
    const extension = import.meta.url.slice(import.meta.url.lastIndexOf(".")); // .ts, or .js where it is compiled
    loop.#thread = await startThread(
      new URL(`./corosync_thread${extension}`, import.meta.url),
      async () => (await import("./loop.ts")).serveCorosync,
      {
        message: (message) => loop.#hear(message as LoopMessage),
        ended: (error) => loop.#finish(error),
      },
    );
    loop.#thread.hold(false);
    return loop;
  }

  connect(service: ServiceName, sink: ConnectionSink): Connection {
    const id = ++this.#lastId;
    const open: Open = { sink, tried: this.#pending(true), requests: new Map(), held: undefined };
    open.tried.promise.catch(() => {}); // whoever waits for it is told
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
      this.over = true;
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

  #hear(message: LoopMessage): void {
    if (message.type === "failed") return this.#fail(errorOf(message.error));
    const { connection } = message;
    if (message.type === "disconnected") {
      if (!this.over) this.#closing.get(connection)?.settle(); // else the whole thread is waited for
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
    if (this.#open.size > 0 || this.over) return;
    this.over = true;
    this.#thread.end();
  }

  /** Nothing of a connection will be answered any more. */
  #drop({ tried, requests }: Open, error: SamError): void {
    tried.settle(undefined, error);
    for (const pending of requests.values()) pending.settle(undefined, error);
    requests.clear();
  }

  #fail(error: SamError): void {
    this.over = true;
    for (const [id, open] of this.#open) this.#away(id, open, error, true);
  }

  #finish(error: unknown): void {
    const why = error instanceof Error ? error.message : String(error ?? "it ended");
    this.#fail(
      new SamError("LIBRARY", `the thread that talks to Corosync is gone: ${why}`, {
        cause: error,
      }),
    );
    for (const closing of this.#closing.values()) closing.settle();
  }
}

function errorOf({ code, message }: PostedError): SamError {
  return new SamError(code, message);
}
