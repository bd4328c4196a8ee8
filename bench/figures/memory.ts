// The memory of a server with one program, which never links: what that adds to a bare runtime. It is looked at after a
// forced garbage collection, of the bare runtime too. (What each further program adds is part of figures/many.ts.)
import { type BenchRuntime, peerResult, runtimes } from "../support/host.ts";
import {
  bare,
  bareParent,
  type Kind,
  type Memory,
  memoryOf,
  stepwise,
  withGarbageCollection,
} from "../support/many.ts";
import { type Measurement, type Row, type Settings, target } from "../support/rows.ts";
import { figuresOf } from "../support/statistics.ts";

export function measurements({ depth, libsam }: Settings): Measurement[] {
  const transports = depth === "full" ? ["unix", "pipe", "shm"] : ["unix"];
  const rounds = depth === "full" ? 3 : 1;
  return runtimes.map((runtime) => ({
    name: `memory, ${runtime}`,
    rows: async () => {
      const kinds: (Kind | typeof bare | typeof bareParent)[] = [
        bare,
        bareParent,
        ...transports.map((transport): Kind => ({ transport, timeInterval: 0, linked: false })),
      ];
      const rows: Memory[][] = kinds.map(() => []);
      // At the same time: memory does not care.
      for (let round = 0; round < rounds; round++) {
        const seen = await Promise.all(kinds.map((kind) => alone(runtime, kind)));
        for (const [nth, memory] of seen.entries()) rows[nth]!.push(memory);
      }
      const { rssKiB } = await peerResult(libsam, "memory") as { rssKiB: number };
      const [bareRows, parentRows, ...ours] = rows as [Memory[], Memory[], ...Memory[][]];
      return transports.map((transport, nth) =>
        rowOf(runtime, transport, ours[nth]!, bareRows, parentRows, rssKiB)
      );
    },
  }));
}

async function alone(
  runtime: BenchRuntime,
  kind: Kind | typeof bare | typeof bareParent,
): Promise<Memory> {
  const step = { programs: 1, settleMs: 1500, windowMs: 100 };
  const flags = withGarbageCollection[runtime];
  const [memory] = await stepwise(runtime, flags, kind, [step], memoryOf);
  return memory!;
}

function rowOf(
  runtime: BenchRuntime,
  transport: string,
  ours: readonly Memory[],
  bareRows: readonly Memory[],
  parentRows: readonly Memory[],
  libsamKiB: number,
): Row {
  const resident = (rows: readonly Memory[]) => figuresOf(rows.map(({ resident }) => resident));
  const own = (rows: readonly Memory[]) => figuresOf(rows.map(({ own }) => own));
  return {
    figure: "server, resident memory with one program",
    case: transport,
    runtime,
    unit: "KiB",
    ours: resident(ours),
    peer: { name: "the bare runtime", figures: resident(bareRows) },
    others: [
      { name: "the bare runtime with a child and a socket", figures: resident(parentRows) },
      { name: "ours, private", figures: own(ours) },
      { name: "the bare runtime, private", figures: own(bareRows) },
      { name: "libsam's server", figures: figuresOf([libsamKiB]) },
    ],
    targets: [target(
      "server memory: ≤ 4 MiB over the bare runtime",
      "more than bare",
      resident(ours).p50 - resident(bareRows).p50,
      4096,
    )],
  };
}
