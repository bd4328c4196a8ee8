/** What a member of a group has yet to send: handed over in order, as fast as it is taken. */
import { SamError } from "../errors.ts";
import { queuedBytesOf } from "./daemon/group_service.ts";

/** What an outbox works with. */
export interface OutboxParts {
  /** So many bytes may wait. */
  readonly maxBytes: number;
  /** Hands messages over; resolves to how many of them, from the first on, were taken. */
  readonly give: (messages: readonly Uint8Array[]) => Promise<number>;
  readonly pause: (ms: number) => Promise<void>;
}

interface Sending {
  readonly data: Uint8Array;
  withdrawn: boolean;
  resolve(): void;
  reject(error: SamError): void;
}

const what = "sending a message";
/** So much is handed over at once. */
const batchBytes = 1 << 20;
/** The pause after a message that was not taken, in milliseconds; twice as long each time. */
const pauseMs = { least: 1, most: 20 };

/** A queue of messages. */
export class Outbox {
  /** Settled when nothing waits any more. */
  empty: Promise<void> = Promise.resolve();

  readonly #parts: OutboxParts;
  readonly #waiting: Sending[] = [];
  #bytes = 0;
  #pumping = false;
  #ended: SamError | undefined;

  constructor(parts: OutboxParts) {
    this.#parts = parts;
  }

  /** Sends a copy of `data` after all that was sent before; resolved when it is taken. */
  async send(data: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    if (this.#bytes > 0 && this.#bytes + queuedBytesOf(data.length) > this.#parts.maxBytes) {
      throw new SamError(
        "TRY_AGAIN",
        `${this.#bytes} bytes wait to be sent already: await each send()`,
      );
    }
    if (signal?.aborted) throw interrupted(what, signal);
    let sending!: Sending;
    const taken = new Promise<void>((resolve, reject) => {
      sending = { data: data.slice(), withdrawn: false, resolve, reject };
    });
    this.#waiting.push(sending);
    this.#bytes += queuedBytesOf(data.length);
    if (!this.#pumping) this.empty = this.#pump();
    await interruptible(taken, signal, what, () => sending.withdrawn = true);
  }

  /** Nothing can be sent any more. */
  end(error: SamError): void {
    this.#ended = error;
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }

  async #pump(): Promise<void> {
    this.#pumping = true;
    let pause = pauseMs.least;
    for (let batch = this.#batch(); batch.length > 0; batch = this.#batch()) {
      let taken = 0;
      try {
        taken = await this.#parts.give(batch.map(({ data }) => data));
      } catch (error) {
        this.#settle(batch, batch.length, this.#ended ?? error as SamError);
        continue;
      }
      this.#settle(batch, taken);
      if (this.#ended) this.#settle(batch, batch.length, this.#ended);
      if (batch.length > 0) { // flow control
        this.#waiting.unshift(...batch);
        await this.#parts.pause(pause);
        pause = Math.min(pause * 2, pauseMs.most);
      } else pause = pauseMs.least;
    }
    this.#pumping = false;
  }

  /** The next messages, as many as are handed over at once; they wait until they are settled. */
  #batch(): Sending[] {
    const batch: Sending[] = [];
    for (let bytes = 0; bytes < batchBytes;) {
      const next = this.#waiting.shift();
      if (!next) break;
      if (next.withdrawn) this.#bytes -= queuedBytesOf(next.data.length);
      else {
        bytes += queuedBytesOf(next.data.length);
        batch.push(next);
      }
    }
    return batch;
  }

  /** The first `count` of a batch need not wait any longer. */
  #settle(batch: Sending[], count: number, error?: SamError): void {
    for (const { data, resolve, reject } of batch.splice(0, count)) {
      this.#bytes -= queuedBytesOf(data.length);
      if (error) reject(error);
      else resolve();
    }
  }
}

function interrupted(what: string, { reason: cause }: AbortSignal): SamError {
  return new SamError("INTERRUPT", `${what} was ended by its AbortSignal`, { cause });
}

/** Settled as `promise` is, or rejected with INTERRUPT, after `withdraw()`, when `signal` is aborted before. */
export function interruptible<T>(
  promise: Promise<T>,
  signal: AbortSignal | undefined,
  what: string,
  withdraw: () => void = () => {},
): Promise<T> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const interrupt = () => {
      withdraw();
      reject(interrupted(what, signal));
    };
    signal.addEventListener("abort", interrupt);
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", interrupt));
    if (signal.aborted) interrupt();
  });
}
