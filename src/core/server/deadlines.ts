/** Named points in time, of which the earliest is the one to be woken for. */

/** A set of deadlines, each of which is set or not. */
export class Deadlines<Name extends string> {
  readonly #at = new Map<Name, number>();

  /** The earliest; undefined where none is set. */
  get next(): number | undefined {
    let next: number | undefined;
    for (const at of this.#at.values()) next = next === undefined ? at : Math.min(next, at);
    return next;
  }

  /** Whether a deadline is set. */
  has(name: Name): boolean {
    return this.#at.has(name);
  }

  /** When a deadline is; undefined where it is not set. */
  at(name: Name): number | undefined {
    return this.#at.get(name);
  }

  /** Sets a deadline, or moves it. */
  set(name: Name, at: number): void {
    this.#at.set(name, at);
  }

  /** Takes deadlines away; all of them where none is named. */
  clear(...names: Name[]): void {
    if (names.length === 0) this.#at.clear();
    for (const name of names) this.#at.delete(name);
  }

  /** Whether a deadline has passed; if so, it is taken away. */
  due(name: Name, now: number): boolean {
    const at = this.#at.get(name);
    return at !== undefined && at <= now && this.#at.delete(name);
  }

  /** Moves all deadlines by so much. */
  shift(ms: number): void {
    for (const [name, at] of this.#at) this.#at.set(name, at + ms);
  }
}
