/**
 * What carries heartbeats and control frames between a SAM server and its active process. Implement `Transport` to
 * bring one of your own; `@x/sam/testing` has the conformance suite that ours pass.
 * @module
 */
import type { Files, Sockets, Stream } from "../src/runtime/runtime.ts";

/** Who is told what arrives on a link, in the order of arrival. */
export interface LinkSink {
  /** A whole frame, as it was sent. */
  frame(frame: Uint8Array): void;
  /** One or more heartbeats, or a confirmation. Not called for heartbeats that are sampled. */
  heartbeat(): void;
  /** The other side is gone, or `close()` was called. The last call, made once. */
  end(detail: string): void;
}

/** The data that the other side has kept. */
export interface StoredData {
  /** How many bytes, as the other side says: to be checked before `read`, which allocates them. */
  readonly size: number;
  /** The bytes; undefined where there are fewer than that. */
  read(): Uint8Array | undefined;
}

/** A note, and when it was made, in milliseconds since 1970. */
export interface TimedNote {
  /** The text. */
  readonly text: string;
  /** When. */
  readonly at: number;
}

/** One end of a connection between a server and its active process. */
export interface Link {
  /**
   * Active side: "I am healthy now". Synchronous: on return it is in the kernel or in shared memory, also in a loop that
   * never yields. It may be left out while an earlier one is still unread.
   */
  heartbeat(): void;
  /**
   * Active side: the event loop runs. Like `heartbeat()`, which it is where it is left out, but seen by the server at once:
   * it comes four times in a time interval at most.
   */
  confirm?(): void;
  /** Sends a frame of at most 64 KiB, whole and in order. */
  send(frame: Uint8Array): void;
  /** Names who is told; what arrived before is handed over first. With null, arrivals wait for the next call. */
  receive(sink: LinkSink | null): void;
  /** Sets if this link keeps the event loop alive. */
  hold(on: boolean): void;
  /** Ends the link. */
  close(): void;
  /** Server side, for heartbeats that wake nobody: a number that changes with them. Asked before a deadline is judged. */
  sample?(): number;
  /**
   * Active side, where data can be left with the server without a message: on return it outlives this process. Throws
   * where there is no room; what was kept before is still kept then.
   */
  storeData?(bytes: Uint8Array): void;
  /** Server side: what the other side kept last; undefined for nothing. Asked before and when the link ends. */
  storedData?(): StoredData | undefined;
  /** Active side, where a note can be left without a message: on return it outlives this process. At most 1,024 bytes. */
  note?(text: string): void;
  /** Server side: what the other side noted last; undefined for nothing. Asked before and when the link ends. */
  lastNote?(): TimedNote | undefined;
  /** Set where the link works, but slower than it could; one line that says why. */
  readonly notice?: string;
}

/** The server's side, open before the process is started. */
export interface Endpoint {
  /** What the process gets, to `connect()` with: a text, or one that contains the number of a descriptor it inherits. */
  readonly address: string | ((descriptor: number) => string);
  /** Calls back, once, with the link to the process that was started and has proved to be it. */
  accept(child: { readonly stream: Stream | null }, onLink: (link: Link) => void): void;
  /** Gives everything back that is not part of an accepted link. */
  close(): void;
}

/** The roles of a runtime that a transport may need. */
export interface TransportRuntime extends Files, Sockets {}

/** The server's half of a transport, with the runtime that it uses. */
export interface ServerTransport {
  /** Its name. */
  readonly name: string;
  /** See `Transport`. */
  readonly sampled?: boolean;
  /** Opens the server's side for one instance. */
  open(): Promise<Endpoint>;
}

/** A way to carry heartbeats and control frames. */
export interface Transport {
  /** Its name; a program must bring a transport of the name that its server has. */
  readonly name: string;
  /** True if a heartbeat shortly after another may be left out, because each one costs a system call. */
  readonly coalesces?: boolean;
  /** True if heartbeats come by `Link.sample` alone, so that it must be asked many times in a time interval. */
  readonly sampled?: boolean;
  /** Opens the server's side for one instance. */
  open(runtime: TransportRuntime): Promise<Endpoint>;
  /** Connects the active process to `address`. */
  connect(address: string, runtime: TransportRuntime): Promise<Link>;
}
