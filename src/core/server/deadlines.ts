/** Named points in time. The server sets one timer for the earliest. */

/** A set of deadlines, each of which is set or not. */
export class Deadlines<Name extends string> {
  readonly #at = new Map<Name, number>();

  /** The earliest deadline; Infinity if none is set. */
  get next(): number {
    let next = Infinity;
    for (const at of this.#at.values()) if (at < next) next = at;
    return next;
  }

  /** True if a deadline is set. */
  has(name: Name): boolean {
    return this.#at.has(name);
  }

  /** When a deadline passes; Infinity if it is not set. */
  at(name: Name): number {
    return this.#at.get(name) ?? Infinity;
  }

  /** Sets a deadline, or moves it. */
  set(name: Name, at: number): void {
    this.#at.set(name, at);
  }

  /** Removes deadlines; all of them if none is named. */
  clear(...names: Name[]): void {
    if (names.length === 0) this.#at.clear();
    for (const name of names) this.#at.delete(name);
  }

  /** Removes a deadline that has passed, and returns true; false if it has not. */
  due(name: Name, now: number): boolean {
    const at = this.#at.get(name);
    return at !== undefined && at <= now && this.#at.delete(name);
  }

  /** Moves all deadlines by `ms` milliseconds. */
  shift(ms: number): void {
    for (const [name, at] of this.#at) this.#at.set(name, at + ms);
  }
}
