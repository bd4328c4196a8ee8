// What data.store() takes until the data are with the server, in a loop. Beside it, where messages are needed (pipe): two
// bare runtimes, one of which sends as much over a Unix socket, and the other answers when all is there, or each part; and
// what it takes later, when the runtime has compiled what it needs for it.
import { chunkBytes } from "../../src/core/wire.ts";
import {
  type BenchRuntime,
  peerSamples,
  runtimes,
  start,
  withSocketPath,
} from "../support/host.ts";
import {
  type Depth,
  type Measurement,
  type Peer,
  type Row,
  type Settings,
  target,
} from "../support/rows.ts";
import { figuresOf } from "../support/statistics.ts";

interface Size {
  readonly name: string;
  readonly size: number;
  readonly count: number;
}

const sizes: readonly Size[] = [
  { name: "64 B", size: 64, count: 1000 },
  { name: "64 KiB", size: 65_536, count: 300 },
  { name: "1 MiB", size: 1 << 20, count: 50 },
  { name: "16 MiB", size: 1 << 24, count: 10 },
];

export function measurements({ libsam, depth }: Settings): Measurement[] {
  return ["shm", "unix", "pipe"].flatMap((transport) =>
    sizes.filter(({ size }) => isWanted(depth, transport, size)).flatMap(({ name, size, count }) =>
      runtimes.map((runtime) => ({
        name: `data.store(), ${transport}, ${name}, ${runtime}`,
        rows: async () => {
          // A runtime needs some hundred to be as fast as it will be: no fewer are taken to compare the best of them.
          const some = depth === "quick" ? Math.ceil(count / 4) : count;
          const peer = () => peerSamples(libsam, "data", size, some);
          const before = await peer();
          const explained = transport === "pipe" && depth !== "check";
          const all = await stores(runtime, transport, size, explained ? 3 * some : some);
          const figures = figuresOf([...before, ...await peer()]);
          const others = [];
          if (explained) {
            others.push({
              name: `later, after ${2 * some}`,
              figures: figuresOf(all.slice(2 * some)),
            });
            const plain = { size, count: some };
            others.push(await roundTrips(runtime, "two bare runtimes, sent and answered", plain));
            const parts = { ...plain, part: chunkBytes };
            others.push(await roundTrips(runtime, "… in parts, each answered", parts));
            const asNode = { ...parts, asNode: true };
            if (runtime === "deno") others.push(await roundTrips(runtime, "… by node:net", asNode));
          }
          return [rowOf(runtime, transport, name, all.slice(0, some), figures, others)];
        },
      }))
    )
  );
}

function isWanted(depth: Depth, transport: string, size: number): boolean {
  if (depth === "full") return true;
  return size <= (transport === "shm" ? 1 << 20 : 65_536) &&
    !(depth === "quick" && transport === "pipe");
}

async function stores(
  runtime: BenchRuntime,
  transport: string,
  size: number,
  count: number,
): Promise<number[]> {
  const program = start(runtime, "data", { transport, size, count });
  try {
    const { samples } = await program.line("samples");
    await program.ended;
    return samples;
  } finally {
    await program.stop("SIGKILL");
  }
}

async function roundTrips(runtime: BenchRuntime, name: string, how: object): Promise<Peer> {
  const samples = await withSocketPath(async (path) => {
    const answerer = start(runtime, "bare_socket", { role: "answerer", path, ...how });
    await answerer.line("ready");
    const asker = start(runtime, "bare_socket", { role: "asker", path, ...how });
    try {
      return (await asker.line("samples"))["samples"];
    } finally {
      await Promise.all([asker.stop("SIGKILL"), answerer.stop("SIGKILL")]);
    }
  });
  return { name, figures: figuresOf(samples) };
}

function rowOf(
  runtime: BenchRuntime,
  transport: string,
  size: string,
  samples: readonly number[],
  peer: Peer["figures"],
  others: readonly Peer[],
): Row {
  const ours = figuresOf(samples);
  const shm = transport === "shm";
  return {
    figure: "data.store()",
    case: `${transport}, ${size}`,
    runtime,
    unit: "µs",
    ours,
    peer: { name: "sam_data_store", figures: peer },
    others,
    targets: [
      shm
        ? target("`data.store()`, shared memory: ≤ libsam's", "libsam's", ours.p50, peer.p50)
        : target(
          `\`data.store()\`, ${transport === "unix" ? "Unix socket" : "pipe"}: ≤ 2 × libsam's`,
          "2 × libsam's",
          ours.p50,
          2 * peer.p50,
        ),
    ],
  };
}
