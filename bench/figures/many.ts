// One server with up to 1,000 programs. Each program is a process that sends ten heartbeats per second. The figures are the CPU
// time of the server, less its CPU time without a program; the CPU time per program; and the memory that each program adds.
// The servers on the three runtimes are measured together, because each needs a small part of a core. The floor for 1,000
// programs over shared memory is a bare runtime that reads as many counters as often.
import { type BenchRuntime, cpuMicroseconds, runtimes, start } from "../support/host.ts";
import {
  bareParent,
  type Kind,
  type Memory,
  memoryOf,
  stepwise,
  withGarbageCollection,
} from "../support/many.ts";
import { figure, peer } from "../support/names.ts";
import type { Measurement, Peer, Row, Settings } from "../support/rows.ts";
import { type Figures, figuresOf } from "../support/statistics.ts";
import { lookMs } from "../support/targets.ts";

const timeInterval = 2000;
const few = 10;

/** The length of one sample of the CPU time. */
const sampleMs = 3000;

interface Step {
  readonly programs: number;
  readonly settleMs: number;
  readonly samples: number;
}

/** Ten programs need so little CPU time that they take more samples. */
const fullPlan: readonly Step[] = [
  { programs: 0, settleMs: 1500, samples: 2 },
  { programs: few, settleMs: 1500, samples: 3 },
  { programs: 100, settleMs: 1500, samples: 1 },
  { programs: 1000, settleMs: 2000, samples: 2 },
];
const quickPlan: readonly Step[] = [
  { programs: 0, settleMs: 1000, samples: 1 },
  { programs: few, settleMs: 1000, samples: 1 },
  { programs: 200, settleMs: 1000, samples: 1 },
];

interface Seen {
  readonly percents: readonly number[];
  readonly memory: Memory;
}

export function measurements({ depth }: Settings): Measurement[] {
  const plan = depth === "full" ? fullPlan : quickPlan;
  const transports = depth === "full" ? ["shm", "unix", "pipe"] : ["shm"];
  const floors = new Map<BenchRuntime, Promise<Peer>>();
  const floorOf = (runtime: BenchRuntime): Promise<Peer> => {
    const known = floors.get(runtime);
    if (known) return known;
    const floor = bareGrowth(runtime, plan.at(-1)!.programs);
    floors.set(runtime, floor);
    return floor;
  };
  return transports.map((transport) => ({
    name: `many programs, ${transport}`,
    rows: async () => {
      const rows = await Promise.all(runtimes.map(async (runtime) => {
        const seen = await grown(runtime, transport, plan);
        return { runtime, seen };
      }));
      const reads = transport === "shm" && depth === "full"
        ? await Promise.all(runtimes.map((runtime) => bareReads(runtime, plan.at(-1)!.programs)))
        : [];
      await Promise.all(runtimes.map(floorOf));
      return (await Promise.all(
        rows.map(async ({ runtime, seen }, nth) =>
          rowsOf(runtime, transport, seen, await floorOf(runtime), reads[nth])
        ),
      )).flat();
    },
  }));
}

async function grown(
  runtime: BenchRuntime,
  transport: string,
  plan: readonly Step[],
): Promise<ReadonlyMap<number, Seen>> {
  const kind: Kind = { transport, timeInterval, linked: true };
  const steps = plan.map((step) => ({ ...step, windowMs: step.samples * sampleMs + 300 }));
  const seen = await stepwise(
    runtime,
    withGarbageCollection[runtime],
    kind,
    steps,
    async (pid, { samples }): Promise<Seen> => {
      const memory = memoryOf(pid);
      const percents: number[] = [];
      for (let nth = 0; nth < samples; nth++) percents.push(await percentOfCore(pid));
      return { percents, memory };
    },
  );
  return new Map(plan.map(({ programs }, index) => [programs, seen[index]!]));
}

async function percentOfCore(pid: number): Promise<number> {
  const [began, from] = [performance.now(), cpuMicroseconds(pid)];
  await new Promise((resolve) => setTimeout(resolve, sampleMs));
  return (cpuMicroseconds(pid) - from) / (performance.now() - began) / 10;
}

/** The CPU time of a bare runtime that reads the counters. */
async function bareReads(runtime: BenchRuntime, files: number): Promise<Peer> {
  const reader = start(runtime, "bare_reader", { files, ms: lookMs(timeInterval) });
  try {
    await reader.line("ready");
    await new Promise((resolve) => setTimeout(resolve, 2000));
    const percents = [await percentOfCore(reader.pid), await percentOfCore(reader.pid)];
    return { name: peer.bareManyReads, figures: figuresOf(percents) };
  } finally {
    await reader.stop("SIGKILL");
  }
}

/** The memory that each child process with a socket adds to a bare runtime. */
async function bareGrowth(runtime: BenchRuntime, many: number): Promise<Peer> {
  const steps = [few, many].map((programs) => ({ programs, settleMs: 1500, windowMs: 300 }));
  const flags = withGarbageCollection[runtime];
  const [before, after] = await stepwise(runtime, flags, bareParent, steps, memoryOf);
  return {
    name: peer.bareChild,
    figures: figuresOf([(after!.resident - before!.resident) / (many - few)]),
  };
}

function rowsOf(
  runtime: BenchRuntime,
  transport: string,
  seen: ReadonlyMap<number, Seen>,
  floor: Peer,
  reads?: Peer,
): Row[] {
  const many = Math.max(...seen.keys());
  const idle = figuresOf(seen.get(0)!.percents).p50;
  /** Microseconds per second and program, by the number of programs. */
  const perProgram = new Map<number, Figures>();
  const rows: Row[] = [];
  for (const [programs, { percents }] of seen) {
    if (programs === 0) continue;
    const more = percents.map((percent) => Math.max(0, percent - idle));
    perProgram.set(programs, figuresOf(more.map((percent) => (percent * 1e4) / programs)));
    rows.push({
      figure: figure.manyCpu,
      case: `${transport}, ${programs} programs`,
      runtime,
      unit: "% of a core",
      sam: figuresOf(more),
      ...(reads && programs === many && { others: [reads] }),
    });
  }
  rows.push({
    figure: figure.cpuPerProgram,
    case: `${transport}, ${many} programs`,
    runtime,
    unit: "µs per second",
    sam: perProgram.get(many)!,
    peer: { name: peer.perProgramAt10, figures: perProgram.get(few)! },
  });
  const addedMemory = (of: (memory: Memory) => number) =>
    figuresOf([(of(seen.get(many)!.memory) - of(seen.get(few)!.memory)) / (many - few)]);
  rows.push({
    figure: figure.memoryPerProgram,
    case: `${transport}, from ${few} to ${many}`,
    runtime,
    unit: "KiB",
    sam: addedMemory((memory) => memory.resident),
    others: [floor, { name: peer.privateMemory, figures: addedMemory((memory) => memory.own) }],
  });
  return rows;
}
