/**
 * Turns everything that comes over the link to one process into inputs for the state machine: messages, and what the process
 * leaves on the link without a message (heartbeats, stored data, a note). The inputs have the order of the calls in the process.
 */
import type { Link } from "../../../transports/transport.ts";
import type { JudgedMessage, ServerInput } from "../../core/server/types.ts";
import { decodeClient, encodeServer, type ServerMessage } from "../../core/wire.ts";

type StoredData = ReturnType<NonNullable<Link["storedData"]>>;
type LastNote = ReturnType<NonNullable<Link["lastNote"]>>;

/** Receives what comes over a link. */
export interface LinkSessionSink {
  input(input: ServerInput): void;
  /** The process at the other end registered with this pid. */
  registered(pid: number): void;
  fallback(side: "server" | "program", detail: string): void;
  problem(error: unknown, failure: string): void;
}

const heartbeat: ServerInput = { type: "heartbeat" };

/** A link, from its beginning to its end. */
export class LinkSession {
  /** Resolves when the link has ended. */
  readonly ended: Promise<void>;

  readonly #maxDataSize: number;
  readonly #sink: LinkSessionSink;
  /** The link; null when it has ended. */
  #link: Link | null;
  #resolveEnded: () => void = () => {};
  /** The heartbeat counter at the last poll. */
  #sampled = 0;
  /** True once the process sends its data in messages: the data on the link is older. */
  #isStoredDataOutdated = false;
  #note: LastNote;

  /** Does nothing before `begin()`. */
  constructor(link: Link, maxDataSize: number, sink: LinkSessionSink) {
    this.#link = link;
    this.#maxDataSize = maxDataSize;
    this.#sink = sink;
    this.ended = new Promise((resolve) => this.#resolveEnded = resolve);
  }

  /** Begins to pass on what arrives, and what has arrived already. */
  begin(): void {
    const link = this.#link!;
    if (link.sample) this.#sampled = link.sample();
    if (link.notice) this.#sink.fallback("server", link.notice);
    link.receive({
      heartbeat: () => this.#sink.input(heartbeat),
      frame: (frame) => this.#receive(frame),
      end: () => this.#end(),
    });
  }

  /** The link; null when it has ended. */
  get link(): Link | null {
    return this.#link;
  }

  #end(): void {
    this.takeStoredData();
    this.#note = this.note;
    this.#link = null;
    this.#sink.input({ type: "linkEnd" });
    this.#resolveEnded();
  }

  #receive(frame: Uint8Array): void {
    try {
      const message = decodeClient(frame);
      if (message.type === "note") this.#note = { text: message.text, at: Date.now() };
      else this.#takeMessage(message);
    } catch (error) {
      this.#sink.problem(
        error,
        "the program sent an invalid message, so SAM closed the connection and ends the program",
      );
      this.#drop();
    }
  }

  #takeMessage(message: JudgedMessage): void {
    if (message.type === "hello") {
      if (message.notice) this.#sink.fallback("program", message.notice);
      this.#sink.registered(message.pid);
    }
    // A process sends data in messages when they no longer fit on the link, and uses only messages from then on.
    if (message.type === "store" && this.#storedData) {
      this.takeStoredData();
      this.#isStoredDataOutdated = true;
    }
    // Heartbeats that are older than this message must be counted before it.
    this.sample();
    this.#sink.input({ type: "message", message });
  }

  /** Polls for heartbeats that do not wake the server. */
  sample(): void {
    try {
      const count = this.#link?.sample?.();
      if (count === undefined || count === this.#sampled) return;
      this.#sampled = count;
    } catch (error) {
      this.#sink.problem(
        error,
        "the transport cannot read heartbeats, so SAM closed the connection and ends the program",
      );
      return this.#drop();
    }
    this.#sink.input(heartbeat);
  }

  /** Sends a message to the process. */
  send(message: ServerMessage): void {
    this.#link?.send(encodeServer(message));
  }

  /** Takes the stored data, and closes the link. */
  #drop(): void {
    this.takeStoredData();
    this.#link?.close();
  }

  get #storedData(): StoredData {
    return this.#isStoredDataOutdated ? undefined : this.#link?.storedData?.();
  }

  /** The size of the data that the process stored on the link, in bytes; undefined for none, and for more than `maxDataSize`. */
  get storedSize(): number | undefined {
    const size = this.#storedData?.size;
    return size === undefined || size > this.#maxDataSize ? undefined : size;
  }

  /** Passes on the data that the process stored on the link. It can store no more there. */
  takeStoredData(): void {
    try {
      const stored = this.#storedData;
      if (!stored) return;
      if (stored.size > this.#maxDataSize) {
        throw new Error(`${stored.size} bytes are more than maxDataSize, ${this.#maxDataSize}`);
      }
      const bytes = stored.read();
      if (!bytes) throw new Error(`the program stored ${stored.size} bytes, but fewer can be read`);
      this.#sink.input({ type: "linkData", bytes });
    } catch (error) {
      this.#sink.problem(error, "cannot read the data that the program stored");
    }
  }

  /** The last note of the process, and when it was made, in milliseconds since 1970. */
  get note(): LastNote {
    return this.#link?.lastNote?.() ?? this.#note;
  }
}
