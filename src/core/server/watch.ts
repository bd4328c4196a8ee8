/**
 * Every deadline of one instance. A watch knows when the next sign of life is due, and how much more time the instance gets
 * when its silence is not its own fault: the server was stalled, or the machine gave the process no CPU time. The machine asks
 * which timer has run out, and decides what follows.
 */
import { Deadlines } from "./deadlines.ts";
import type { SlackCounter } from "./slack.ts";
import type { ServerSettings } from "./types.ts";

/** The timers. If several run out at once, the lowest number counts. */
const timer = {
  /** When to start the next instance. */
  backoff: 0,
  /** When to kill a process that was warned. */
  grace: 1,
  /** When to answer `register()` although the cluster map does not show the process yet. */
  map: 2,
  /** When to recover a process that has not called `start()`. */
  startup: 3,
  /** When to recover a process that sent no heartbeat. */
  liveness: 4,
  /** When to recover a process whose health check gave no answer. */
  check: 5,
  /** When to recover a process that closed its link and did not exit. */
  lostLink: 6,
} as const;

/** The name of a timer. */
export type Timer = keyof typeof timer;

const timerNames = Object.keys(timer) as Timer[];

/** How long a process may live without its link, with time interval 0. */
const lostLinkMs = 1000;
/** How long `register()` waits for the cluster map. */
const maxMapMs = 1000;
/** A deadline met this late shows that the server was stalled. */
const leastStallMs = 10;
/** With a long time interval this lateness is a stall, although it is a small part of the interval. */
const sureStallMs = 50;
/** The kernel counts CPU time in steps of 1 to 10 ms. Over shorter spans its accounting is too coarse to judge. */
const leastDoubtMs = 20;

/** The deadlines of one instance. */
export class Watch {
  readonly #settings: ServerSettings;
  readonly #slack: SlackCounter;
  readonly #deadlines = new Deadlines(timerNames.length);
  #lastHeartbeat: number | null = null;
  /** When the event loop last showed that it turns, before `start()` or after the warning. */
  #turnedAt: number | null = null;
  /** The grace period was shortened because the event loop is blocked. */
  #isGraceShort = false;
  /** A stall was forgiven. The next sign of life resets it: a short stall is forgiven once. */
  #hasCredit = false;
  /** Since its last sign of life, the process got more time because it had no CPU time. */
  #isStarved = false;
  /** When the server last had nothing overdue: a stall began after that. */
  #punctualAt: number;

  constructor(settings: ServerSettings, slack: SlackCounter, now: number) {
    this.#settings = settings;
    this.#slack = slack;
    this.#punctualAt = now;
  }

  // Queries.

  /** When the next timer runs out; Infinity if none is set. */
  get next(): number {
    return this.#deadlines.next;
  }

  /** When the instance was last known healthy; null before its first sign of life. */
  get lastHeartbeat(): number | null {
    return this.#lastHeartbeat;
  }

  /** When the process will have been silent for too long; Infinity while no sign of life is expected. */
  get silenceAt(): number {
    return Math.min(this.#deadlines.at(timer.liveness), this.#deadlines.at(timer.check));
  }

  /**
   * When a silent process comes into doubt. If the driver sees that the process got no CPU time, or waited for the disk, from
   * then to `silenceAt`, it says so with the input `starved`. Infinity if the time interval is too short to see that.
   */
  get doubtAt(): number {
    const doubtMs = this.#settings.timeInterval / 4;
    return doubtMs < leastDoubtMs ? Infinity : this.silenceAt - doubtMs;
  }

  /** Milliseconds between the warning and the kill in a recovery. */
  get recoveryGraceMs(): number {
    return this.#settings.timeInterval || this.#settings.stopTimeout;
  }

  /** True if the event loop of a process that has not started turned within the last time interval. */
  isLoopTurning(now: number): boolean {
    return this.#turnedAt !== null &&
      now - this.#turnedAt < (this.#settings.timeInterval || Infinity);
  }

  // Timers begin and end.

  /** The process must call `start()` within the startup timeout. */
  limitStartup(now: number): void {
    const { startupTimeout } = this.#settings;
    if (startupTimeout === 0 || this.#deadlines.has(timer.startup)) return;
    this.#deadlines.set(timer.startup, now + startupTimeout);
  }

  /** `start()` was called: nothing limits how long it waits for quorum. */
  endStartup(): void {
    this.#deadlines.clear(timer.startup);
  }

  /** The instance must send heartbeats from now on. */
  begin(now: number): void {
    this.#deadlines.clear(timer.startup);
    this.#expectHeartbeat(now);
  }

  /** The instance is not watched any more. */
  end(): void {
    this.#deadlines.clear(timer.liveness, timer.check, timer.lostLink, timer.startup);
  }

  /** The health check must answer within one time interval. */
  beginCheck(now: number): void {
    const { timeInterval } = this.#settings;
    if (timeInterval > 0) this.#deadlines.set(timer.check, now + timeInterval);
  }

  /** The health check has answered. */
  endCheck(): void {
    this.#deadlines.clear(timer.check);
  }

  /** The cluster map must show the process soon, or `register()` is answered without it. */
  awaitMap(now: number): void {
    this.#deadlines.set(timer.map, now + maxMapMs);
  }

  /** `register()` has been answered. */
  endMap(): void {
    this.#deadlines.clear(timer.map);
  }

  /** The link has ended: the process must exit soon. */
  awaitExit(now: number): void {
    this.#deadlines.set(timer.lostLink, now + (this.#settings.timeInterval || lostLinkMs));
  }

  /** The process has been warned: nothing else is expected of it but its exit. */
  beginGrace(graceMs: number, now: number): void {
    this.#deadlines.clearAll();
    this.#deadlines.set(timer.grace, now + graceMs);
  }

  /** The next instance starts after the backoff. */
  beginBackoff(delayMs: number, now: number): void {
    this.#deadlines.set(timer.backoff, now + delayMs);
  }

  /** Nothing is expected of the process any more. */
  clear(): void {
    this.#deadlines.clearAll();
  }

  /** Ends the first timer that has run out, and returns its name; undefined if none has. */
  takeDue(now: number): Timer | undefined {
    return timerNames[this.#deadlines.takeDue(now)];
  }

  // Signs of life.

  /** Takes a sign of life: a heartbeat, a message of the event loop, a healthy answer of the check. */
  confirm(now: number): void {
    const { timeInterval } = this.#settings;
    if (timeInterval > 0) {
      const at = this.#deadlines.at(timer.liveness);
      // Under `observe` a missed deadline is reported, and not set again.
      this.#slack.add((at === Infinity ? this.#lastHeartbeat! + timeInterval : at) - now);
    }
    this.#expectHeartbeat(now);
  }

  #expectHeartbeat(now: number): void {
    const { timeInterval, heartbeatWindow } = this.#settings;
    this.#hasCredit = this.#isStarved = false;
    this.#lastHeartbeat = now;
    if (timeInterval > 0) this.#deadlines.set(timer.liveness, now + timeInterval + heartbeatWindow);
  }

  /** The event loop turns, of a process that has not started, or that was warned: it gets its whole grace period back. */
  noteTurn(now: number): void {
    this.#turnedAt = now;
    if (!this.#isGraceShort || !this.#deadlines.has(timer.grace)) return;
    this.#isGraceShort = false;
    this.#deadlines.set(timer.grace, now + this.#settings.timeInterval);
  }

  // More time, or less.

  /**
   * The event loop of a process that was warned at `warnedAt` is blocked. No handler of the warn signal can run, so a quarter
   * of the time interval is grace enough. A loop that has turned since the warning keeps its whole grace period.
   */
  shortenGrace(warnedAt: number, now: number): void {
    const { timeInterval } = this.#settings;
    if (timeInterval === 0 || !this.#deadlines.has(timer.grace)) return;
    const turnedAt = Math.max(this.#lastHeartbeat ?? -Infinity, this.#turnedAt ?? -Infinity);
    // An event loop that turns says so four times in a time interval.
    if (turnedAt >= warnedAt || now - turnedAt < timeInterval / 2) return;
    this.#isGraceShort = true;
    this.#deadlines.set(
      timer.grace,
      Math.min(this.#deadlines.at(timer.grace), now + timeInterval / 4),
    );
  }

  /** The process got no CPU time: its next sign of life may come `waitMs` later. Returns true the first time. */
  giveTime(waitMs: number, now: number): boolean {
    if (this.silenceAt > now) return false;
    for (const each of [timer.liveness, timer.check]) {
      const at = this.#deadlines.at(each);
      if (at !== Infinity) this.#deadlines.set(each, Math.max(at, now + waitMs));
    }
    const isFirst = !this.#isStarved;
    this.#isStarved = true;
    return isFirst;
  }

  /**
   * A late tick shows that this server was stopped, suspended or starved. The process is not to blame for what the server
   * missed, so all timers move. Returns how late the tick is, in milliseconds; 0 if that is no stall.
   */
  forgiveStall(now: number): number {
    const { timeInterval } = this.#settings;
    const due = this.#deadlines.next;
    // Without a process there is nothing to forgive.
    if (due === Infinity || this.#deadlines.has(timer.backoff)) return 0;
    const lateMs = now - due;
    if (lateMs < Math.max(leastStallMs, Math.min(timeInterval / 4, sureStallMs))) return 0;
    if (this.#hasCredit && lateMs < Math.max(timeInterval, 2 * sureStallMs)) return 0;
    this.#hasCredit = true;
    // The stall may have begun before the deadline, at the earliest when the server was last punctual.
    const shift = lateMs + Math.min(lateMs, due - this.#punctualAt);
    this.#deadlines.shift(shift);
    if (this.#turnedAt !== null) this.#turnedAt = Math.min(now, this.#turnedAt + shift);
    return lateMs;
  }

  /** The server has finished a step. If no deadline has passed, a stall can only begin after `now`. */
  notePunctual(now: number): void {
    if (now < this.#deadlines.next) this.#punctualAt = now;
  }
}
