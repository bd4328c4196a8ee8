// How much of a core a server needs for many applications, each of which sends ten heartbeats a second, and what each of
// a thousand costs beside each of ten. What the same server needs with no application is subtracted.
import { type BenchRuntime, cpuMicroseconds, runtimes } from "../support/host.ts";
import { type Kind, stepwise } from "../support/many.ts";
import type { Row, Settings } from "../support/rows.ts";
import { type Figures, figuresOf, round } from "../support/statistics.ts";

const all: readonly Kind[] = [
  { transport: "shm", timeInterval: 2000, linked: true },
  { transport: "unix", timeInterval: 2000, linked: true },
  { transport: "pipe", timeInterval: 2000, linked: true },
];

/** So long is the processor time of a server looked at for one sample. */
const sampleMs = 3000;

export async function rows({ quick }: Settings): Promise<Row[]> {
  const rows: Row[] = [];
  for (const kind of quick ? all.slice(0, 1) : all) {
    for (const runtime of runtimes) {
      rows.push(...await rowsOf(runtime, kind, quick));
    }
  }
  return rows;
}

async function rowsOf(runtime: BenchRuntime, kind: Kind, quick: boolean): Promise<Row[]> {
  // A few applications cost so little that they are looked at for longer.
  const plan = quick ? { 0: 1, 10: 1, 1000: 1 } : { 0: 1, 10: 1, 100: 1, 1000: 1 };
  const steps = Object.entries(plan).map(([programs, samples]) => ({
    programs: Number(programs),
    samples,
    settleMs: 2000,
    windowMs: samples * sampleMs + 200,
  }));
  const percents = await stepwise(runtime, [], kind, steps, async (pid, step) => {
    const samples: number[] = [];
    for (let nth = 0; nth < step.samples; nth++) samples.push(await percentOfCore(pid));
    return samples;
  });

  const idle = figuresOf(percents[0]!).p50;
  const { transport, timeInterval } = kind;
  const which = `${transport}, time interval ${timeInterval} ms`;
  const microseconds = new Map<number, Figures>(); // per application and second
  const rows = steps.slice(1).map(({ programs }, index): Row => {
    const more = percents[index + 1]!.map((percent) => percent - idle);
    microseconds.set(programs, figuresOf(more.map((percent) => percent * 1e4 / programs)));
    const ours = figuresOf(more);
    return {
      figure: "one server, its applications send 10 heartbeats a second each",
      case: `${programs} applications, ${which}`,
      runtime,
      unit: "% of a core, less what it needs when idle",
      ours,
      ...(transport === "shm" && timeInterval === 2000 && programs === 1000 && {
        target: { text: "≤ 5 % of a core", met: ours.p50 <= 5 },
      }),
    };
  });
  const [many, few] = [microseconds.get(1000)!, microseconds.get(10)!];
  return [...rows, {
    figure: "server, each of 1,000 applications beside each of 10",
    case: which,
    runtime,
    unit: "µs/s",
    ours: many,
    peer: { name: "each of 10", figures: few },
    target: { text: "≤ 1.2 times", met: round(many.p50 / few.p50) <= 1.2 },
  }];
}

async function percentOfCore(pid: number): Promise<number> {
  const [began, from] = [performance.now(), cpuMicroseconds(pid)];
  await new Promise((resolve) => setTimeout(resolve, sampleMs));
  return (cpuMicroseconds(pid) - from) / (performance.now() - began) / 10;
}
