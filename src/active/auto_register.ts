/** Registers the process of a program that does not call `initialize()`, and has its event loop watched. */
import type { ActiveProcess } from "./active_process.ts";
import { loadRuntime } from "../runtime/load.ts";
import type { Clock } from "../runtime/runtime.ts";
import { createActiveProcess, offerLink } from "./initialize.ts";

/** Milliseconds between two looks at the event loop. */
const turnMs = 50;
/** How late a look may be, in milliseconds, while the event loop turns freely. With a long time interval, a quarter of it. */
const minLateMs = 50;
/** After this many looks in a row that were not late, the program is loaded and compiled. */
const freeTurns = 5;
/** The program is also loaded when the event loop was not blocked for longer than the time interval for this long. */
const settledMs = 5000;

/**
 * Registers this process, which a server has started, ahead of its program. The program takes the link over when it
 * registers itself.
 */
export async function attach(): Promise<void> {
  try {
    const sam = await createActiveProcess({ timeInterval: 0, recoveryPolicy: "restart" }); // the server's options win
    await sam.register();
    offerLink({
      transport: sam.server!.transport,
      get taken() {
        return sam.state === "finalized";
      },
      take: () => sam.handOver(),
    });
    startOnceLoaded(sam, await loadRuntime());
  } catch (error) {
    console.error(
      `sam: the event loop of this program is not watched: ${(error as Error).message}`,
    );
  }
}

/** Starts the watch when the program is loaded. Until then, tells the server of each turn of the event loop. */
function startOnceLoaded(sam: ActiveProcess, runtime: Clock): void {
  const { timeInterval } = sam;
  if (timeInterval > 0) sam.setHealthCheck(() => true); // without a time interval, only the end of the process is noticed
  const freeMs = turnMs + Math.max(minLateMs, timeInterval / 4);
  const blockedMs = turnMs + (timeInterval || Infinity);
  let free = 0;
  let last = runtime.now();
  let blockedAt = last;
  const schedule = () => void runtime.schedule(turn, turnMs, false);
  const turn = () => {
    if (sam.state !== "registered") return; // the program has registered itself
    sam.confirm();
    const now = runtime.now();
    const turnedAfter = now - last;
    last = now;
    free = turnedAfter <= freeMs ? free + 1 : 0;
    if (turnedAfter > blockedMs) blockedAt = now;
    if (free < freeTurns && now - blockedAt < settledMs) return schedule();
    sam.start().catch(({ code }) => {
      // All other errors are final: the server is gone, or the program has registered itself.
      if (code === "TIMEOUT") schedule();
    });
  };
  schedule();
}
