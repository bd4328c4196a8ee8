// Virtual time: what is to happen, in the order of its time; at the same time, what was planned first comes first.

interface Happening {
  readonly at: number;
  run: (() => void) | null;
}

/** A clock that stands still between two happenings. */
export class VirtualClock {
  now = 0;
  /** The next one is the last. */
  readonly #queue: Happening[] = [];

  /** Plans something; returns its cancellation. */
  at(time: number, run: () => void): () => void {
    const happening: Happening = { at: Math.max(time, this.now), run };
    let place = this.#queue.length;
    while (place > 0 && this.#queue[place - 1]!.at <= happening.at) place--;
    this.#queue.splice(place, 0, happening);
    return () => happening.run = null;
  }

  /** Lets the next thing happen; false when nothing is planned. */
  next(): boolean {
    let happening = this.#queue.pop();
    while (happening && happening.run === null) happening = this.#queue.pop();
    if (!happening) return false;
    this.now = happening.at;
    happening.run!();
    return true;
  }
}
