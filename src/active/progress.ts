/**
 * Tells the server when HTTP requests of this process wait, and none finishes. Loaded only if the server asks for it.
 *
 * A preload may have begun this before the program registers, perhaps with another copy of the library. Then its counts go on,
 * and its messages take the way of the program.
 */
import { type ProgressFact, RequestProgress, tickMsOf } from "../core/client/request_progress.ts";
import { countRequests } from "../runtime/counted_requests.ts";
import type { Clock } from "../runtime/runtime.ts";

type Report = (fact: ProgressFact) => void;

/** The counts of this process. */
interface Counting {
  report: Report;
}

/** The global property that holds the counts of this process. */
const countingProperty = Symbol.for("@x/sam/progress");

/** Counts the requests of this process, and calls `report` when its state changes. A later call replaces `report`. */
export async function watchProgress(
  clock: Clock,
  limitMs: number,
  report: Report,
): Promise<void> {
  const shared = globalThis as unknown as Record<symbol, Counting | undefined>;
  const known = shared[countingProperty];
  if (known) {
    known.report = report;
    return;
  }
  const counting: Counting = { report };
  Object.defineProperty(globalThis, countingProperty, { value: counting });
  const progress = new RequestProgress(limitMs, clock.now());
  await countRequests(progress);
  const schedule = () => void clock.schedule(tick, tickMsOf(limitMs), false);
  const tick = () => {
    const fact = progress.tick(clock.now());
    if (fact) counting.report(fact);
    schedule();
  };
  schedule();
}
