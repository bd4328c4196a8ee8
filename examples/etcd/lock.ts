/**
 * A lock in etcd as a quorum source for SAM. Of all programs that use the same lock, on any machine, only one gets past
 * `start()`. If the holder cannot reach etcd, SAM ends its program before another program can get the lock.
 *
 * The code talks to etcd's HTTP gateway (etcd 3.4 or later) with `fetch`. Copy it into your program, and change it as you
 * need.
 */
import { type QuorumSource, SamError } from "../../mod.ts"; // in your program: "@x/sam"

export interface EtcdLockOptions {
  /** The addresses of etcd. If one does not answer, the next one is used. Default `["http://127.0.0.1:2379"]`. */
  readonly endpoints?: readonly string[];
  /** Seconds without a renewal after which etcd takes the lock from its holder. Default 10. */
  readonly ttl?: number;
  /**
   * Milliseconds by which the lock counts as lost earlier here than in etcd. The program must end within this time, so set
   * at least the time interval (with a time interval of 0: `stopTimeout`). Default half of `ttl`.
   */
  readonly handover?: number;
}

/** The time limit for an answer, if the lease does not set a shorter one. */
const answerMs = 2000;
/** The pause before the next attempt, if etcd does not answer. */
const retryMs = 250;

/** A quorum source that is quorate while this side holds the lock `name`. */
export function etcdLock(name: string, options: EtcdLockOptions = {}): QuorumSource {
  const { endpoints = ["http://127.0.0.1:2379"], ttl = 10, handover = ttl * 500 } = options;
  if (typeof name !== "string" || name === "") {
    throw new SamError("INVALID_PARAM", "the name of an etcd lock must be a non-empty string");
  }
  if (endpoints.length === 0) {
    throw new SamError("INVALID_PARAM", "endpoints is empty: it must have at least one address");
  }
  if (!(Number.isInteger(ttl) && ttl >= 2)) {
    throw new SamError(
      "INVALID_PARAM",
      `ttl is ${ttl}: it must be an integer number of seconds, at least 2`,
    );
  }
  if (!(handover >= 0 && handover < ttl * 1000)) {
    throw new SamError(
      "INVALID_PARAM",
      `handover is ${handover}: it must be less than ttl, in milliseconds`,
    );
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
        return over; // resolves when the lock is released
      };
    },
  };
}

interface LockRequest {
  /** The name of the lock, in base64. */
  readonly key: string;
  readonly endpoints: readonly string[];
  readonly ttl: number;
  /** The time after a renewal for which the lock is certainly held and enough time is left to end the program. */
  readonly validMs: number;
}

interface Watcher {
  onChange(quorate: boolean): void;
  onProblem(error: SamError): void;
  readonly ended: AbortSignal;
}

/** Competes for a lock for one program. It uses one lease after the other, and renews each one as long as etcd has it. */
class Campaign {
  readonly #request: LockRequest;
  readonly #watcher: Watcher;
  readonly #ended: AbortSignal;
  #endpoint = 0;
  #reported = false;
  #hasReportedProblem = false;

  constructor(request: LockRequest, watcher: Watcher) {
    this.#request = request;
    this.#watcher = watcher;
    this.#ended = watcher.ended;
  }

  async run(): Promise<void> {
    this.#watcher.onChange(false);
    while (!this.#ended.aborted) {
      try {
        const sentAt = performance.now();
        const { ID } = await this.#ask("lease/grant", { TTL: this.#request.ttl }, answerMs);
        if (typeof ID === "string") await this.#renew(ID, sentAt);
      } catch (error) {
        this.#reportProblem(error);
        await pause(retryMs, this.#ended);
      }
    }
  }

  /**
   * Renews a lease until etcd no longer has it. After a loss the lease is not revoked, because the program is still
   * ending.
   */
  async #renew(ID: string, renewedAt: number): Promise<void> {
    const over = new AbortController();
    const signal = AbortSignal.any([over.signal, this.#ended]);
    let locked = false;
    const left = () => renewedAt + this.#request.validMs - performance.now();
    const report = () => this.#report(locked && left() > 0);
    // etcd answers when all earlier requests for the lock are gone.
    const lock = async () => {
      while (!signal.aborted && !locked) {
        try {
          await this.#ask("lock/lock", { name: this.#request.key, lease: ID }, undefined, signal);
          locked = true;
        } catch {
          await pause(retryMs, signal);
        }
      }
      report();
    };
    const waiting = lock();
    try {
      while (!this.#ended.aborted) {
        const pauseMs = left() > 0 ? Math.min(this.#request.validMs / 4, left()) : retryMs;
        await pause(pauseMs, this.#ended);
        report();
        const sentAt = performance.now();
        try {
          const limitMs = left() > 0 ? Math.min(left(), answerMs) : answerMs;
          const { result } = await this.#ask("lease/keepalive", { ID }, limitMs);
          if (!(Number((result as { TTL?: string }).TTL) > 0)) return; // etcd no longer has the lease
          renewedAt = sentAt;
          this.#hasReportedProblem = false;
        } catch (error) {
          this.#reportProblem(error);
        }
        report();
      }
    } finally {
      locked = false;
      over.abort();
      await waiting;
      this.#report(false);
      // After an orderly end the lease is revoked, so that the next program does not have to wait until it expires.
      if (this.#ended.aborted) await this.#revoke(ID);
    }
  }

  async #revoke(ID: string): Promise<void> {
    try {
      await this.#ask("lease/revoke", { ID }, answerMs, AbortSignal.timeout(answerMs));
    } catch {
      // the lease then expires by itself
    }
  }

  #report(quorate: boolean): void {
    if (quorate === this.#reported || this.#ended.aborted) return;
    this.#reported = quorate;
    this.#watcher.onChange(quorate);
  }

  /** Reports that etcd does not answer, once until it answers again. */
  #reportProblem(cause: unknown): void {
    if (this.#hasReportedProblem || this.#ended.aborted) return;
    this.#hasReportedProblem = true;
    const why = cause instanceof Error ? cause.message : String(cause);
    const error = new SamError("TRY_AGAIN", `etcd does not answer, the lock tries again: ${why}`, {
      cause,
    });
    this.#watcher.onProblem(error);
  }

  async #ask(
    call: string,
    body: object,
    limitMs: number | undefined,
    signal: AbortSignal = this.#ended,
  ): Promise<Record<string, unknown>> {
    const { endpoints } = this.#request;
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

/** Encodes a key for etcd's gateway. */
function base64(text: string): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

/** Resolves after `ms` milliseconds, or when `signal` is aborted. */
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
