/**
 * The deadlines of one instance. A watch also gives the instance more time if a missing heartbeat is not its fault: the server
 * was stalled, or the process got no CPU time. The state machine asks which timer has run out, and decides what follows.
 */
import { Deadlines } from "./deadlines.ts";
import type { SlackCounter } from "./slack.ts";
import type { ServerSettings } from "./types.ts";

/** The timers and their numbers. If several run out at once, the lowest number comes first. */
const timer = {
  /** Starts the next instance. */
  backoff: 0,
  /** Kills a process that was warned. */
  grace: 1,
  /** Answers `register()`, although the cluster map does not show the process yet. */
  map: 2,
  /** Ends a process that has not called `start()`. */
  startup: 3,
  /** Ends a process that has not sent a heartbeat. */
  liveness: 4,
  /** Ends a process whose health check has not answered. */
  check: 5,
  /** Ends a process that has closed its link and not exited. */
  lostLink: 6,
} as const;

/** The name of a timer. */
export type Timer = keyof typeof timer;

const timerNames = Object.keys(timer) as Timer[];

/** Time limit for the exit of a process that closed its link, with time interval 0, in milliseconds. */
const lostLinkMs = 1000;
/** Longest wait of `register()` for the cluster map, in milliseconds. */
const maxMapMs = 1000;
/** A tick that is late by a quarter of the time interval, but at least this many milliseconds, shows a stall of the server. */
const leastStallMs = 10;
/** A tick that is this many milliseconds late always shows a stall, also with a long time interval. */
const sureStallMs = 50;
/** Longest wait for the stack trace of an unresponsive process before a signal, in milliseconds. */
const maxStackMs = 2000;
/** Least time over which CPU time is judged, in milliseconds: the kernel counts it in steps of 1 to 10 ms. */
const leastDoubtMs = 20;

/** The deadlines of one instance. */
export class Watch {
  readonly #settings: ServerSettings;
  readonly #slack: SlackCounter;
  readonly #deadlines = new Deadlines(timerNames.length);
  #lastHeartbeat: number | null = null;
  /** Time of the last event-loop heartbeat before `start()` or after the warning; null if there was none. */
  #loopHeartbeatAt: number | null = null;
  /** True if the grace period was shortened because the event loop is blocked. */
  #isGraceShort = false;
  /** True if the process got more time for a stall since its last heartbeat. It gets none for a second short stall. */
  #hasForgivenStall = false;
  /** True if the process got more time since its last heartbeat, because it had no CPU time. */
  #isStarved = false;
  /** Last time when no deadline was overdue. A stall began after that. */
  #punctualAt: number;

  constructor(settings: ServerSettings, slack: SlackCounter, now: number) {
    this.#settings = settings;
    this.#slack = slack;
    this.#punctualAt = now;
  }

  // Queries.

  /** Time when the next timer runs out; Infinity if none is set. */
  get next(): number {
    return this.#deadlines.next;
  }

  /** Time of the last heartbeat; null before the first one. `start()` counts as a heartbeat. */
  get lastHeartbeat(): number | null {
    return this.#lastHeartbeat;
  }

  /** Time by which the process must send a heartbeat or answer its health check; Infinity while it need not. */
  get responseDueAt(): number {
    return Math.min(this.#deadlines.at(timer.liveness), this.#deadlines.at(timer.check));
  }

  /**
   * Time from which the driver observes a process without heartbeats. If the process gets no CPU time, or waits for the disk,
   * from then until `responseDueAt`, the driver sends the input `starved`. Infinity if the time interval is too short for that.
   */
  get doubtAt(): number {
    const doubtMs = this.#settings.timeInterval / 4;
    return doubtMs < leastDoubtMs ? Infinity : this.responseDueAt - doubtMs;
  }

  /** Grace period of a recovery, in milliseconds. */
  get recoveryGraceMs(): number {
    return this.#settings.timeInterval || this.#settings.stopTimeout;
  }

  /** Time limit for the stack trace of an unresponsive process, in milliseconds. */
  get stackLimitMs(): number {
    return Math.min(maxStackMs, this.recoveryGraceMs);
  }

  /** True if a process that has not started sent an event-loop heartbeat within the last time interval. */
  hasRecentLoopHeartbeat(now: number): boolean {
    return this.#loopHeartbeatAt !== null &&
      now - this.#loopHeartbeatAt < (this.#settings.timeInterval || Infinity);
  }

  // Timers begin and end.

  /** Sets the startup timeout, if it is not set already. */
  limitStartup(now: number): void {
    const { startupTimeout } = this.#settings;
    if (startupTimeout === 0 || this.#deadlines.has(timer.startup)) return;
    this.#deadlines.set(timer.startup, now + startupTimeout);
  }

  /** Removes the startup timeout: `start()` was called, and may wait for quorum without a limit. */
  endStartup(): void {
    this.#deadlines.clear(timer.startup);
  }

  /** Begins the watch: the instance must send heartbeats from now on. */
  begin(now: number): void {
    this.#deadlines.clear(timer.startup);
    this.#expectHeartbeat(now);
  }

  /** Ends the watch. */
  end(): void {
    this.#deadlines.clear(timer.liveness, timer.check, timer.lostLink, timer.startup);
  }

  /** Sets the deadline for the answer of a health check. */
  beginCheck(now: number): void {
    const { timeInterval } = this.#settings;
    if (timeInterval > 0) this.#deadlines.set(timer.check, now + timeInterval);
  }

  /** Removes the deadline of the health check, which has answered. */
  endCheck(): void {
    this.#deadlines.clear(timer.check);
  }

  /** Limits the wait of `register()` for the cluster map. */
  awaitMap(now: number): void {
    this.#deadlines.set(timer.map, now + maxMapMs);
  }

  /** Removes that limit: `register()` was answered. */
  endMap(): void {
    this.#deadlines.clear(timer.map);
  }

  /** Limits the time until the exit: the link has ended. */
  awaitExit(now: number): void {
    this.#deadlines.set(timer.lostLink, now + (this.#settings.timeInterval || lostLinkMs));
  }

  /** Begins the grace period, and removes all other deadlines. */
  beginGrace(graceMs: number, now: number): void {
    this.#deadlines.clearAll();
    this.#deadlines.set(timer.grace, now + graceMs);
  }

  /** Sets the start of the next instance. */
  beginBackoff(delayMs: number, now: number): void {
    this.#deadlines.set(timer.backoff, now + delayMs);
  }

  /** Removes all deadlines. */
  clear(): void {
    this.#deadlines.clearAll();
  }

  /** Removes one timer that has run out, and returns its name; undefined if none has. */
  takeDue(now: number): Timer | undefined {
    return timerNames[this.#deadlines.takeDue(now)];
  }

  // Heartbeats.

  /** Takes a heartbeat. An event-loop heartbeat and a healthy answer of the health check count as well. */
  takeHeartbeat(now: number): void {
    const { timeInterval } = this.#settings;
    if (timeInterval > 0) {
      const at = this.#deadlines.at(timer.liveness);
      // With `observe`, a missed deadline is reported, and not set again.
      this.#slack.add((at === Infinity ? this.#lastHeartbeat! + timeInterval : at) - now);
    }
    this.#expectHeartbeat(now);
  }

  #expectHeartbeat(now: number): void {
    const { timeInterval, heartbeatWindow } = this.#settings;
    this.#hasForgivenStall = this.#isStarved = false;
    this.#lastHeartbeat = now;
    if (timeInterval > 0) this.#deadlines.set(timer.liveness, now + timeInterval + heartbeatWindow);
  }

  /** Takes an event-loop heartbeat before `start()` or after the warning. If the grace period was shortened, it begins anew. */
  noteLoopHeartbeat(now: number): void {
    this.#loopHeartbeatAt = now;
    if (!this.#isGraceShort || !this.#deadlines.has(timer.grace)) return;
    this.#isGraceShort = false;
    this.#deadlines.set(timer.grace, now + this.#settings.timeInterval);
  }

  // More time, or less.

  /**
   * Shortens the grace period of a process that was warned at `warnedAt`, and whose event loop is blocked. No handler of the warn
   * signal can run there, so a quarter of the time interval is enough. If the loop has turned since the warning, nothing changes.
   */
  shortenGrace(warnedAt: number, now: number): void {
    const { timeInterval } = this.#settings;
    if (timeInterval === 0 || !this.#deadlines.has(timer.grace)) return;
    const turnedAt = Math.max(this.#lastHeartbeat ?? -Infinity, this.#loopHeartbeatAt ?? -Infinity);
    // An event loop that turns sends four heartbeats per time interval.
    if (turnedAt >= warnedAt || now - turnedAt < timeInterval / 2) return;
    this.#isGraceShort = true;
    this.#deadlines.set(
      timer.grace,
      Math.min(this.#deadlines.at(timer.grace), now + timeInterval / 4),
    );
  }

  /** Gives a process without CPU time `waitMs` more milliseconds. Returns true the first time since its last heartbeat. */
  giveTime(waitMs: number, now: number): boolean {
    if (this.responseDueAt > now) return false;
    for (const each of [timer.liveness, timer.check]) {
      const at = this.#deadlines.at(each);
      if (at !== Infinity) this.#deadlines.set(each, Math.max(at, now + waitMs));
    }
    const isFirst = !this.#isStarved;
    this.#isStarved = true;
    return isFirst;
  }

  /**
   * Moves all timers if a late tick shows that this server was stopped, suspended or got no CPU time. A stall of the server does
   * not count against the process. Returns the delay of the tick in milliseconds; 0 if there was no stall.
   */
  forgiveStall(now: number): number {
    const { timeInterval } = this.#settings;
    const due = this.#deadlines.next;
    // During the backoff, there is no process.
    if (due === Infinity || this.#deadlines.has(timer.backoff)) return 0;
    const lateMs = now - due;
    if (lateMs < Math.max(leastStallMs, Math.min(timeInterval / 4, sureStallMs))) return 0;
    if (this.#hasForgivenStall && lateMs < Math.max(timeInterval, 2 * sureStallMs)) return 0;
    this.#hasForgivenStall = true;
    // The stall may have begun before the deadline, at the earliest when the server was last punctual.
    const shift = lateMs + Math.min(lateMs, due - this.#punctualAt);
    this.#deadlines.shift(shift);
    if (this.#loopHeartbeatAt !== null) {
      this.#loopHeartbeatAt = Math.min(now, this.#loopHeartbeatAt + shift);
    }
    return lateMs;
  }

  /** Notes the end of a step. If no deadline has passed, a stall can only begin after `now`. */
  notePunctual(now: number): void {
    if (now < this.#deadlines.next) this.#punctualAt = now;
  }
}
