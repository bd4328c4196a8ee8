/** Registers the process of a program that does not call `initialize()`, so that SAM watches its event loop. */
import type { ActiveProcess } from "./active_process.ts";
import type { Listening } from "./listening.ts";
import { loadRuntime } from "../runtime/load.ts";
import type { Clock } from "../runtime/runtime.ts";
import type { SamError } from "../errors.ts";
import { createActiveProcess, offerLink } from "./initialize.ts";

/** Milliseconds between two checks of the event loop. */
const turnMs = 50;
/** A check that is later than this, or than a quarter of the time interval if that is longer, shows that the loop was busy. */
const minLateMs = 50;
/** After this many punctual checks in a row, the program counts as loaded and compiled. */
const freeTurns = 5;
/** The program also counts as loaded if, for this many milliseconds, no turn of the loop took longer than the time interval. */
const settledMs = 5000;

/**
 * Registers this process, which a server has started, before its program runs. A program that calls `register()` itself takes
 * the link over. `listening` is null without sockets of the server. Below a wrapper, another process may have registered before
 * this one. Resolves to the id of the instance, or to null if that failed.
 */
export async function attach(
  listening: Listening | null,
  isBelowWrapper = false,
): Promise<number | null> {
  try {
    const sam = await createActiveProcess({ timeInterval: 0, recoveryPolicy: "restart" }); // replaced by the server's options
    sam.isBelowWrapper = isBelowWrapper;
    await sam.register();
    listening?.report(sam);
    offerLink({
      transport: sam.server!.transport,
      get taken() {
        return sam.state === "finalized";
      },
      take() {
        listening?.accept(); // the server's later messages reach only the program
        return sam.handOver();
      },
    });
    startOnceLoaded(sam, await loadRuntime(), listening);
    return sam.instanceId;
  } catch (error) {
    listening?.accept();
    const { code, message } = error as SamError;
    if (!isBelowWrapper || code !== "LIBRARY") {
      console.error(`sam: the event loop of this program is not watched: ${message}`);
    }
    return null;
  }
}

/** Starts the watch when the program is loaded, and listens if it must. Until then, reports to the server that the event loop turns. */
export function startOnceLoaded(
  sam: ActiveProcess,
  runtime: Clock,
  listening: Listening | null,
): void {
  const { timeInterval } = sam;
  if (timeInterval > 0) sam.setHealthCheck(() => true); // otherwise, the server notices only the end of the process
  const freeMs = turnMs + Math.max(minLateMs, timeInterval / 4);
  const blockedMs = turnMs + (timeInterval || Infinity);
  let free = 0;
  let last = runtime.now();
  let blockedAt = last;
  const schedule = () => void runtime.schedule(turn, turnMs, false);
  const turn = () => {
    if (sam.state !== "registered") return; // the program called register()
    sam.confirm();
    const now = runtime.now();
    const turnedAfter = now - last;
    last = now;
    free = turnedAfter <= freeMs ? free + 1 : 0;
    if (turnedAfter > blockedMs) blockedAt = now;
    if (free < freeTurns && now - blockedAt < settledMs) return schedule();
    if (listening?.isDone === false) return schedule();
    sam.start().catch(({ code }) => {
      // All other errors are final: the server has ended, or the program called register().
      if (code === "TIMEOUT") schedule();
    });
  };
  schedule();
}
