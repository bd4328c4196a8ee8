/**
 * The HTTP requests of a program that wait for their response. Notices when requests wait, and none has finished for a time: for
 * example when each of them waits for a connection to the database.
 *
 * A request has finished when its response begins. What follows, such as a stream of events, is not counted. A request that the
 * client has aborted waits no more, but has not finished. Like the state machines, this one gets the time as an argument. Only
 * `tick()` needs the time: to read a clock for each request would take longer than all the rest.
 */
import type { ClientMessage } from "../wire.ts";

/** The functions that look at the requests of one kind of server. */
export interface RequestKind<Request extends object> {
  /**
   * The state of a request: `begun` if its response has begun, `gone` if the client has aborted it or it was upgraded. `isDue` is
   * true if no request has finished for too long. Only then may the look cost more, and its result may be one look late.
   */
  readonly look: (request: Request, isDue: boolean) => "waiting" | "begun" | "gone";
  /** The method of a request, and its URL or path. */
  readonly describe: (request: Request) => readonly [method: string, url: string];
}

/** A message for the server. */
export type ProgressFact = ClientMessage & { readonly type: "progress" };

interface WaitingRequest {
  /** Time of the first tick after the request has arrived; null before. */
  since: number | null;
  // The kind fits the request.
  // deno-lint-ignore no-explicit-any
  readonly kind: RequestKind<any>;
}

/** The longest part of a path that is shown, in characters. */
const maxPath = 200;
/** The longest method that is shown, in characters. */
const maxMethod = 20;

/** Milliseconds between two ticks. */
export function tickMsOf(limitMs: number): number {
  return Math.min(1000, Math.max(100, limitMs / 10));
}

/** The waiting requests of one program. */
export class RequestProgress {
  readonly #limitMs: number;
  readonly #waiting = new Map<object, WaitingRequest>();
  /** The first tick since which requests have been waiting without a finished one. Without a waiting request, it has no meaning. */
  #waitingSince = 0;
  #tickedAt: number;
  /** True if the limit had passed at the last tick. */
  #wasDue = false;
  /** True after a message with `healthy` false. */
  #isStuck = false;
  /** True if a request has finished since the last tick. */
  #hasFinished = false;
  /** True if there was a moment without a waiting request since the last tick. */
  #wasIdle = true;

  constructor(limitMs: number, now: number) {
    this.#limitMs = limitMs;
    this.#tickedAt = now;
  }

  /** A request has arrived. */
  begin<Request extends object>(request: Request, kind: RequestKind<Request>): void {
    if (this.#waiting.size === 0) this.#wasIdle = true;
    this.#waiting.set(request, { since: null, kind });
  }

  /** The response to a request has begun. Does nothing if it is known to have begun. */
  finish(request: object): void {
    if (this.#waiting.delete(request)) this.#hasFinished = true;
  }

  /** A request waits no more, and has not finished. */
  remove(request: object): void {
    this.#waiting.delete(request);
  }

  /** Looks at the requests. Must be called every `tickMsOf()` milliseconds. Returns a message if the state has changed. */
  tick(now: number): ProgressFact | undefined {
    const lateMs = now - this.#tickedAt - tickMsOf(this.#limitMs);
    this.#tickedAt = now;
    // The event loop was blocked, or the process got no CPU time: the handlers could not finish either.
    if (lateMs > 0) this.#waitingSince = Math.min(now, this.#waitingSince + lateMs);
    const wasDue = this.#wasDue;
    this.#look(now, this.#isStuck || this.#isDue(now));
    const hasFinished = this.#hasFinished;
    if (hasFinished || this.#wasIdle) this.#waitingSince = now;
    this.#hasFinished = this.#wasIdle = false;
    this.#wasDue = this.#isDue(now);
    if (this.#isStuck) {
      if (!hasFinished && this.#waiting.size > 0) return undefined;
      this.#isStuck = false;
      return { type: "progress", healthy: true, detail: "" };
    }
    // The second look knows of all requests that their clients have aborted.
    if (!wasDue || !this.#wasDue) return undefined;
    this.#isStuck = true;
    return { type: "progress", healthy: false, detail: this.#describe(now) };
  }

  #isDue(now: number): boolean {
    return this.#waiting.size > 0 && now - this.#waitingSince >= this.#limitMs;
  }

  #look(now: number, isDue: boolean): void {
    for (const [request, waiting] of this.#waiting) {
      waiting.since ??= now;
      const state = waiting.kind.look(request, isDue);
      if (state === "begun") this.finish(request);
      else if (state === "gone") this.remove(request);
    }
  }

  #describe(now: number): string {
    const [request, { since, kind }] = this.#waiting.entries().next().value!; // the oldest
    const [method, url] = kind.describe(request);
    const count = this.#waiting.size;
    return `no HTTP request has finished for ${seconds(now - this.#waitingSince)}; ` +
      `the ${count === 1 ? "only one that waits" : `oldest of ${count}`}: ` +
      `${method.slice(0, maxMethod)} ${pathOf(url)}, since ${seconds(now - (since ?? now))}`;
  }
}

/** The path of a URL, without the query string. */
function pathOf(url: string): string {
  return url.replace(/^[a-z]+:\/\/[^/?#]*/i, "").replace(/[?#].*$/s, "").slice(0, maxPath);
}

/** A time in seconds, as messages show it: `1.5 s`, `30 s`. */
function seconds(ms: number): string {
  return `${ms < 9950 ? Math.round(ms / 100) / 10 : Math.round(ms / 1000)} s`;
}
