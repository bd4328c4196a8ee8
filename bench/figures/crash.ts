// The time from a crash, and from a hang, until register() resolves in the next instance, with a spare and without.
import { runtimePath } from "../../test/support/runtimes.ts";
import { bigModule } from "../support/big_module.ts";
import { type App, bareTimes, crashTimes, hangTimes } from "../support/crashes.ts";
import { type BenchRuntime, peerSamples, root, runtimes } from "../support/host.ts";
import { figure, peer } from "../support/names.ts";
import type { Depth, Measurement, Peer, Row, Settings } from "../support/rows.ts";
import { type Figures, figuresOf } from "../support/statistics.ts";
import { hangInterval } from "../support/targets.ts";

interface Case extends App {
  readonly name: string;
}

const small: Case = { name: "small program", mib: 0 };
const withModule: Case = { name: "9 MB module", mib: 0, withModule: true };
const withCache: Case = {
  ...withModule,
  name: "9 MB module, NODE_COMPILE_CACHE set",
  cached: true,
};
const sizes: readonly Case[] = [
  small,
  { name: "64 MiB", mib: 64 },
  { name: "256 MiB", mib: 256 },
  withModule,
  withCache,
];

/** The number of samples that a sampler takes in one turn. */
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
  return depth === "full" || size === small;
}

interface Task {
  readonly runtime: BenchRuntime;
  readonly size: Case;
  readonly depth: Depth;
  readonly libsam: string;
}

/** Samples by name. */
type Samples = Readonly<Record<string, readonly number[]>>;
/** Takes a batch of samples. */
type Sampler = () => Promise<Samples>;

async function sizeRows(task: Task): Promise<Row[]> {
  const { runtime, size, depth } = task;
  const isSmall = size === small;
  const transports = isSmall && depth === "full" ? ["unix", "shm", "pipe"] : ["unix"];
  const standbys = depth === "check" ? [1] as const : [1, 0] as const;
  const samplers: Sampler[] = [async () => {
    const { spawns, exits } = await bareTimes(runtime, size, batch);
    return { spawns, exits };
  }];
  if (runtime === "node26" && depth !== "check") {
    samplers.push(async () => ({ forks: (await bareTimes(runtime, size, batch, "fork")).spawns }));
  }
  for (const transport of transports) {
    for (const standby of standbys) {
      const app = { ...size, transport, standby };
      samplers.push(async () => ({
        [`crash ${standby} ${transport}`]: await crashTimes(runtime, app, batch),
      }));
    }
  }
  for (const standby of isSmall && depth === "full" ? standbys : []) {
    const app = { ...size, standby };
    samplers.push(async () => ({ [`hang ${standby}`]: await hangTimes(runtime, app, batch) }));
  }
  samplers.push(...peerSamplers(task));
  const samples = await alternately(samplers, depth === "full" ? 2 : 1);
  const figures = new Map(
    Object.entries(samples).map(([name, values]) => [name, figuresOf(values)]),
  );
  return [
    ...transports.flatMap((transport) => crashRows(task, transport, figures)),
    ...[1, 0].flatMap((standby) => hangRows(task, standby, figures)),
  ];
}

/** In each round, each sampler takes a batch, so that a change of the machine affects all of them. */
async function alternately(samplers: readonly Sampler[], rounds: number): Promise<Samples> {
  const all: Record<string, number[]> = {};
  for (let round = 0; round < rounds; round++) {
    for (const sample of samplers) {
      for (const [name, samples] of Object.entries(await sample())) {
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
  const withSpare = figures.get(`crash 1 ${transport}`)!;
  const withoutSpare = figures.get(`crash 0 ${transport}`);
  const exit = { name: peer.bareExit, figures: exits };
  const forks = figures.get("forks");
  const fork = forks ? [{ name: peer.bareFork, figures: forks }] : [];
  const others = peerNames.filter((name) => figures.has(name))
    .map((name): Peer => ({ name, figures: figures.get(name)! }));
  const common = { case: `${size.name}, ${transport}`, runtime, unit: "ms" };
  const rows: Row[] = [{
    ...common,
    figure: figure.crashWithSpare,
    sam: withSpare,
    peer: exit,
    others,
  }];
  if (!withoutSpare) return rows;
  rows.push({
    ...common,
    figure: figure.crash,
    sam: withoutSpare,
    peer: { name: peer.bareSpawn, figures: spawns },
    others: [...fork, exit, ...others],
  });
  if (size === withModule) {
    rows.push({
      ...common,
      figure: figure.spareGain,
      sam: withSpare,
      peer: { name: peer.withoutSpare, figures: withoutSpare },
    });
  }
  return rows;
}

function hangRows(
  { runtime, size }: Task,
  standby: number,
  figures: ReadonlyMap<string, Figures>,
): Row[] {
  const sam = figures.get(`hang ${standby}`);
  if (!sam) return [];
  return [{
    figure: standby ? figure.hangRecoveryWithSpare : figure.hangRecovery,
    case: `${size.name}, unix, T = ${hangInterval} ms`,
    runtime,
    unit: "ms",
    sam,
    peer: { name: peer.libsam, figures: figures.get("libsam hang")! },
    others: [
      { name: peer.bareExit, figures: figures.get("exits")! },
      { name: peer.bareSpawn, figures: figures.get("spawns")! },
    ],
  }];
}

const peerNames = [peer.libsam, peer.nodeCluster, peer.pm2];

/** The samplers of the alternatives that can recover this program. */
function peerSamplers({ runtime, size, depth, libsam }: Task): Sampler[] {
  const samplers: Sampler[] = [];
  const add = (name: string, file: string, ...words: (string | number)[]): void => {
    samplers.push(async () => ({ [name]: await peerSamples(file, ...words) }));
  };
  if (!size.withModule) add(peer.libsam, libsam, "crash", batch, size.mib);
  if (size === small && depth === "full") {
    add("libsam hang", libsam, "hang-recovery", hangInterval, batch);
  }
  if (runtime !== "node26" || depth !== "full") return samplers;
  const node = runtimePath(runtime);
  const program = (name: string): string => `${root}bench/peers/${name}.mjs`;
  const module = size.withModule ? [bigModule()] : [];
  add(peer.nodeCluster, node, program("cluster"), "crash", batch, size.mib, ...module);
  if (size === small) add(peer.pm2, node, program("pm2"), "crash", batch);
  return samplers;
}
