/** Counts near misses: how much of the time interval was left when each sign of life came. */

/** How much of the time interval was left at the signs of life of an instance. */
export interface Slack {
  /** How many there were since `start()`. */
  readonly count: number;
  /** The least that was left, in milliseconds; below 0 for one that came late and was not judged; null before the first. */
  readonly min: number | null;
  /** How many there were by what was left; each bucket begins where the next one ends. */
  readonly buckets: readonly SlackBucket[];
}

/** One bucket of a `Slack`. */
export interface SlackBucket {
  /** At least this share of the time interval was left: 1/2, 1/4 … 1/64, 0; null for what came late. */
  readonly from: number | null;
  /** How many. */
  readonly count: number;
  /** How many, those of all earlier instances included. */
  readonly total: number;
}

/** Six from 1/2 to 1/64 of the time interval, one for less, one for late signs of life. */
const bucketCount = 8;

/** Counts the signs of life of a program by the time that was left. */
export class SlackCounter {
  readonly #timeInterval: number;
  readonly #counts = new Float64Array(bucketCount);
  /** The counts of all earlier instances. */
  readonly #earlier = new Float64Array(bucketCount);
  #min = Infinity;

  constructor(timeInterval: number) {
    this.#timeInterval = timeInterval;
  }

  /** Counts a sign of life that came `leftMs` before its deadline. */
  add(leftMs: number): void {
    if (leftMs < this.#min) this.#min = leftMs;
    let bucket = bucketCount - 1;
    if (leftMs >= 0) {
      bucket = 0;
      for (
        let from = this.#timeInterval / 2;
        leftMs < from && bucket < bucketCount - 2;
        from /= 2
      ) {
        bucket++;
      }
    }
    this.#counts[bucket]!++;
  }

  /** A new instance begins: its counts start at 0. */
  reset(): void {
    for (const [at, count] of this.#counts.entries()) this.#earlier[at]! += count;
    this.#counts.fill(0);
    this.#min = Infinity;
  }

  /** The counts so far. */
  get snapshot(): Slack {
    const buckets = Array.from(this.#counts, (count, at) => ({
      from: at < bucketCount - 2 ? 2 ** -(at + 1) : at === bucketCount - 2 ? 0 : null,
      count,
      total: this.#earlier[at]! + count,
    }));
    const count = this.#counts.reduce((sum, each) => sum + each, 0);
    return { count, min: count === 0 ? null : this.#min, buckets };
  }
}
