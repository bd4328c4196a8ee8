/** The code that the checks of transports, quorum sources and cluster maps share. */
import { SamError } from "../errors.ts";
import type { Clock } from "../runtime/runtime.ts";

/** A conformance check. */
export interface ConformanceCheck {
  /** The name of the check: a sentence that is true if the check passes. */
  readonly name: string;
  /** Runs the check. Rejects if the check fails. */
  readonly run: () => Promise<void>;
}

/** Ends a check that failed, by an error. */
export function fail(reason: string): never {
  throw new SamError("MESSAGE_ERROR", reason);
}

/** Waits for a promise, at most `limit` milliseconds. `event` names the event in the error. */
export async function within<T>(
  runtime: Clock,
  limit: number,
  event: string,
  promise: Promise<T>,
): Promise<T> {
  let cancel = () => {};
  const timeout = new Promise<never>((_, reject) => {
    cancel = runtime.schedule(
      () => reject(new SamError("TIMEOUT", `${event} did not come within ${limit} ms`)),
      limit,
      true,
    );
  });
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    cancel();
  }
}
