/** Counts how close heartbeats came to their deadline. */

/** How close heartbeats came to their deadline: the part of the time interval that was left when each one arrived. */
export interface Slack {
  /** Number of heartbeats of this instance, healthy answers of its health check included. */
  readonly count: number;
  /** Least time that was left, in milliseconds. Below 0 if a heartbeat was late but still counted. Null before the first. */
  readonly min: number | null;
  /** One bucket for each range of time left. The bucket with the most time left comes first. */
  readonly buckets: readonly SlackBucket[];
}

/** One bucket of `Slack`: the heartbeats for which about the same share of the time interval was left. */
export interface SlackBucket {
  /** Lower bound of the bucket, as a share of the time interval: 1/2, 1/4 … 1/64, 0. Null for the bucket of late heartbeats. */
  readonly from: number | null;
  /** Number of heartbeats of this instance in this bucket. */
  readonly count: number;
  /** Number of heartbeats in this bucket, those of all earlier instances included. */
  readonly total: number;
}

/** Six buckets from 1/2 to 1/64 of the time interval, one for less, one for late heartbeats. */
const bucketCount = 8;

/** Counts the heartbeats of a program by the time that was left. */
export class SlackCounter {
  readonly #timeInterval: number;
  readonly #counts = new Float64Array(bucketCount);
  /** The counts of all earlier instances. */
  readonly #earlier = new Float64Array(bucketCount);
  #min = Infinity;

  constructor(timeInterval: number) {
    this.#timeInterval = timeInterval;
  }

  /** Counts a heartbeat that arrived `leftMs` before its deadline. */
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

  /** Starts the counts of a new instance at 0. */
  reset(): void {
    for (const [at, count] of this.#counts.entries()) this.#earlier[at]! += count;
    this.#counts.fill(0);
    this.#min = Infinity;
  }

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
