// Checks properties with a fixed seed. A failure prints the seed with the counterexample; SAM_TEST_SEED overrides it.

import * as fc from "fast-check";

export const seed: number = Number(process.env["SAM_TEST_SEED"] ?? 20_260_101);

type Arbitraries<T extends readonly unknown[]> = { [K in keyof T]: fc.Arbitrary<T[K]> };

/** Checks a property on 300 samples. */
export function checked<T extends [unknown, ...unknown[]]>(
  ...parts: [...Arbitraries<T>, (...values: T) => void]
): void {
  runs(300, ...parts);
}

/** Checks a property on the given number of samples. */
export function runs<T extends [unknown, ...unknown[]]>(
  numRuns: number,
  ...parts: [...Arbitraries<T>, (...values: T) => void]
): void {
  const [predicate, ...arbitraries] = parts.toReversed() as [
    (...values: T) => void,
    ...fc.Arbitrary<unknown>[],
  ];
  const property = fc.property(
    ...arbitraries.toReversed() as [fc.Arbitrary<unknown>],
    (...values: unknown[]) => predicate(...values as T),
  );
  fc.assert(property, { seed, numRuns });
}
