// bench/programs/app.ts without the library: it writes the same line after the same work, and waits to be killed.
import { wall } from "../support/clock.ts";
import { occupied } from "../support/occupied.ts";
import { say, settings, sleep } from "../support/say.ts";

const memory = await occupied(settings.mib, settings.module);
const at = performance.now();
say("ready", { at: wall(at) }); // `wall` takes milliseconds, so it is called afterwards

await sleep(30_000); // ends by itself if its parent has ended
say("lost", { bytes: memory.length });
