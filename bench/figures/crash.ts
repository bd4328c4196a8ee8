// How long a program is away after a crash, and after a hang: until its next instance stands behind register(), with a
// standby and without.
import { runtimePath } from "../../test/support/runtimes.ts";
import { bigModule } from "../support/big_module.ts";
import { type App, bare, crashes, hangInterval, hangs } from "../support/crashes.ts";
import { type BenchRuntime, peerSamples, root, runtimes } from "../support/host.ts";
import {
  type Depth,
  type Measurement,
  type Peer,
  type Row,
  type Settings,
  target,
} from "../support/rows.ts";
import { type Figures, figuresOf } from "../support/statistics.ts";

interface Case extends App {
  readonly name: string;
}

const trivial: Case = { name: "trivial", mib: 0 };
const withModule: Case = { name: "9 MB module", mib: 0, withModule: true };
const withCache: Case = {
  ...withModule,
  name: "9 MB module, NODE_COMPILE_CACHE set",
  cached: true,
};
const sizes: readonly Case[] = [
  trivial,
  { name: "64 MiB", mib: 64 },
  { name: "256 MiB", mib: 256 },
  withModule,
  withCache,
];

/** How much slower than a bare start a crash without a standby may be, in ms. */
const limitMs: Readonly<Record<BenchRuntime, number>> = { node26: 8, deno: 5, bun: 5 };

/** Samples in a row; then it is somebody else's turn. */
const batch = 3;

export function measurements({ depth, libsam }: Settings): Measurement[] {
  return runtimes.flatMap((runtime) =>
    sizes.filter((size) => isWanted(depth, runtime, size)).map((size) => ({
      name: `crash, ${size.name}, ${runtime}`,
      rows: () => sizeRows({ runtime, size, depth, libsam }),
    }))
  );
}

function isWanted(depth: Depth, runtime: BenchRuntime, size: Case): boolean {
  if (size.cached && runtime !== "node26") return false;
  return depth === "full" || size === trivial;
}

interface Task {
  readonly runtime: BenchRuntime;
  readonly size: Case;
  readonly depth: Depth;
  readonly libsam: string;
}

/** Samples by what they are of. */
type Samples = Readonly<Record<string, readonly number[]>>;
/** Takes a batch of samples. */
type Taker = () => Promise<Samples>;

async function sizeRows(task: Task): Promise<Row[]> {
  const { runtime, size, depth } = task;
  const isTrivial = size === trivial;
  const transports = isTrivial && depth === "full" ? ["unix", "shm", "pipe"] : ["unix"];
  const standbys = depth === "check" ? [1] as const : [1, 0] as const;
  const takers: Taker[] = [async () => {
    const { spawns, exits } = await bare(runtime, size, batch);
    return { spawns, exits };
  }];
  if (runtime === "node26" && depth !== "check") {
    takers.push(async () => ({ forks: (await bare(runtime, size, batch, "fork")).spawns }));
  }
  for (const transport of transports) {
    for (const standby of standbys) {
      const app = { ...size, transport, standby };
      takers.push(async () => ({
        [`crash ${standby} ${transport}`]: await crashes(runtime, app, batch),
      }));
    }
  }
  for (const standby of isTrivial && depth === "full" ? standbys : []) {
    const app = { ...size, standby };
    takers.push(async () => ({ [`hang ${standby}`]: await hangs(runtime, app, batch) }));
  }
  takers.push(...peerTakers(task));
  const taken = await alternately(takers, depth === "full" ? 2 : 1);
  const figures = new Map(
    Object.entries(taken).map(([name, samples]) => [name, figuresOf(samples)]),
  );
  return [
    ...transports.flatMap((transport) => crashRows(task, transport, figures)),
    ...[1, 0].flatMap((standby) => hangRows(task, standby, figures)),
  ];
}

/** In each round, everybody takes a batch. */
async function alternately(takers: readonly Taker[], rounds: number): Promise<Samples> {
  const all: Record<string, number[]> = {};
  for (let round = 0; round < rounds; round++) {
    for (const take of takers) {
      for (const [name, samples] of Object.entries(await take())) {
        all[name] = [...all[name] ?? [], ...samples];
      }
    }
  }
  return all;
}

function crashRows(
  { runtime, size }: Task,
  transport: string,
  figures: ReadonlyMap<string, Figures>,
): Row[] {
  const [exits, spawns] = [figures.get("exits")!, figures.get("spawns")!];
  const warm = figures.get(`crash 1 ${transport}`)!;
  const cold = figures.get(`crash 0 ${transport}`);
  const exit = { name: "SIGKILL → exit seen, bare", figures: exits };
  const forks = figures.get("forks");
  const fork = forks ? [{ name: "fork → first line, bare", figures: forks }] : [];
  const others = peerNames.filter((name) => figures.has(name))
    .map((name): Peer => ({ name, figures: figures.get(name)! }));
  const common = { case: `${size.name}, ${transport}`, runtime, unit: "ms" };
  const rows: Row[] = [{
    ...common,
    figure: "crash → register(), standby",
    ours: warm,
    peer: exit,
    others,
    targets: [target(
      "crash → `register()`, `standby: 1`: ≤ 1.5 × (SIGKILL → exit, bare) + 1 ms",
      "1.5 × bare + 1",
      warm.p50,
      1.5 * exits.p50 + 1,
    )],
  }];
  if (!cold) return rows;
  const more = limitMs[runtime];
  rows.push({
    ...common,
    figure: "crash → register()",
    ours: cold,
    peer: { name: "spawn → first line, bare", figures: spawns },
    others: [...fork, exit, ...others],
    targets: [target(
      "crash → `register()`, `standby: 0`: ≤ bare spawn + bare exit + 5 ms (Node 8 ms)",
      `bare spawn + bare exit + ${more}`,
      cold.p50,
      spawns.p50 + exits.p50 + more,
    )],
  });
  if (size === withModule) {
    rows.push({
      ...common,
      figure: "what a standby is worth",
      ours: warm,
      peer: { name: "crash → register()", figures: cold },
      targets: [target(
        "9 MB module: a standby is at least 8 times faster than none",
        "1/8 of without",
        warm.p50,
        cold.p50 / 8,
      )],
    });
  }
  return rows;
}

function hangRows(
  { runtime, size }: Task,
  standby: number,
  figures: ReadonlyMap<string, Figures>,
): Row[] {
  const ours = figures.get(`hang ${standby}`);
  if (!ours) return [];
  const [exits, spawns] = [figures.get("exits")!, figures.get("spawns")!];
  const limit = standby ? 1.5 * exits.p50 + 1 : spawns.p50 + exits.p50 + limitMs[runtime];
  const warningMs = runtime === "deno" ? 2 : 1;
  return [{
    figure: `last heartbeat → register()${standby ? ", standby" : ""}`,
    case: `${size.name}, unix, T = ${hangInterval} ms`,
    runtime,
    unit: "ms",
    ours,
    peer: { name: "libsam", figures: figures.get("libsam hang")! },
    targets: [target(
      `hang → \`register()\`, \`standby: ${standby}\`: ≤ the warning's target + T + the crash's target`,
      "warning + T + crash",
      ours.p50,
      2 * hangInterval + warningMs + limit,
    )],
  }];
}

const peerNames = ["libsam", "node:cluster", "PM2"];

/** What others take for the same, where they can do the same. */
function peerTakers({ runtime, size, depth, libsam }: Task): Taker[] {
  const takers: Taker[] = [];
  const add = (name: string, file: string, ...words: (string | number)[]): void => {
    takers.push(async () => ({ [name]: await peerSamples(file, ...words) }));
  };
  if (!size.withModule) add("libsam", libsam, "crash", batch, size.mib);
  if (size === trivial && depth === "full") {
    add("libsam hang", libsam, "hang-recovery", hangInterval, batch);
  }
  if (runtime !== "node26" || depth !== "full") return takers;
  const node = runtimePath(runtime);
  const peer = (name: string): string => `${root}bench/peers/${name}.mjs`;
  const module = size.withModule ? [bigModule()] : [];
  add("node:cluster", node, peer("cluster"), "crash", batch, size.mib, ...module);
  if (size === trivial) add("PM2", node, peer("pm2"), "crash", batch);
  return takers;
}
