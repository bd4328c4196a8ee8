// What one heartbeat() costs the program, in a loop; heartbeats that the transport may leave out are part of it. Then, how
// often it wakes the server, and what it allocates.
import { do_not_optimize, measure } from "mitata";
import { initialize, type TransportName } from "@x/sam";
import { say, settings, sleep } from "../support/say.ts";

const { transport, timeInterval, parts } = settings as {
  transport: TransportName;
  timeInterval: number;
  parts: readonly ("time" | "clock" | "wake-ups" | "allocations")[];
};
const sam = await initialize({ timeInterval, recoveryPolicy: "quit", transport });
await sam.register();
await sam.start();
for (const part of parts) {
  if (part === "time") say(part, { samples: await samplesOf(() => sam.heartbeat()) });
  if (part === "clock") {
    say(part, { samples: await samplesOf(() => do_not_optimize(performance.now())) });
  }
  if (part === "wake-ups") await wakeUps();
  if (part === "allocations") await allocations();
}
await sam.finalize();

/** A batch is some milliseconds long: the writes of a socket, of which there is one a millisecond, are in each. */
async function samplesOf(call: () => unknown): Promise<readonly number[]> {
  return (await measure(call, { batch_samples: 65_536, inner_gc: false })).samples;
}

/** A second without heartbeats and a second with them, for the bench to watch the server. */
async function wakeUps(): Promise<void> {
  await sleep(500); // what the server had to do for what went before
  say("silent");
  await sleep(1000);
  say("beating");
  for (const end = performance.now() + 1000; performance.now() < end;) sam.heartbeat();
  say("over");
  await sleep(200);
}

/** Bytes for each of ten million heartbeats, beside a function that makes an object. */
async function allocations(): Promise<void> {
  const beats = 10_000_000;
  let made: unknown;
  const bytes = allocatedBy("heartbeats", beats, () => sam.heartbeat());
  const control = allocatedBy("control", beats, (nth) => made = { nth });
  say("allocations", { beats, bytes, control, made });
  await sleep(200); // standard error is read by then
}

/**
 * V8 knows how much of its heap is in use, new objects and all: what was added is summed up over many short parts, between
 * which a collection takes away what it takes. Bun's engine knows only at a collection, and says so between these marks.
 */
function allocatedBy(name: string, calls: number, call: (nth: number) => unknown): number {
  const { Deno } = globalThis as unknown as { Deno?: { memoryUsage(): { heapUsed: number } } };
  const used = Deno ? () => Deno.memoryUsage().heapUsed : () => process.memoryUsage().heapUsed;
  const parts = 1000;
  console.error(`${name}: `);
  let sum = 0;
  for (let part = 0; part < parts; part++) {
    const before = used();
    for (let nth = 0; nth < calls / parts; nth++) call(nth);
    sum += Math.max(0, used() - before);
  }
  console.error(`${name}: `);
  return sum / calls;
}
