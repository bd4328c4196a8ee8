// One server with many applications, each of which is a process and ten times a second healthy: how much of a core the server
// needs, what each of a thousand costs beside each of ten, and how much memory each adds. What the same server needs
// with no application is subtracted. The three runtimes are looked at together: each needs a small part of a core. Beside a
// thousand over shared memory: bare runtimes that read as many counters as often.
import { type BenchRuntime, cpuMicroseconds, runtimes, start } from "../support/host.ts";
import {
  bareParent,
  type Kind,
  type Memory,
  memoryOf,
  stepwise,
  withGarbageCollection,
} from "../support/many.ts";
import { type Measurement, type Peer, type Row, type Settings, target } from "../support/rows.ts";
import { type Figures, figuresOf } from "../support/statistics.ts";

const timeInterval = 2000;
const few = 10;

/** So long is the processor time of a server looked at for one sample. */
const sampleMs = 3000;

interface Step {
  readonly programs: number;
  readonly settleMs: number;
  readonly samples: number;
}

/** A few applications cost so little that they are looked at for longer. */
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
    name: `many applications, ${transport}`,
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

/** What reading the counters takes a runtime without the library. */
async function bareReads(runtime: BenchRuntime, files: number): Promise<Peer> {
  const reader = start(runtime, "bare_reader", { files, ms: timeInterval / 16 });
  try {
    await reader.line("ready");
    await new Promise((resolve) => setTimeout(resolve, 2000));
    const percents = [await percentOfCore(reader.pid), await percentOfCore(reader.pid)];
    return { name: "the bare runtime, as many reads", figures: figuresOf(percents) };
  } finally {
    await reader.stop("SIGKILL");
  }
}

/** What each child with a socket adds to a runtime without the library. */
async function bareGrowth(runtime: BenchRuntime, many: number): Promise<Peer> {
  const steps = [few, many].map((programs) => ({ programs, settleMs: 1500, windowMs: 300 }));
  const flags = withGarbageCollection[runtime];
  const [before, after] = await stepwise(runtime, flags, bareParent, steps, memoryOf);
  return {
    name: "the bare runtime, each child with a socket",
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
  /** Microseconds per second of each of so many. */
  const each = new Map<number, Figures>();
  const rows: Row[] = [];
  for (const [programs, { percents }] of seen) {
    if (programs === 0) continue;
    const more = percents.map((percent) => Math.max(0, percent - idle));
    each.set(programs, figuresOf(more.map((percent) => (percent * 1e4) / programs)));
    const ours = figuresOf(more);
    const isGoal = transport === "shm" && programs === 1000;
    rows.push({
      figure: "one server, many applications with 10 heartbeats a second each",
      case: `${transport}, ${programs} applications`,
      runtime,
      unit: "% of a core, less what it needs with none",
      ours,
      ...(isGoal && {
        others: reads ? [reads] : [],
        targets: [
          target("1,000 applications, shared memory: ≤ 5 % of a core", "5 %", ours.p50, 5),
        ],
      }),
    });
  }
  const [oneOfMany, oneOfFew] = [each.get(many)!, each.get(few)!];
  rows.push({
    figure: "each of many applications beside each of 10",
    case: `${transport}, ${many} applications`,
    runtime,
    unit: "µs a second",
    ours: oneOfMany,
    peer: { name: "each of 10", figures: oneOfFew },
    targets: [target(
      transport === "shm"
        ? "cost per application at 1,000, shared memory: ≤ 1.2 × that at 10"
        : "cost per application at 1,000, Unix socket and pipe: ≤ 1.2 × that at 10",
      "1.2 × each of 10",
      oneOfMany.p50,
      1.2 * oneOfFew.p50,
    )],
  });
  const perApplication = (of: (memory: Memory) => number) =>
    figuresOf([(of(seen.get(many)!.memory) - of(seen.get(few)!.memory)) / (many - few)]);
  const resident = perApplication((memory) => memory.resident);
  rows.push({
    figure: "server, resident memory for each further application",
    case: `${transport}, from ${few} to ${many}`,
    runtime,
    unit: "KiB",
    ours: resident,
    others: [floor, { name: "private", figures: perApplication((memory) => memory.own) }],
    targets: [
      target("server memory: ≤ 20 KiB for each further application", "20 KiB", resident.p50, 20),
    ],
  });
  return rows;
}
