/** The events of a program, for any number of readers. */
import type { SupervisorEvent } from "../api/events.ts";

/** The size of a reader's buffer, in events. A slower reader loses the oldest ones. */
const maxWaiting = 1024;

/** Passes each event to all readers. A reader gets no events from before it began. */
export class EventLog {
  readonly #readers = new Set<Reader>();
  #closed = false;

  push(event: SupervisorEvent): void {
    for (const reader of this.#readers) reader.push(event);
  }

  /** Ends all readers. */
  close(): void {
    this.#closed = true;
    for (const reader of this.#readers) reader.end();
    this.#readers.clear();
  }

  /** Begins a reader, which gets the events `first` and then all later ones. */
  read(first: readonly SupervisorEvent[]): AsyncIterableIterator<SupervisorEvent> {
    const reader = new Reader(() => this.#readers.delete(reader));
    for (const event of first) reader.push(event);
    if (this.#closed) reader.end();
    else this.#readers.add(reader);
    return reader;
  }
}

class Reader implements AsyncIterableIterator<SupervisorEvent> {
  readonly #remove: () => void;
  #waiting: SupervisorEvent[] = [];
  #lost = 0;
  #takers: ((result: IteratorResult<SupervisorEvent>) => void)[] = [];
  #ended = false;

  constructor(remove: () => void) {
    this.#remove = remove;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  push(event: SupervisorEvent): void {
    const taker = this.#takers.shift();
    if (taker) return taker({ done: false, value: event });
    this.#waiting.push(event);
    if (this.#waiting.length > maxWaiting) {
      this.#waiting.shift();
      this.#lost++;
    }
  }

  end(): void {
    this.#ended = true;
    for (const taker of this.#takers.splice(0)) taker({ done: true, value: undefined });
  }

  next(): Promise<IteratorResult<SupervisorEvent>> {
    const [oldest] = this.#waiting;
    if (this.#lost > 0 && oldest) {
      const count = this.#lost;
      this.#lost = 0;
      return Promise.resolve({
        done: false,
        value: { type: "lost", count, at: oldest.at, instanceId: oldest.instanceId },
      });
    }
    if (oldest) return Promise.resolve({ done: false, value: this.#waiting.shift()! });
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve) => this.#takers.push(resolve));
  }

  return(): Promise<IteratorResult<SupervisorEvent>> {
    this.#remove();
    this.#waiting = [];
    this.end();
    return Promise.resolve({ done: true, value: undefined });
  }
}
