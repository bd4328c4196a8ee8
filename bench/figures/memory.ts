// The memory of a server with one program, beside bare runtimes, each after a forced garbage collection. The program is a
// command that never connects to the server. figures/many.ts has the memory that further programs add.
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
import { figure, peer } from "../support/names.ts";
import type { Measurement, Row, Settings } from "../support/rows.ts";
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
      // They run at the same time, because this does not change their memory.
      for (let round = 0; round < rounds; round++) {
        const seen = await Promise.all(kinds.map((kind) => alone(runtime, kind)));
        for (const [nth, memory] of seen.entries()) rows[nth]!.push(memory);
      }
      const { rssKiB } = await peerResult(libsam, "memory") as { rssKiB: number };
      const [bareRows, parentRows, ...samRows] = rows as [Memory[], Memory[], ...Memory[][]];
      return transports.map((transport, nth) =>
        rowOf(runtime, transport, samRows[nth]!, bareRows, parentRows, rssKiB)
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
  samRows: readonly Memory[],
  bareRows: readonly Memory[],
  parentRows: readonly Memory[],
  libsamKiB: number,
): Row {
  const resident = (rows: readonly Memory[]) => figuresOf(rows.map(({ resident }) => resident));
  const own = (rows: readonly Memory[]) => figuresOf(rows.map(({ own }) => own));
  return {
    figure: figure.memory,
    case: transport,
    runtime,
    unit: "KiB",
    sam: resident(samRows),
    peer: { name: peer.bare, figures: resident(bareRows) },
    others: [
      { name: peer.bareParent, figures: resident(parentRows) },
      { name: peer.privateMemory, figures: own(samRows) },
      { name: peer.barePrivate, figures: own(bareRows) },
      { name: peer.libsamServer, figures: figuresOf([libsamKiB]) },
    ],
  };
}
