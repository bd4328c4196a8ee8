/** What a preload does for a program that does not call `initialize()`: its event loop is watched once it turns freely. */
import { loadRuntime } from "./runtime/runtime.ts";
import { registerAhead, type Sam } from "./sam.ts";

/** The event loop is looked at so often … */
const turnMs = 50;
/** … and turns freely when it is little late, by the measure of the time interval, so many times in a row: loading and compiling the program are over. */
const leastLateMs = 50;
const turns = 5;

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

async function watch(sam: Sam, timeInterval: number): Promise<void> {
  const runtime = await loadRuntime();
  if (timeInterval > 0) sam.setHealthCheck(() => true); // else its end alone is watched
  const lateMs = Math.max(leastLateMs, timeInterval / 4);
  let free = 0;
  let last = runtime.now();
  const turn = () => {
    if (sam.state !== "registered") return; // the program has registered itself
    const now = runtime.now();
    free = now - last <= turnMs + lateMs ? free + 1 : 0;
    last = now;
    if (free < turns) runtime.schedule(turn, turnMs, false);
    else sam.start().catch(() => {}); // refused: the server is gone, or the program has registered itself
  };
  runtime.schedule(turn, turnMs, false);
}
