// The memory of a server: what one program, which never links, adds to a bare runtime, and what each of many applications
// adds to that. It is looked at after a forced garbage collection, of the bare runtime too.
import { type BenchRuntime, privateKiB, residentKiB, runtimes } from "../support/host.ts";
import { bare, bareParent, type Kind, type Step, stepwise } from "../support/many.ts";
import type { Peer, Row, Settings } from "../support/rows.ts";
import { type Figures, figuresOf } from "../support/statistics.ts";

const flags: Readonly<Record<BenchRuntime, readonly string[]>> = {
  node26: ["--expose-gc"],
  deno: ["--v8-flags=--expose-gc"],
  bun: [],
};

interface Memory {
  readonly resident: number;
  readonly own: number;
}

export async function rows({ quick, scale }: Settings): Promise<Row[]> {
  const rows: Row[] = [];
  const rounds = Math.ceil(3 * scale);
  for (const runtime of runtimes) {
    const bareSamples: Memory[] = [];
    for (let round = 0; round < rounds; round++) bareSamples.push(await alone(runtime, bare));
    const parentSamples: number[] = [];
    for (let round = 0; round < rounds; round++) {
      parentSamples.push((await alone(runtime, bareParent)).resident);
    }
    const parent = { name: "the bare runtime with a child", figures: figuresOf(parentSamples) };
    const many = quick ? 300 : 1000;
    const child = {
      name: "the bare runtime, each child",
      figures: figuresOf([(await grown(runtime, bareParent, many)).resident]),
    };
    for (const transport of quick ? ["unix"] : ["unix", "shm"]) {
      rows.push(await one(runtime, transport, rounds, bareSamples, parent));
      rows.push(await growth(runtime, transport, many, child));
    }
  }
  return rows;
}

async function one(
  runtime: BenchRuntime,
  transport: string,
  rounds: number,
  bareSamples: readonly Memory[],
  parent: Peer,
): Promise<Row> {
  const samples: Memory[] = [];
  const kind: Kind = { transport, timeInterval: 0, linked: false };
  for (let round = 0; round < rounds; round++) samples.push(await alone(runtime, kind));
  const ours = figuresOf(samples.map(({ resident }) => resident));
  const peer = figuresOf(bareSamples.map(({ resident }) => resident));
  return {
    figure: "server, resident memory with one program",
    case: transport,
    runtime,
    unit: "KiB",
    ours,
    peer: { name: "the bare runtime", figures: peer },
    others: [
      parent,
      { name: "ours, private", figures: figuresOf(samples.map(({ own }) => own)) },
      { name: "the bare runtime, private", figures: figuresOf(bareSamples.map(({ own }) => own)) },
    ],
    target: { text: "≤ 4 MiB more", met: ours.p50 - peer.p50 <= 4096 },
  };
}

const few = 10;

async function growth(
  runtime: BenchRuntime,
  transport: string,
  many: number,
  child: Peer,
): Promise<Row> {
  const { resident, own } = await grown(
    runtime,
    { transport, timeInterval: 2000, linked: true },
    many,
  );
  const ours: Figures = figuresOf([resident]);
  return {
    figure: "server, resident memory for each further application",
    case: `${transport}, from ${few} to ${many}`,
    runtime,
    unit: "KiB",
    ours,
    others: [child, { name: "private", figures: figuresOf([own]) }],
    target: { text: "≤ 20 KiB", met: ours.p50 <= 20 },
  };
}

/** What each application from `few` to `many` adds. */
async function grown(
  runtime: BenchRuntime,
  kind: Kind | typeof bareParent,
  many: number,
): Promise<Memory> {
  const steps = [few, many].map((programs) => ({ programs, settleMs: 2000, windowMs: 200 }));
  const [before, after] = await stepwise(runtime, flags[runtime], kind, steps, memoryOf);
  return {
    resident: (after!.resident - before!.resident) / (many - few),
    own: (after!.own - before!.own) / (many - few),
  };
}

async function alone(
  runtime: BenchRuntime,
  kind: Kind | typeof bare | typeof bareParent,
): Promise<Memory> {
  const step: Step = { programs: 1, settleMs: 600, windowMs: 100 };
  const [memory] = await stepwise(runtime, flags[runtime], kind, [step], memoryOf);
  return memory!;
}

function memoryOf(pid: number): Memory {
  return { resident: residentKiB(pid), own: privateKiB(pid) };
}
