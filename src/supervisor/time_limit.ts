/** Waits that have a limit. */
import type { Clock } from "../runtime/runtime.ts";

/** Waits for `promise`, for `limitMs` at most. True if it was resolved in time. */
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
