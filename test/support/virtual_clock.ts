// Virtual time: planned events happen in the order of their time, and in the order of planning at the same time.

interface Happening {
  readonly at: number;
  run: (() => void) | null;
}

/** A clock that moves only when an event happens. */
export class VirtualClock {
  now = 0;
  /** Sorted by time, the next event last. */
  readonly #queue: Happening[] = [];

  /** Plans an event. Returns a function that cancels it. */
  at(time: number, run: () => void): () => void {
    const happening: Happening = { at: Math.max(time, this.now), run };
    let place = this.#queue.length;
    while (place > 0 && this.#queue[place - 1]!.at <= happening.at) place--;
    this.#queue.splice(place, 0, happening);
    return () => happening.run = null;
  }

  /** Lets the next event happen. Returns false when none is planned. */
  next(): boolean {
    let happening = this.#queue.pop();
    while (happening && happening.run === null) happening = this.#queue.pop();
    if (!happening) return false;
    this.now = happening.at;
    happening.run!();
    return true;
  }
}
