// What `import`, `initialize()` and `register()` add to the time from a program's spawn to its first line.
import { type BenchRuntime, programFor, runtimes, start } from "../support/host.ts";
import type { Row, Settings } from "../support/rows.ts";
import { figuresOf } from "../support/statistics.ts";

const limitMs: Readonly<Record<BenchRuntime, number>> = { node26: 8, deno: 5, bun: 5 };

export async function rows({ scale }: Settings): Promise<Row[]> {
  const rows: Row[] = [];
  for (const runtime of runtimes) {
    for (const transport of ["unix", "pipe", "shm"]) {
      const { bare, ours } = await alternately(runtime, transport, Math.ceil(30 * scale));
      const [oursFigures, bareFigures] = [figuresOf(ours), figuresOf(bare)];
      rows.push({
        figure: "start-up",
        case: transport,
        runtime,
        unit: "ms",
        ours: oursFigures,
        peer: { name: "the bare runtime", figures: bareFigures },
        target: {
          text: `≤ ${limitMs[runtime]} ms more`,
          met: oursFigures.p50 - bareFigures.p50 <= limitMs[runtime],
        },
      });
    }
  }
  return rows;
}

/** Milliseconds from a spawn by a supervisor to the program's first line. */
async function alternately(
  runtime: BenchRuntime,
  transport: string,
  rounds: number,
): Promise<{ bare: number[]; ours: number[] }> {
  const options = { timeInterval: 60_000, recoveryPolicy: "quit", transport };
  const runs = Array.from({ length: 2 * rounds + 2 }, (_, run) => ({
    program: programFor(runtime, "startup", { transport, bare: run % 2 === 0 }),
    options,
  }));
  const server = start("node26", "supervisor", { runs });
  const samples: number[] = [];
  for (let run = 0; run < runs.length; run++) {
    const spawned = await server.line("spawn", run + 1);
    const first = await server.line("first", run + 1);
    samples.push(first.arrived - spawned["at"]);
  }
  await server.ended;
  const measured = samples.slice(2); // the first pair fills caches
  return {
    bare: measured.filter((_, run) => run % 2 === 0),
    ours: measured.filter((_, run) => run % 2 === 1),
  };
}
