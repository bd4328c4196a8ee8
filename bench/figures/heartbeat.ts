// The time of one heartbeat() in a loop, the memory that it allocates, and the wake-ups of the server that it causes.
import {
  type BenchRuntime,
  peerSamples,
  runtimes,
  start,
  voluntarySwitches,
} from "../support/host.ts";
import { figure, peer } from "../support/names.ts";
import type { Measurement, Row, Settings } from "../support/rows.ts";
import { type Figures, figuresOf } from "../support/statistics.ts";

/** Makes Bun's engine report each garbage collection on standard error, with the bytes allocated since the last one. */
const collectionLog = { BUN_JSC_logGC: "1" };

export function measurements({ libsam, depth }: Settings): Measurement[] {
  const batches = depth === "full" ? 20 : 10;
  const transports = depth === "quick" ? ["shm", "unix"] : ["shm", "unix", "pipe"];
  return runtimes.flatMap((runtime) =>
    transports.map((transport) => ({
      name: `heartbeat(), ${transport}, ${runtime}`,
      rows: async () => {
        const libsamSamples = () => peerSamples(libsam, "heartbeat", 20_000, batches);
        const before = await libsamSamples();
        const timeOnly = depth === "check" || (depth === "quick" && transport !== "shm");
        const measured = await heartbeats(runtime, transport, timeOnly);
        const libsamFigures = figuresOf([...before, ...await libsamSamples()]);
        return rowsOf(runtime, transport, measured, libsamFigures);
      },
    }))
  );
}

interface Measured {
  readonly time: readonly number[];
  readonly clock: readonly number[];
  readonly wakeUps?: number;
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
    for (const phase of ["without", "with", "over"]) {
      await program.line(phase);
      seen.push(voluntarySwitches(program.pid));
    }
    const clock = transport === "shm" ? (await program.line("clock"))["samples"] : [];
    await program.ended;
    const [from, middle, to] = seen as [number, number, number];
    const wakeUps = Math.max(0, to - middle - (middle - from));
    return { time: samples, clock, wakeUps, ...await allocations(runtime, settings) };
  } finally {
    await program.stop("SIGKILL");
  }
}

async function allocations(
  runtime: BenchRuntime,
  settings: object,
): Promise<{ bytes: number; control: number }> {
  const env = runtime === "bun" ? collectionLog : {};
  const program = start(runtime, "heartbeat", { ...settings, parts: ["allocations"] }, env);
  try {
    const { heartbeats, bytes, control } = await program.line("allocations");
    await program.ended;
    if (runtime !== "bun") return { bytes, control };
    return {
      bytes: allocatedBetween(program.stderr, "heartbeats") / heartbeats,
      control: allocatedBetween(program.stderr, "control") / heartbeats,
    };
  } finally {
    await program.stop("SIGKILL");
  }
}

/** The bytes that Bun's engine reported as allocated between two marks. */
function allocatedBetween(stderr: string, mark: string): number {
  const [, within] = stderr.split(`${mark}: `);
  if (within === undefined) throw new Error(`no mark "${mark}" on standard error`);
  const counts = within.matchAll(/bytes allocated this cycle: (\d+)/g);
  return [...counts].reduce((sum, [, bytes]) => sum + Number(bytes), 0);
}

function rowsOf(
  runtime: BenchRuntime,
  transport: string,
  { time, clock, wakeUps, bytes, control }: Measured,
  libsam: Figures,
): Row[] {
  const common = { case: transport, runtime };
  const rows: Row[] = [{
    ...common,
    figure: figure.heartbeat,
    unit: "ns",
    sam: figuresOf(time),
    peer: { name: peer.hcSend, figures: libsam },
    others: clock.length > 0 ? [{ name: peer.clock, figures: figuresOf(clock) }] : [],
  }];
  if (wakeUps === undefined || bytes === undefined || control === undefined) return rows;
  rows.push({
    ...common,
    figure: figure.allocated,
    unit: "bytes",
    sam: figuresOf([bytes]),
    peer: { name: peer.oneObject, figures: figuresOf([control]) },
  }, {
    ...common,
    figure: figure.wakeUps,
    unit: "wake-ups",
    sam: figuresOf([wakeUps]),
  });
  return rows;
}
