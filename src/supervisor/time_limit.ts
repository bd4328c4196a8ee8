/** A wait with a time limit. */
import type { Clock } from "../runtime/runtime.ts";

/** Waits for `promise`, at most `limitMs`. Resolves to true if `promise` resolved in time. */
export async function endsWithin(
  runtime: Clock,
  promise: Promise<unknown> | null,
  limitMs: number,
): Promise<boolean> {
  let cancel = () => {};
  const limit = new Promise<boolean>((resolve) =>
    cancel = runtime.schedule(() => resolve(false), limitMs, true)
  );
  const ended = Promise.resolve(promise).then(() => true);
  try {
    return await Promise.race([ended, limit]);
  } finally {
    cancel();
  }
}
