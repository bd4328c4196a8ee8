/** Numbered deadlines. The server sets one timer for the earliest of them. */

/**
 * A fixed number of deadlines, each of which is set or not. They are in an array and not in a heap, because they are few, and
 * every heartbeat moves one.
 */
export class Deadlines {
  readonly #at: number[];
  #next = Infinity;

  constructor(count: number) {
    this.#at = new Array<number>(count).fill(Infinity);
  }

  /** The earliest deadline; Infinity if none is set. */
  get next(): number {
    return this.#next;
  }

  /** True if a deadline is set. */
  has(number: number): boolean {
    return this.#at[number] !== Infinity;
  }

  /** Time of a deadline; Infinity if it is not set. */
  at(number: number): number {
    return this.#at[number]!;
  }

  /** Sets or moves a deadline. */
  set(number: number, at: number): void {
    this.#at[number] = at;
    this.#findNext();
  }

  /** Removes deadlines. */
  clear(...numbers: readonly number[]): void {
    for (const number of numbers) this.#at[number] = Infinity;
    this.#findNext();
  }

  /** Removes all deadlines. */
  clearAll(): void {
    this.#at.fill(Infinity);
    this.#next = Infinity;
  }

  /** Removes one passed deadline, that with the lowest number, and returns its number; -1 if none has passed. */
  takeDue(now: number): number {
    const due = this.#at.findIndex((at) => at <= now);
    if (due >= 0) this.clear(due);
    return due;
  }

  /** Moves all deadlines by `ms` milliseconds. */
  shift(ms: number): void {
    for (const [number, at] of this.#at.entries()) this.#at[number] = at + ms;
    this.#findNext();
  }

  #findNext(): void {
    let next = Infinity;
    for (let number = 0; number < this.#at.length; number++) {
      if (this.#at[number]! < next) next = this.#at[number]!;
    }
    this.#next = next;
  }
}
