// The time from the spawn of a program until its first line, which it writes after `register()`. Beside it, programs without
// the library: one writes its line at once, one after a connection with one question and answer, one after the import of the
// library, and on Deno one after the import of `node:net`, which a pipe needs there.
import { createServer } from "node:net";
import { type BenchRuntime, programFor, runtimes, start, withSocketPath } from "../support/host.ts";
import { figure, peer } from "../support/names.ts";
import type { Measurement, Row, Settings } from "../support/rows.ts";
import { figuresOf } from "../support/statistics.ts";

/** The work of a program before its first line. The last three show parts of the whole. */
const roles = ["bare", "registers", "connects", "imports", "net"] as const;
type Role = typeof roles[number];

export function measurements({ depth }: Settings): Measurement[] {
  const transports = depth === "full" ? ["unix", "pipe", "shm"] : ["unix"];
  const rounds = depth === "full" ? 20 : 7;
  return runtimes.flatMap((runtime) =>
    transports.map((transport) => ({
      name: `start-up, ${transport}, ${runtime}`,
      rows: async () => [
        await rowOf(runtime, transport, depth === "full" ? roles : roles.slice(0, 2), rounds),
      ],
    }))
  );
}

async function rowOf(
  runtime: BenchRuntime,
  transport: string,
  wanted: readonly Role[],
  rounds: number,
): Promise<Row> {
  const samples = await alternately(runtime, transport, wanted, rounds);
  const [bare, sam, connects, imports, net] = samples.map(figuresOf);
  return {
    figure: figure.startUp,
    case: transport,
    runtime,
    unit: "ms",
    sam: sam!,
    peer: { name: peer.bare, figures: bare! },
    others: [
      ...(connects ? [{ name: peer.bareConnects, figures: connects }] : []),
      ...(imports ? [{ name: peer.bareImports, figures: imports }] : []),
      ...(net && runtime === "deno" ? [{ name: peer.bareImportsNet, figures: net }] : []),
    ],
  };
}

/** Milliseconds from the spawn of a program until its first line, by role. The roles take turns. */
async function alternately(
  runtime: BenchRuntime,
  transport: string,
  wanted: readonly Role[],
  rounds: number,
): Promise<number[][]> {
  const options = { timeInterval: 60_000, recoveryPolicy: "quit", transport };
  return await withSocketPath(async (path) => {
    const answerer = createServer((socket) => socket.on("data", () => void socket.write("a")));
    await new Promise<void>((resolve) => answerer.listen(path, resolve));
    const runs = Array.from({ length: wanted.length * (rounds + 1) }, (_, run) => ({
      program: programFor(runtime, "startup", {
        role: wanted[run % wanted.length],
        transport,
        path,
      }),
      options,
    }));
    const server = start("node26", "supervisor", { runs });
    try {
      const samples: number[] = [];
      for (let run = 0; run < runs.length; run++) {
        const spawned = await server.line("spawn", run + 1);
        const first = await server.line("first", run + 1);
        samples.push(first.arrived - spawned["at"]);
      }
      await server.ended;
      const measured = samples.slice(wanted.length); // the first round only fills the caches
      return wanted.map((_, role) => measured.filter((_, run) => run % wanted.length === role));
    } finally {
      answerer.close();
      await server.stop("SIGKILL");
    }
  });
}
