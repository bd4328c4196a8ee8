/** The queue of messages that a group member sends. It passes them on in order, as fast as Corosync takes them. */
import { SamError } from "../errors.ts";
import { queuedBytesOf } from "./daemon/group_service.ts";

/** The settings of an outbox, and the functions it calls. */
export interface OutboxParts {
  /** Maximum number of bytes that wait. */
  readonly maxBytes: number;
  /** Passes messages on. Resolves to the number of messages that were taken, counted from the first. */
  readonly give: (messages: readonly Uint8Array[]) => Promise<number>;
  readonly pause: (ms: number) => Promise<void>;
}

interface QueuedMessage {
  readonly data: Uint8Array;
  withdrawn: boolean;
  resolve(): void;
  reject(error: SamError): void;
}

const action = "sending a message";
/** The size of the batches that are passed on. */
const batchBytes = 1 << 20;
/** The pause after a message that was not taken, in milliseconds. It doubles each time. */
const pauseMs = { least: 1, most: 20 };

export class Outbox {
  /** Resolves when no message waits. */
  empty: Promise<void> = Promise.resolve();

  readonly #parts: OutboxParts;
  readonly #waiting: QueuedMessage[] = [];
  #bytes = 0;
  #pumping = false;
  #ended: SamError | undefined;

  constructor(parts: OutboxParts) {
    this.#parts = parts;
  }

  /** Sends a copy of `data` after all earlier messages. Resolves when Corosync has taken it. */
  async send(data: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    if (this.#bytes > 0 && this.#bytes + queuedBytesOf(data.length) > this.#parts.maxBytes) {
      throw new SamError(
        "TRY_AGAIN",
        `${this.#bytes} bytes already wait to be sent, and maxQueuedBytes is ${this.#parts.maxBytes}: await each send()`,
      );
    }
    if (signal?.aborted) throw interruptError(action, signal);
    let message!: QueuedMessage;
    const taken = new Promise<void>((resolve, reject) => {
      message = { data: data.slice(), withdrawn: false, resolve, reject };
    });
    this.#waiting.push(message);
    this.#bytes += queuedBytesOf(data.length);
    if (!this.#pumping) this.empty = this.#pump();
    await interruptible(taken, signal, action, () => message.withdrawn = true);
  }

  /** Rejects all messages that wait. Nothing can be sent afterwards. */
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

  /** Returns the next batch of messages. Their bytes count as waiting until `#settle`. */
  #batch(): QueuedMessage[] {
    const batch: QueuedMessage[] = [];
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

  /** Settles the first `count` messages of a batch. */
  #settle(batch: QueuedMessage[], count: number, error?: SamError): void {
    for (const { data, resolve, reject } of batch.splice(0, count)) {
      this.#bytes -= queuedBytesOf(data.length);
      if (error) reject(error);
      else resolve();
    }
  }
}

function interruptError(action: string, { reason: cause }: AbortSignal): SamError {
  return new SamError("INTERRUPT", `${action} was ended by its AbortSignal`, { cause });
}

/** Settles as `promise` does. If `signal` is aborted first, calls `withdraw()` and rejects with INTERRUPT. */
export function interruptible<T>(
  promise: Promise<T>,
  signal: AbortSignal | undefined,
  action: string,
  withdraw: () => void = () => {},
): Promise<T> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const interrupt = () => {
      withdraw();
      reject(interruptError(action, signal));
    };
    signal.addEventListener("abort", interrupt);
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", interrupt));
    if (signal.aborted) interrupt();
  });
}
