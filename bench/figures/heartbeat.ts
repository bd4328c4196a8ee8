// What one heartbeat() costs the program in a loop, what it allocates, and whether it wakes the server.
import {
  type BenchRuntime,
  peerSamples,
  runtimes,
  start,
  voluntarySwitches,
} from "../support/host.ts";
import { type Measurement, type Row, type Settings, target } from "../support/rows.ts";
import { type Figures, figuresOf } from "../support/statistics.ts";

/** Bun's engine says to standard error when it is about to collect, and how much was allocated since the last time. */
const collections = { BUN_JSC_logGC: "1" };

export function measurements({ libsam, depth }: Settings): Measurement[] {
  const batches = depth === "full" ? 20 : 10;
  const transports = depth === "quick" ? ["shm", "unix"] : ["shm", "unix", "pipe"];
  return runtimes.flatMap((runtime) =>
    transports.map((transport) => ({
      name: `heartbeat(), ${transport}, ${runtime}`,
      rows: async () => {
        const peer = () => peerSamples(libsam, "heartbeat", 20_000, batches);
        const before = await peer();
        const timeOnly = depth === "check" || (depth === "quick" && transport !== "shm");
        const measured = await heartbeats(runtime, transport, timeOnly);
        return rowsOf(runtime, transport, measured, figuresOf([...before, ...await peer()]));
      },
    }))
  );
}

interface Measured {
  readonly time: readonly number[];
  readonly clock: readonly number[];
  readonly woken?: number;
  readonly bytes?: number;
  readonly control?: number;
}

async function heartbeats(
  runtime: BenchRuntime,
  transport: string,
  timeOnly: boolean,
): Promise<Measured> {
  const settings = { transport, timeInterval: 60_000 };
  const timed = timeOnly
    ? ["time"]
    : ["time", "wake-ups", ...(transport === "shm" ? ["clock"] : [])];
  const program = start(runtime, "heartbeat", { ...settings, parts: timed });
  try {
    const { samples } = await program.line("time");
    if (timeOnly) return { time: samples, clock: [] };
    const seen: number[] = [];
    for (const phase of ["silent", "beating", "over"]) {
      await program.line(phase);
      seen.push(voluntarySwitches(program.pid));
    }
    const clock = transport === "shm" ? (await program.line("clock"))["samples"] : [];
    await program.ended;
    const [silent, beating, over] = seen as [number, number, number];
    const woken = Math.max(0, over - beating - (beating - silent));
    return { time: samples, clock, woken, ...await allocations(runtime, settings) };
  } finally {
    await program.stop("SIGKILL");
  }
}

async function allocations(
  runtime: BenchRuntime,
  settings: object,
): Promise<{ bytes: number; control: number }> {
  const env = runtime === "bun" ? collections : {};
  const program = start(runtime, "heartbeat", { ...settings, parts: ["allocations"] }, env);
  try {
    const { beats, bytes, control } = await program.line("allocations");
    await program.ended;
    if (runtime !== "bun") return { bytes, control };
    return {
      bytes: allocatedBetween(program.stderr, "heartbeats") / beats,
      control: allocatedBetween(program.stderr, "control") / beats,
    };
  } finally {
    await program.stop("SIGKILL");
  }
}

/** Bytes that Bun's engine said were allocated between two marks. */
function allocatedBetween(stderr: string, mark: string): number {
  const [, within] = stderr.split(`${mark}: `);
  if (within === undefined) throw new Error(`no mark "${mark}" on standard error`);
  const counts = within.matchAll(/bytes allocated this cycle: (\d+)/g);
  return [...counts].reduce((sum, [, bytes]) => sum + Number(bytes), 0);
}

function rowsOf(
  runtime: BenchRuntime,
  transport: string,
  { time, clock, woken, bytes, control }: Measured,
  peer: Figures,
): Row[] {
  const ours = figuresOf(time);
  const shm = transport === "shm";
  const part = shm ? 20 : 2;
  const common = { case: transport, runtime };
  const rows: Row[] = [{
    ...common,
    figure: "heartbeat()",
    unit: "ns",
    ours,
    peer: { name: "sam_hc_send", figures: peer },
    others: clock.length > 0 ? [{ name: "performance.now()", figures: figuresOf(clock) }] : [],
    targets: [target(
      `\`heartbeat()\`, ${shm ? "shared memory" : "Unix socket and pipe"}: ≤ 1/${part} of libsam's`,
      `1/${part} of libsam's`,
      ours.p50,
      peer.p50 / part,
    )],
  }];
  if (woken === undefined || bytes === undefined || control === undefined) return rows;
  rows.push({
    ...common,
    figure: "allocated by a heartbeat(), over 10,000,000",
    unit: "bytes",
    ours: figuresOf([bytes]),
    peer: { name: "a function that makes one object", figures: figuresOf([control]) },
    // The smallest object has 12 bytes; what else happens in the process is a fraction of one.
    ...(shm && {
      targets: [
        target("`heartbeat()`, shared memory: no allocation", "less than an object", bytes, 1),
      ],
    }),
  }, {
    ...common,
    figure: "how often a second of heartbeats wakes the server",
    unit: "times more than a second of silence",
    ours: figuresOf([woken]),
    ...(shm && {
      targets: [
        target(
          "`heartbeat()`, shared memory: the server is not woken",
          "its own, by chance",
          woken,
          5,
        ),
      ],
    }),
  });
  return rows;
}
