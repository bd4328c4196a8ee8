/**
 * What the cluster map shows about the program, and when: keys below `resources.process.<pid>.`, with the names and values
 * that libsam writes. `register()` is answered once the map shows the process, so the answer waits here.
 */
import type { ServerMessage } from "../wire.ts";
import type { MapKeys, ServerEffect, ServerSettings } from "./types.ts";

/** Heartbeats move `last_updated` once in an eighth of the time interval, within these limits in milliseconds. */
const updateMs = { least: 10, most: 1000 };

/** Writes the program's keys in the cluster map, if the server has one. */
export class MapWriter {
  readonly #hasMap: boolean;
  readonly #timeInterval: number;
  /** Heartbeats move `last_updated` at most once in so many milliseconds. */
  readonly #updateMs: number;
  readonly #push: (effect: ServerEffect) => void;
  #updatedAt = -Infinity;
  /** The state that the map shows; null before it shows any. */
  #shown: MapKeys["state"] | null = null;
  /** The map let a `register()` wait for too long. No other waits until the map answers. */
  #isSilent = false;
  /** The answer to a `register()` that waits until the map shows the process. */
  #heldWelcome: ServerMessage | null = null;

  constructor(settings: ServerSettings, push: (effect: ServerEffect) => void) {
    this.#hasMap = settings.hasClusterMap;
    this.#timeInterval = settings.timeInterval;
    this.#updateMs = Math.max(
      updateMs.least,
      Math.min(settings.timeInterval / 8, updateMs.most),
    );
    this.#push = push;
  }

  /**
   * When to move `last_updated` of a started instance that need not send heartbeats (time interval 0): Corosync's watchdog
   * looks at it. Infinity where heartbeats move it.
   */
  get refreshAt(): number {
    return this.#hasMap && this.#timeInterval === 0 ? this.#updatedAt + updateMs.most : Infinity;
  }

  /** True if the answer to `register()` should wait for the map. */
  get answers(): boolean {
    return this.#hasMap && !this.#isSilent;
  }

  /** Shows some keys, and that they were updated now. */
  show(keys: MapKeys, now: number): void {
    this.#updatedAt = now;
    this.#write({ ...keys, lastUpdated: now });
  }

  /** The process has registered: the keys of libsam's `sam_initialize()`, which leaves `last_updated` alone. */
  showRegistered(recovery: "quit" | "restart"): void {
    this.#write({ recovery, pollPeriod: BigInt(this.#timeInterval), state: "stopped" });
  }

  /** A sign of life moves `last_updated`, unless that moved a short time ago. */
  touch(now: number): void {
    if (this.#hasMap && now - this.#updatedAt >= this.#updateMs) this.show({}, now);
  }

  /** Supervision has ended: the keys of a program that was stopped are deleted, those of a failed one stay. */
  end(): void {
    if (this.#shown === "stopped") this.#push({ type: "unmap" });
  }

  #write(keys: MapKeys): void {
    if (!this.#hasMap) return;
    this.#shown = keys.state ?? this.#shown;
    this.#push({ type: "map", keys });
  }

  // The answer to register().

  /** Keeps the answer to `register()` until the map shows the process. */
  holdWelcome(welcome: ServerMessage): void {
    this.#heldWelcome = welcome;
  }

  /** Returns the answer that waits, and forgets it; null if none waits. */
  takeWelcome(): ServerMessage | null {
    const welcome = this.#heldWelcome;
    this.#heldWelcome = null;
    return welcome;
  }

  /** Notes whether the map has answered, or has not in time. */
  noteAnswer(hasAnswered: boolean): void {
    this.#isSilent = !hasAnswered;
  }
}
