// Statistics of samples.

/** The statistics of some samples, in their unit. */
export interface Figures {
  readonly n: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly min: number;
  readonly max: number;
}

/** Computes the statistics of at least one sample. */
export function figuresOf(samples: readonly number[]): Figures {
  if (samples.length === 0) throw new Error("no samples");
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (part: number) => round(sorted[Math.ceil(part * sorted.length) - 1]!);
  return {
    n: sorted.length,
    p50: at(0.5),
    p90: at(0.9),
    p99: at(0.99),
    min: round(sorted[0]!),
    max: round(sorted.at(-1)!),
  };
}

/** Rounds to four significant digits. */
export function round(value: number): number {
  return Number(value.toPrecision(4));
}
