// What `import`, `initialize()` and `register()` add to the time from a program's spawn to its first line. Beside it, what
// a connection with one question and answer adds, without the library, what the library's import alone adds, and, on Deno,
// that of `node:net`, which a pipe needs there.
import { createServer } from "node:net";
import { type BenchRuntime, programFor, runtimes, start, withSocketPath } from "../support/host.ts";
import { type Measurement, type Row, type Settings, target } from "../support/rows.ts";
import { figuresOf } from "../support/statistics.ts";

const limitMs: Readonly<Record<BenchRuntime, number>> = { node26: 8, deno: 5, bun: 5 };

/** What the program does before its first line, in turn; the last ones only explain the figure. */
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
  const [bare, ours, connects, imports, net] = samples.map(figuresOf);
  const limit = limitMs[runtime];
  return {
    figure: "start-up",
    case: transport,
    runtime,
    unit: "ms",
    ours: ours!,
    peer: { name: "the bare runtime", figures: bare! },
    others: [
      ...(connects ? [{ name: "… that connects and gets an answer", figures: connects }] : []),
      ...(imports ? [{ name: "… that imports this library", figures: imports }] : []),
      ...(net && runtime === "deno" ? [{ name: "… that loads node:net", figures: net }] : []),
    ],
    targets: [target(
      "start-up: ≤ 5 ms over the bare runtime (Node 8 ms)",
      "more than bare",
      ours!.p50 - bare!.p50,
      limit,
    )],
  };
}

/** Milliseconds from a spawn by a supervisor to the program's first line, by role. */
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
      const measured = samples.slice(wanted.length); // the first round fills caches
      return wanted.map((_, role) => measured.filter((_, run) => run % wanted.length === role));
    } finally {
      answerer.close();
      await server.stop("SIGKILL");
    }
  });
}
