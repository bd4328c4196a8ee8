/**
 * A lock in etcd as SAM's quorum: of all the programs with the same lock, on whatever machine, one gets past `start()`. When
 * etcd cannot be reached for so long that another might get the lock, its program is warned and killed in time.
 *
 * It speaks to etcd's HTTP gateway (3.4 or later) with `fetch`; copy it into your program, and change what you need.
 */
import { type QuorumSource, SamError } from "../../mod.ts"; // in your program: "@x/sam"

export interface EtcdLockOptions {
  /** Where etcd listens; the next one is asked when one does not answer. Default `["http://127.0.0.1:2379"]`. */
  readonly endpoints?: readonly string[];
  /** Seconds after which etcd takes the lock from a machine that it has not heard of. Default 10. */
  readonly ttl?: number;
  /**
   * Milliseconds before that at which the lock counts as lost on this side. The program must be dead by then: at least
   * the time interval (with time interval 0: `stopTimeout`). Default: half of `ttl`.
   */
  readonly handover?: number;
}

/** What one answer may take, in milliseconds, where no lease is at stake. */
const answerMs = 2000;
/** The pause, in milliseconds, after an etcd that does not answer. */
const retryMs = 250;

/** A quorum source that is quorate while this side holds the lock `name`. */
export function etcdLock(name: string, options: EtcdLockOptions = {}): QuorumSource {
  const { endpoints = ["http://127.0.0.1:2379"], ttl = 10, handover = ttl * 500 } = options;
  if (typeof name !== "string" || name === "") {
    throw new SamError("INVALID_PARAM", "the name of an etcd lock must be a text");
  }
  if (endpoints.length === 0) throw new SamError("INVALID_PARAM", "endpoints is empty");
  if (!(Number.isInteger(ttl) && ttl >= 2)) {
    throw new SamError("INVALID_PARAM", `ttl is ${ttl}; it must be whole seconds, at least 2`);
  }
  if (!(handover >= 0 && handover < ttl * 1000)) {
    throw new SamError("INVALID_PARAM", `handover is ${handover}; it must be below ttl, in ms`);
  }
  return {
    watch(onChange, onProblem = () => {}) {
      const ended = new AbortController();
      const campaign = new Campaign(
        { key: base64(name), endpoints, ttl, validMs: ttl * 1000 - handover },
        { onChange, onProblem, ended: ended.signal },
      );
      const over = campaign.run();
      return () => {
        ended.abort();
        return over; // the lock is given back
      };
    },
  };
}

interface Wish {
  /** The name of the lock, in base64. */
  readonly key: string;
  readonly endpoints: readonly string[];
  readonly ttl: number;
  /** So long after a renewal was sent the lock is surely ours, and there is time to end the program. */
  readonly validMs: number;
}

interface Watcher {
  onChange(quorate: boolean): void;
  onProblem(error: SamError): void;
  readonly ended: AbortSignal;
}

/** The wish of one program to hold a lock: one lease after the other, each kept alive for as long as etcd has it. */
class Campaign {
  readonly #wish: Wish;
  readonly #watcher: Watcher;
  readonly #ended: AbortSignal;
  #endpoint = 0;
  #told = false;
  #complained = false;

  constructor(wish: Wish, watcher: Watcher) {
    this.#wish = wish;
    this.#watcher = watcher;
    this.#ended = watcher.ended;
  }

  async run(): Promise<void> {
    this.#watcher.onChange(false);
    while (!this.#ended.aborted) {
      try {
        const sentAt = performance.now();
        const { ID } = await this.#ask("lease/grant", { TTL: this.#wish.ttl }, answerMs);
        if (typeof ID === "string") await this.#keep(ID, sentAt);
      } catch (error) {
        this.#complain(error);
        await pause(retryMs, this.#ended);
      }
    }
  }

  /** Renews a lease until etcd no longer has it. It is not given back on a loss: the program is still being ended. */
  async #keep(ID: string, renewedAt: number): Promise<void> {
    const over = new AbortController();
    const signal = AbortSignal.any([over.signal, this.#ended]);
    let locked = false;
    const left = () => renewedAt + this.#wish.validMs - performance.now();
    const tell = () => this.#tell(locked && left() > 0);
    // Answered when those who asked before are gone.
    const lock = async () => {
      while (!signal.aborted && !locked) {
        try {
          await this.#ask("lock/lock", { name: this.#wish.key, lease: ID }, undefined, signal);
          locked = true;
        } catch {
          await pause(retryMs, signal);
        }
      }
      tell();
    };
    const waiting = lock();
    try {
      while (!this.#ended.aborted) {
        const pauseMs = left() > 0 ? Math.min(this.#wish.validMs / 4, left()) : retryMs;
        await pause(pauseMs, this.#ended);
        tell();
        const sentAt = performance.now();
        try {
          const limitMs = left() > 0 ? Math.min(left(), answerMs) : answerMs;
          const { result } = await this.#ask("lease/keepalive", { ID }, limitMs);
          if (!(Number((result as { TTL?: string }).TTL) > 0)) return; // etcd has it no more
          renewedAt = sentAt;
          this.#complained = false;
        } catch (error) {
          this.#complain(error);
        }
        tell();
      }
    } finally {
      locked = false;
      over.abort();
      await waiting;
      this.#tell(false);
      // An orderly end: whoever waits need not wait until the lease is over.
      if (this.#ended.aborted) await this.#revoke(ID);
    }
  }

  async #revoke(ID: string): Promise<void> {
    try {
      await this.#ask("lease/revoke", { ID }, answerMs, AbortSignal.timeout(answerMs));
    } catch {
      // it ends by itself
    }
  }

  #tell(quorate: boolean): void {
    if (quorate === this.#told || this.#ended.aborted) return;
    this.#told = quorate;
    this.#watcher.onChange(quorate);
  }

  /** Says, once until etcd answers again, that it does not. The next endpoint is asked, and so on. */
  #complain(cause: unknown): void {
    if (this.#complained || this.#ended.aborted) return;
    this.#complained = true;
    const why = cause instanceof Error ? cause.message : String(cause);
    const error = new SamError("TRY_AGAIN", `etcd does not answer: ${why}`, { cause });
    this.#watcher.onProblem(error);
  }

  async #ask(
    call: string,
    body: object,
    limitMs: number | undefined,
    signal: AbortSignal = this.#ended,
  ): Promise<Record<string, unknown>> {
    const { endpoints } = this.#wish;
    const endpoint = endpoints[this.#endpoint % endpoints.length];
    const signals = limitMs === undefined
      ? [signal]
      : [signal, AbortSignal.timeout(Math.ceil(limitMs))];
    try {
      const response = await fetch(`${endpoint}/v3/${call}`, {
        method: "POST",
        body: JSON.stringify(body),
        signal: AbortSignal.any(signals),
      });
      const answer = await response.json() as Record<string, unknown>;
      if (!response.ok) throw new SamError("LIBRARY", `etcd: ${call}: ${answer["error"]}`);
      return answer;
    } catch (error) {
      if (!signal.aborted) this.#endpoint++;
      throw error;
    }
  }
}

/** The form in which etcd's gateway takes keys. */
function base64(text: string): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

/** Resolved after `ms` milliseconds, or when `signal` is aborted. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}
