/**
 * The link to one process: its frames, and what the process leaves beside them without a message: heartbeats, data, a note.
 * All becomes input for the server's core, in the order in which the process did it.
 */
import type { Link } from "../../../transports/transport.ts";
import type { JudgedMessage, ServerInput } from "../../core/server/types.ts";
import { decodeClient, encodeServer, type ServerMessage } from "../../core/wire.ts";

type StoredData = ReturnType<NonNullable<Link["storedData"]>>;
type LastNote = ReturnType<NonNullable<Link["lastNote"]>>;

/** Hears what comes over a link. */
export interface LinkSessionSink {
  input(input: ServerInput): void;
  /** The process at the other end says that it is process `pid`. */
  introduced(pid: number): void;
  fallback(side: "server" | "program", detail: string): void;
  problem(error: unknown, what: string): void;
}

const heartbeat: ServerInput = { type: "heartbeat" };

/** A link, from its beginning to its end. */
export class LinkSession {
  /** Resolved when the link has ended. */
  readonly ended: Promise<void>;

  readonly #maxDataSize: number;
  readonly #sink: LinkSessionSink;
  /** Null when it has ended. */
  #link: Link | null;
  #resolveEnded: () => void = () => {};
  /** The count of heartbeats at the last look for them. */
  #sampled = 0;
  /** True once data come by messages: the kept data are older. */
  #isKeptOutdated = false;
  #note: LastNote;

  /** Does nothing before `begin()`. */
  constructor(link: Link, maxDataSize: number, sink: LinkSessionSink) {
    this.#link = link;
    this.#maxDataSize = maxDataSize;
    this.#sink = sink;
    this.ended = new Promise((resolve) => this.#resolveEnded = resolve);
  }

  /** Hands over what has arrived, and from now on what arrives. */
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
    this.takeKept();
    this.#note = this.note;
    this.#link = null;
    this.#sink.input({ type: "linkEnd" });
    this.#resolveEnded();
  }

  #receive(frame: Uint8Array): void {
    try {
      const message = decodeClient(frame);
      if (message.type === "note") this.#note = { text: message.text, at: Date.now() };
      else this.#hear(message);
    } catch (error) {
      this.#sink.problem(error, "the program sent what is no frame; its link is closed");
      this.#drop();
    }
  }

  #hear(message: JudgedMessage): void {
    if (message.type === "hello") {
      if (message.notice) this.#sink.fallback("program", message.notice);
      this.#sink.introduced(message.pid);
    }
    // A process that sends data after it has kept some had no room for more, and keeps none any more.
    if (message.type === "store" && this.#kept) {
      this.takeKept();
      this.#isKeptOutdated = true;
    }
    // Heartbeats before a start or an answer are older than it: they are counted first.
    this.sample();
    this.#sink.input({ type: "message", message });
  }

  /** Looks for heartbeats that do not wake the server. */
  sample(): void {
    try {
      const count = this.#link?.sample?.();
      if (count === undefined || count === this.#sampled) return;
      this.#sampled = count;
    } catch (error) {
      this.#sink.problem(error, "the transport cannot look for heartbeats; its link is closed");
      return this.#drop();
    }
    this.#sink.input(heartbeat);
  }

  /** Sends a message to the process. */
  send(message: ServerMessage): void {
    this.#link?.send(encodeServer(message));
  }

  /** Ends the link from here. What the process left beside it is taken first. */
  #drop(): void {
    this.takeKept();
    this.#link?.close();
  }

  get #kept(): StoredData {
    return this.#isKeptOutdated ? undefined : this.#link?.storedData?.();
  }

  /** How many bytes the process has left without a message; undefined for none, or for more than it may. */
  get keptSize(): number | undefined {
    const size = this.#kept?.size;
    return size === undefined || size > this.#maxDataSize ? undefined : size;
  }

  /** The process can leave nothing more: what it left belongs to the server from now on. */
  takeKept(): void {
    try {
      const kept = this.#kept;
      if (!kept) return;
      if (kept.size > this.#maxDataSize) {
        throw new Error(`${kept.size} bytes, of which ${this.#maxDataSize} are allowed`);
      }
      const bytes = kept.read();
      if (!bytes) throw new Error(`there are no ${kept.size} bytes`);
      this.#sink.input({ type: "linkData", bytes });
    } catch (error) {
      this.#sink.problem(error, "the data that the program left cannot be read");
    }
  }

  /** The last note of the process, and when it was made, in milliseconds since 1970. */
  get note(): LastNote {
    return this.#link?.lastNote?.() ?? this.#note;
  }
}
