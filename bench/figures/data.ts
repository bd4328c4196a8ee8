// What data.store() takes until the data are with the server, in a loop.
import { peerSamples, runtimes, start } from "../support/host.ts";
import { atMost, type Row, type Settings } from "../support/rows.ts";
import { figuresOf } from "../support/statistics.ts";

const sizes: readonly [string, number, number][] = [
  ["64 B", 64, 1000],
  ["64 KiB", 65_536, 400],
  ["1 MiB", 1 << 20, 60],
  ["16 MiB", 1 << 24, 12],
];

export async function rows({ libsam, quick, scale }: Settings): Promise<Row[]> {
  const rows: Row[] = [];
  for (const transport of ["shm", "unix", "pipe"]) {
    if (quick && transport === "pipe") continue;
    for (const [name, size, most] of sizes) {
      const count = Math.ceil(most * scale);
      for (const runtime of runtimes) {
        const before = peerSamples(libsam, "data", size, count);
        const program = start(runtime, "data", { transport, size, count });
        const { samples } = await program.line("samples");
        await program.ended;
        const peer = figuresOf([...before, ...peerSamples(libsam, "data", size, count)]);
        const ours = figuresOf(samples);
        const factor = transport === "shm" ? 1 : 2;
        rows.push({
          figure: "data.store()",
          case: `${transport}, ${name}`,
          runtime,
          unit: "µs",
          ours,
          peer: { name: "sam_data_store", figures: peer },
          target: atMost(
            ours,
            factor,
            peer,
            factor === 1 ? "≤ libsam's" : `≤ ${factor} × libsam's`,
          ),
        });
      }
    }
  }
  return rows;
}
