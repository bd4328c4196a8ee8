/**
 * The transport interface. A transport carries heartbeats and messages between a SAM server and its active process: the
 * process of the program that calls `register()`. Implement `Transport` to bring your own; `@x/sam/testing` exports the
 * conformance checks that the built-in transports pass.
 * @module
 */
import type { Files, Sockets, Stream } from "../src/runtime/runtime.ts";

/** Receives everything that arrives on a link, in the order of arrival. */
export interface LinkSink {
  /** Called with each whole frame (the bytes of one message), exactly as it was sent. */
  frame(frame: Uint8Array): void;
  /**
   * Called for one or more heartbeats, or for an event-loop heartbeat. Not called for heartbeats read by
   * `Link.sample()`.
   */
  heartbeat(): void;
  /**
   * Called once, as the last call, when the other side is gone or `close()` was called. `detail` says why the link
   * ended.
   */
  end(detail: string): void;
}

/** The data that the active process has stored with `Link.storeData()`. */
export interface StoredData {
  /** Size in bytes, as claimed by the active process. Check it before you call `read()`, which allocates that much. */
  readonly size: number;
  /** Reads the bytes. Returns undefined if there are fewer than `size`. */
  read(): Uint8Array | undefined;
}

/** A note of the active process, with its timestamp. */
export interface TimedNote {
  /** The text of the note. */
  readonly text: string;
  /** The time when the note was written, in milliseconds since 1970. */
  readonly at: number;
}

/**
 * One end of the connection between a SAM server and its active process (the active side): the process of the program
 * that called `register()`.
 */
export interface Link {
  /**
   * Sends a heartbeat. Called on the active side. Must be synchronous: on return, the heartbeat is in the kernel or in
   * shared memory, even if the event loop never runs again. May do nothing while an earlier heartbeat is still unread.
   */
  heartbeat(): void;
  /**
   * Sends an event-loop heartbeat, which proves that the event loop runs. Called on the active side, at most four times
   * in a time interval. Must wake the server at once. Optional; defaults to `heartbeat()`.
   */
  confirm?(): void;
  /** Sends a frame (the bytes of one message) of at most 64 KiB. Frames arrive whole and in order. */
  send(frame: Uint8Array): void;
  /**
   * Sets the receiver. Everything that arrived earlier is delivered to it first. With null, arrivals wait for the next
   * receiver.
   */
  receive(sink: LinkSink | null): void;
  /** Sets whether this link keeps the event loop alive. */
  hold(on: boolean): void;
  /** Ends the link. */
  close(): void;
  /**
   * Returns a number that changes with every heartbeat. Called on the server side before each deadline is judged; see also
   * `Transport.sampled`. Needed only if heartbeats do not wake the server.
   */
  sample?(): number;
  /**
   * Leaves data where the server can read it, without sending a message. Called on the active side. On return, the data
   * outlives this process. Throws if there is no room; the data stored before stays valid. Optional; without it, data is
   * sent in frames.
   */
  storeData?(bytes: Uint8Array): void;
  /**
   * Returns the data that the active process stored last, or undefined if there is none. Called on the server side
   * while the link is open, and from `LinkSink.end()`.
   */
  storedData?(): StoredData | undefined;
  /**
   * Leaves a note of at most 1,024 bytes where the server can read it, without sending a message. Called on the active
   * side. On return, the note outlives this process. Optional; without it, notes are sent in frames.
   */
  note?(text: string): void;
  /**
   * Returns the last note of the active process, or undefined if there is none. Called on the server side while the
   * link is open, and from `LinkSink.end()`.
   */
  lastNote?(): TimedNote | undefined;
  /** If this link is slower than it could be: the reason, in one line. */
  readonly notice?: string;
}

/** The server's side of one link, open before the process of the program is started. */
export interface Endpoint {
  /**
   * The address that the active process passes to `Transport.connect()`. Use a function if the address contains the
   * number of a file descriptor that the process inherits.
   */
  readonly address: string | ((descriptor: number) => string);
  /**
   * Calls `onLink` once, when the active process has connected. The transport must refuse all other connections, for
   * example by a secret in `address` that the active process sends first. Example:
   * https://github.com/x/sam/blob/main/docs/how-to/transport.md
   */
  accept(child: { readonly stream: Stream | null }, onLink: (link: Link) => void): void;
  /** Releases every resource that is not part of an accepted link. */
  close(): void;
  /**
   * Opens the server's side for a worker of node:cluster, which the process of the program is about to start. `key` is the
   * secret that the worker sends first. May be called after `close()`. Optional, and reserved for the built-in transports;
   * without it, workers are not watched.
   */
  openWorker?(key: string): Promise<{
    accept(onLink: (link: Link) => void): void;
    close(): void;
  }>;
  /**
   * Opens the server's side again at the same address, for the next program below a wrapper. Called only after the accepted
   * link has ended. Optional, and reserved for the built-in transports; without it, the next program is not watched.
   */
  reopen?(): Promise<Endpoint>;
}

/** The server's side of the link to a worker of node:cluster. */
export type WorkerEndpoint = Awaited<ReturnType<NonNullable<Endpoint["openWorker"]>>>;

/** The functions of the runtime that a transport may use: files and sockets. */
export interface TransportRuntime extends Files, Sockets {}

/** The server's half of a transport, bound to the runtime that it uses. */
export interface ServerTransport {
  /** The name of the transport. */
  readonly name: string;
  /** True if heartbeats are read by `Link.sample()` only; see `Transport.sampled`. */
  readonly sampled?: boolean;
  /** Opens the server's side for one instance. */
  open(): Promise<Endpoint>;
}

/** A way to carry heartbeats and messages between a SAM server and its program. */
export interface Transport {
  /** The name of the transport. The server and its program must use transports of the same name. */
  readonly name: string;
  /**
   * True if each heartbeat costs a system call. SAM then leaves out a heartbeat that comes less than 1/200 of the time
   * interval, and less than 1 ms, after another. Default false.
   */
  readonly coalesces?: boolean;
  /**
   * True if heartbeats are read by `Link.sample()` only. SAM then calls `sample()` about 16 times in a time interval.
   * Default false.
   */
  readonly sampled?: boolean;
  /** Opens the server's side for one instance. If it rejects, the program is not started. */
  open(runtime: TransportRuntime): Promise<Endpoint>;
  /** Connects the active process to `address`. If it rejects, so does `register()`. */
  connect(address: string, runtime: TransportRuntime): Promise<Link>;
}
