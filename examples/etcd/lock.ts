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
  if (name === "") throw new SamError("INVALID_PARAM", "the name of an etcd lock is empty");
  if (endpoints.length === 0) throw new SamError("INVALID_PARAM", "endpoints is empty");
  if (!(Number.isInteger(ttl) && ttl >= 2)) {
    throw new SamError("INVALID_PARAM", `ttl is ${ttl}; it must be whole seconds, at least 2`);
  }
  if (!(handover >= 0 && handover < ttl * 1000)) {
    throw new SamError("INVALID_PARAM", `handover is ${handover}; it must be below ttl, in ms`);
  }
  return {
    watch(onChange) {
      const ended = new AbortController();
      void new Campaign(name, endpoints, ttl, handover, onChange, ended.signal).run();
      return () => ended.abort();
    },
  };
}

/** The wish of one program to hold a lock: one lease after the other, each kept alive for as long as etcd has it. */
class Campaign {
  readonly #name: string;
  readonly #endpoints: readonly string[];
  readonly #ttl: number;
  /** So long after a renewal was sent the lock is surely ours, and there is time to end the program. */
  readonly #validMs: number;
  readonly #onChange: (quorate: boolean) => void;
  readonly #ended: AbortSignal;
  #endpoint = 0;
  #told = false;

  constructor(
    name: string,
    endpoints: readonly string[],
    ttl: number,
    handover: number,
    onChange: (quorate: boolean) => void,
    ended: AbortSignal,
  ) {
    this.#name = name;
    this.#endpoints = endpoints;
    this.#ttl = ttl;
    this.#validMs = ttl * 1000 - handover;
    this.#onChange = onChange;
    this.#ended = ended;
  }

  async run(): Promise<void> {
    this.#onChange(false);
    while (!this.#ended.aborted) {
      try {
        const sentAt = performance.now();
        const { ID } = await this.#ask("lease/grant", { TTL: this.#ttl }, answerMs);
        if (typeof ID === "string") await this.#keep(ID, sentAt);
      } catch {
        await pause(retryMs, this.#ended); // nobody answers: the next endpoint
      }
    }
  }

  /** Renews a lease until etcd no longer has it. It is not given back on a loss: the program is still being ended. */
  async #keep(ID: string, renewedAt: number): Promise<void> {
    const over = new AbortController();
    const signal = AbortSignal.any([over.signal, this.#ended]);
    let locked = false;
    const left = () => renewedAt + this.#validMs - performance.now();
    const tell = () => this.#tell(locked && left() > 0);
    // Answered when those who asked before are gone.
    const lock = async () => {
      while (!signal.aborted && !locked) {
        try {
          await this.#ask("lock/lock", { name: btoa(this.#name), lease: ID }, undefined, signal);
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
        const pauseMs = left() > 0 ? Math.min(this.#validMs / 4, left()) : retryMs;
        await pause(pauseMs, this.#ended);
        tell();
        const sentAt = performance.now();
        try {
          const limitMs = left() > 0 ? Math.min(left(), answerMs) : answerMs;
          const { result } = await this.#ask("lease/keepalive", { ID }, limitMs);
          if (!(Number((result as { TTL?: string }).TTL) > 0)) return; // etcd has it no more
          renewedAt = sentAt;
        } catch {
          // no answer: the next endpoint may give one
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
    this.#onChange(quorate);
  }

  async #ask(
    call: string,
    body: object,
    limitMs: number | undefined,
    signal: AbortSignal = this.#ended,
  ): Promise<Record<string, unknown>> {
    const endpoint = this.#endpoints[this.#endpoint % this.#endpoints.length];
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
