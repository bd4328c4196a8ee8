/** What happens to a supervised program, for as many readers as want to know. */
import type { DriverEvent } from "../supervisor/driver.ts";
import type { Slack } from "../core/server/slack.ts";
import type { ServerEvent, ServerState, SpareStatus } from "../core/server/types.ts";
import type { ExitStatus, LastRecovery } from "../supervisor/supervise.ts";

/** A supervised program at one moment. */
export interface SupervisorStatus {
  /** Where it is in its life. */
  readonly state: ServerState;
  /** The process id of the instance; null while there is none. */
  readonly pid: number | null;
  /**
   * Whether others may build on it: it is started, or, with a check of the server's, healthy; a command without one, there. Not
   * any more when it is given up.
   */
  readonly ready: boolean;
  /** The result of the server's last health check; null without a check, and before the first success of an instance. */
  readonly check: "passing" | "failing" | null;
  /** When its process was started, or took over from being the spare, in milliseconds since 1970; null while there is none. */
  readonly spawnedAt: number | null;
  /** 1 for the first instance, +1 for each further one. */
  readonly instanceId: number;
  /** How many instances were started after the first. */
  readonly restarts: number;
  /** The last recovery, or null. */
  readonly lastRecovery: LastRecovery | null;
  /** Milliseconds since the last heartbeat of the instance; null before the first one, and when no more are expected. */
  readonly heartbeatAge: number | null;
  /** Near misses: how much of the time interval was left at the signs of life of the instance. */
  readonly slack: Slack;
  /** The spare process; null while there is none. */
  readonly standby: SpareStatus | null;
  /** Bytes stored by the program. */
  readonly dataSize: number;
  /** The transport in use. */
  readonly transport: string;
}

/** What the check of the server found: the program is healthy (again), or a check has failed. */
export interface CheckEvent {
  /** Which event. */
  readonly type: "check";
  /** Whether the program is healthy. */
  readonly healthy: boolean;
  /** What is wrong; empty where nothing is. */
  readonly detail: string;
}

/** Which event, and what it says. */
export type SupervisorEventDetail =
  | ServerEvent
  | DriverEvent
  | CheckEvent
  /** How things stood when this reader began. */
  | { readonly type: "status"; readonly status: SupervisorStatus }
  /** This reader was slow: the oldest `count` events are missing here. */
  | { readonly type: "lost"; readonly count: number }
  /** Supervision is over. The last event. */
  | { readonly type: "finish"; readonly status: ExitStatus };

/** One event: told apart by `type`. */
export type SupervisorEvent = SupervisorEventDetail & {
  /** When, in milliseconds since 1970. */
  readonly at: number;
  /** The instance it is about. */
  readonly instanceId: number;
};

const maxWaiting = 1024;

/** Hands each event to every reader; keeps none for a reader that has not begun. */
export class EventLog {
  readonly #readers = new Set<Reader>();
  #closed = false;

  /** Hands an event to all readers. */
  push(event: SupervisorEvent): void {
    for (const reader of this.#readers) reader.push(event);
  }

  /** There will be no more. */
  close(): void {
    this.#closed = true;
    for (const reader of this.#readers) reader.end();
    this.#readers.clear();
  }

  /** A new reader, which gets `first` and then what happens from now on. */
  read(first: readonly SupervisorEvent[]): AsyncIterableIterator<SupervisorEvent> {
    const reader = new Reader(() => this.#readers.delete(reader));
    for (const event of first) reader.push(event);
    if (this.#closed) reader.end();
    else this.#readers.add(reader);
    return reader;
  }
}

class Reader implements AsyncIterableIterator<SupervisorEvent> {
  readonly #leave: () => void;
  #waiting: SupervisorEvent[] = [];
  #lost = 0;
  #takers: ((result: IteratorResult<SupervisorEvent>) => void)[] = [];
  #ended = false;

  constructor(leave: () => void) {
    this.#leave = leave;
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
    this.#leave();
    this.#waiting = [];
    this.end();
    return Promise.resolve({ done: true, value: undefined });
  }
}
