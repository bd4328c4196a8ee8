/**
 * The keys of the program in the cluster map, below `resources.process.<pid>.`, with the names and values that libsam writes.
 * `MapWriter` also holds back the answer to `register()`, so that the program goes on only when the map shows it.
 */
import type { ServerMessage } from "../wire.ts";
import type { MapKeys, ServerEffect, ServerSettings } from "./types.ts";

/** `last_updated` is updated every 1/8 of the time interval, but within these limits, in milliseconds. */
const updateLimitsMs = { least: 10, most: 1000 };

/** Writes the program's keys in the cluster map, if the server has one. */
export class MapWriter {
  readonly #hasMap: boolean;
  readonly #timeInterval: number;
  /** Least time between two updates of `last_updated` by heartbeats, in milliseconds. */
  readonly #updateMs: number;
  readonly #push: (effect: ServerEffect) => void;
  #updatedAt = -Infinity;
  /** The state that the map shows; null before it shows one. */
  #shown: MapKeys["state"] | null = null;
  /** True if a `register()` waited too long for the map. Until the map answers, no other `register()` waits for it. */
  #isUnresponsive = false;
  /** Answer to `register()` that waits until the map shows the process; null if none waits. */
  #heldWelcome: ServerMessage | null = null;

  constructor(settings: ServerSettings, push: (effect: ServerEffect) => void) {
    this.#hasMap = settings.hasClusterMap;
    this.#timeInterval = settings.timeInterval;
    this.#updateMs = Math.max(
      updateLimitsMs.least,
      Math.min(settings.timeInterval / 8, updateLimitsMs.most),
    );
    this.#push = push;
  }

  /**
   * Time of the next update of `last_updated` without a heartbeat. It is needed if the time interval is 0, because Corosync's
   * watchdog reads that key. Infinity if heartbeats update it.
   */
  get refreshAt(): number {
    return this.#hasMap && this.#timeInterval === 0
      ? this.#updatedAt + updateLimitsMs.most
      : Infinity;
  }

  /** True if the answer to `register()` must wait for the map. */
  get mustAwaitMap(): boolean {
    return this.#hasMap && !this.#isUnresponsive;
  }

  /** Shows these keys, with `last_updated` set to `now`. */
  show(keys: MapKeys, now: number): void {
    this.#updatedAt = now;
    this.#write({ ...keys, lastUpdated: now });
  }

  /** Shows a registered process. Like libsam: no `last_updated`, and the state `stopped`, because it is not watched yet. */
  showRegistered(recovery: "quit" | "restart"): void {
    this.#write({ recovery, pollPeriod: BigInt(this.#timeInterval), state: "stopped" });
  }

  /** Updates `last_updated`. */
  refresh(now: number): void {
    this.show({}, now);
  }

  /** Updates `last_updated` after a heartbeat, unless it was updated a short time ago. */
  touch(now: number): void {
    if (this.#hasMap && now - this.#updatedAt >= this.#updateMs) this.refresh(now);
  }

  /** Supervision has ended: deletes the keys of a stopped program, and leaves those of a failed one. */
  end(): void {
    if (this.#shown === "stopped") this.#push({ type: "unmap" });
  }

  #write(keys: MapKeys): void {
    if (!this.#hasMap) return;
    this.#shown = keys.state ?? this.#shown;
    this.#push({ type: "map", keys });
  }

  // The answer to register().

  /** Holds the answer to `register()` until the map shows the process. */
  holdWelcome(welcome: ServerMessage): void {
    this.#heldWelcome = welcome;
  }

  /** Returns and removes the answer that waits; null if none waits. */
  takeWelcome(): ServerMessage | null {
    const welcome = this.#heldWelcome;
    this.#heldWelcome = null;
    return welcome;
  }

  /** Notes whether the map has answered in time. */
  noteAnswer(hasAnswered: boolean): void {
    this.#isUnresponsive = !hasAnswered;
  }
}
