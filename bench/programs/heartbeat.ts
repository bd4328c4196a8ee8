// Measures heartbeat() in a loop: its time, the wake-ups of the server, and the allocated memory. Heartbeats that the transport
// skips are included.
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

/** Measures calls in batches of some milliseconds. So each batch includes writes to the socket, at most one per millisecond. */
async function samplesOf(call: () => unknown): Promise<readonly number[]> {
  return (await measure(call, { batch_samples: 65_536, inner_gc: false })).samples;
}

/** Runs for a second without heartbeats and for a second with them, while the benchmark observes the server. */
async function wakeUps(): Promise<void> {
  await sleep(500); // the server finishes its earlier work
  say("without");
  await sleep(1000);
  say("with");
  for (const end = performance.now() + 1000; performance.now() < end;) sam.heartbeat();
  say("over");
  await sleep(200);
}

/** Measures the bytes that each of ten million heartbeats allocates, and a function that allocates one object. */
async function allocations(): Promise<void> {
  const heartbeats = 10_000_000;
  let made: unknown;
  const bytes = allocatedBy("heartbeats", heartbeats, () => sam.heartbeat());
  const control = allocatedBy("control", heartbeats, (nth) => made = { nth });
  say("allocations", { heartbeats, bytes, control, made });
  await sleep(200); // the benchmark reads standard error
}

/**
 * Returns the bytes that each call allocates. V8 reports the heap in use at any time, so the growth is summed over many short
 * parts; a part in which the garbage collector frees memory does not count. Bun's engine reports allocations only at a garbage
 * collection, on standard error; the benchmark reads those reports between two marks.
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
