/** Random numbers for the core, which has no source of randomness of its own: the seed comes from outside. */
export class Random {
  #seed: number;

  constructor(seed: number) {
    this.#seed = seed >>> 0;
  }

  /** A factor that varies by up to `share` around 1. A linear congruential generator is good enough to spread times. */
  vary(share: number): number {
    this.#seed = (Math.imul(this.#seed, 1664525) + 1013904223) >>> 0;
    return 1 + share * (2 * (this.#seed / 2 ** 32) - 1);
  }
}
