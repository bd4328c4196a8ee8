// What bench/programs/app.ts is without the library: says the same line at the same place, and waits for its end.
import { wall } from "../support/clock.ts";
import { occupied } from "../support/occupied.ts";
import { say, settings, sleep } from "../support/say.ts";

const memory = await occupied(settings.mib, settings.module);
const at = performance.now();
say("ready", { at: wall(at) }); // reading the clock takes milliseconds: after the moment

await sleep(30_000); // one that its parent has lost ends by itself
say("lost", { bytes: memory.length });
