/** What a preload does for a program that does not call `initialize()`: its event loop is watched once it turns freely. */
import type { ActiveProcess } from "./active_process.ts";
import { loadRuntime } from "../runtime/runtime.ts";
import { registerAhead } from "./initialize.ts";

/** The event loop is looked at so often … */
const turnMs = 50;
/** … and turns freely when it is little late, by the measure of the time interval, so many times in a row: loading and compiling the program are over. */
const leastLateMs = 50;
const turns = 5;
/** Loading is over, too, when the loop has not been blocked for longer than the time interval for this long. */
const settledMs = 5000;

/** Registers this process, and has its event loop watched once the program is loaded. */
export async function attach(): Promise<void> {
  try {
    const sam = await registerAhead();
    if (sam) await watch(sam, sam.timeInterval);
  } catch (error) {
    console.error(
      `sam: the event loop of this program is not watched: ${(error as Error).message}`,
    );
  }
}

async function watch(sam: ActiveProcess, timeInterval: number): Promise<void> {
  const runtime = await loadRuntime();
  if (timeInterval > 0) sam.setHealthCheck(() => true); // else its end alone is watched
  const freeMs = turnMs + Math.max(leastLateMs, timeInterval / 4);
  let free = 0;
  let last = runtime.now();
  let blockedAt = last;
  const soon = () => void runtime.schedule(turn, turnMs, false);
  const turn = () => {
    if (sam.state !== "registered") return; // the program has registered itself
    sam.confirm();
    const now = runtime.now();
    free = now - last <= freeMs ? free + 1 : 0;
    if (now - last > turnMs + (timeInterval || Infinity)) blockedAt = now;
    last = now;
    if (free < turns && now - blockedAt < settledMs) return soon();
    sam.start().catch(({ code }) => {
      if (code === "TIMEOUT") soon(); // else the server is gone, or the program has registered itself
    });
  };
  soon();
}
