// The time of data.store() in a loop. Over `unix` and `shm`, the floor is a bare runtime that writes as many bytes to a file. Over
// `pipe`, data travel in messages: the floors are two bare runtimes, one of which sends as many bytes over a Unix socket, and the
// other answers all of them, or each part. A further figure for `pipe` is data.store() itself after many more calls, when the
// runtime has compiled the code.
import { tmpdir } from "node:os";
import { chunkBytes } from "../../src/core/wire.ts";
import {
  type BenchRuntime,
  peerSamples,
  runtimes,
  start,
  withSocketPath,
} from "../support/host.ts";
import { afterStores, figure, peer } from "../support/names.ts";
import type { Depth, Measurement, Peer, Row, Settings } from "../support/rows.ts";
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
          // A runtime reaches its full speed after some hundred calls. Only a quick run, which compares nothing, takes fewer.
          const some = depth === "quick" ? Math.ceil(count / 4) : count;
          const libsamSamples = () => peerSamples(libsam, "data", size, some);
          const before = await libsamSamples();
          const hasFloors = depth !== "check";
          const isPipe = transport === "pipe";
          const total = isPipe && hasFloors ? 3 * some : some;
          const all = await stores(runtime, transport, size, total);
          const figures = figuresOf([...before, ...await libsamSamples()]);
          const others = [];
          if (hasFloors && !isPipe) {
            const parent = transport === "shm" ? "/dev/shm" : tmpdir();
            others.push(await writes(runtime, { parent, size, count: some }));
          }
          if (hasFloors && isPipe) {
            others.push({
              name: afterStores(2 * some),
              figures: figuresOf(all.slice(2 * some)),
            });
            const plain = { size, count: some };
            others.push(await roundTrips(runtime, peer.bareMessage, plain));
            const parts = { ...plain, part: chunkBytes };
            others.push(await roundTrips(runtime, peer.bareParts, parts));
            const asNode = { ...parts, asNode: true };
            if (runtime === "deno") {
              others.push(await roundTrips(runtime, peer.barePartsNodeNet, asNode));
            }
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

async function writes(runtime: BenchRuntime, settings: object): Promise<Peer> {
  const writer = start(runtime, "bare_writer", settings);
  try {
    const { samples } = await writer.line("samples");
    return { name: peer.bareWrite, figures: figuresOf(samples) };
  } finally {
    await writer.stop("SIGKILL");
  }
}

async function roundTrips(runtime: BenchRuntime, name: string, settings: object): Promise<Peer> {
  const samples = await withSocketPath(async (path) => {
    const answerer = start(runtime, "bare_socket", { role: "answerer", path, ...settings });
    await answerer.line("ready");
    const asker = start(runtime, "bare_socket", { role: "asker", path, ...settings });
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
  libsam: Peer["figures"],
  others: readonly Peer[],
): Row {
  return {
    figure: figure.data,
    case: `${transport}, ${size}`,
    runtime,
    unit: "µs",
    sam: figuresOf(samples),
    peer: { name: peer.dataStore, figures: libsam },
    others,
  };
}
