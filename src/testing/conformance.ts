/** What the checks of transports, quorum sources and cluster maps share. */
import { SamError } from "../errors.ts";
import type { Clock } from "../runtime/runtime.ts";

/** One check. */
export interface ConformanceCheck {
  /** What is shown. */
  readonly name: string;
  /** Runs the check; rejects when it is not passed. */
  readonly run: () => Promise<void>;
}

/** Ends a check that is not passed, because of `what`. */
export function fail(what: string): never {
  throw new SamError("MESSAGE_ERROR", what);
}

/** Waits for a promise, at most `limit` milliseconds. */
export async function within<T>(
  runtime: Clock,
  limit: number,
  what: string,
  promise: Promise<T>,
): Promise<T> {
  let cancel = () => {};
  const late = new Promise<never>((_, reject) => {
    cancel = runtime.schedule(
      () => reject(new SamError("TIMEOUT", `${what}: not within ${limit} ms`)),
      limit,
      true,
    );
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    cancel();
  }
}
