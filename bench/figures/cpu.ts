// What 1,000 heartbeats a second cost the server, beside libsam's server and beside a bare runtime that only wakes up as
// often. All three are looked at in the same seconds: the application keeps a core busy, and that core is beside each.
import { setTimeout as sleep } from "node:timers/promises";
import {
  beater,
  type BenchRuntime,
  cpuMicroseconds,
  peerSamples,
  Running,
  runtimes,
  start,
  withSocketPath,
} from "../support/host.ts";
import { type Measurement, type Row, type Settings, target } from "../support/rows.ts";
import { figuresOf } from "../support/statistics.ts";

const rate = 1000;
/** A process's own start is over by then, and what is called often has been compiled. */
const warmMs = 1500;
/** Several periods of the longest timer are in one sample. */
const sampleMs = 2500;

interface Case {
  readonly transport: string;
  readonly timeInterval: number;
}

const cases: readonly Case[] = [
  { transport: "shm", timeInterval: 10_000 },
  { transport: "shm", timeInterval: 2000 },
  { transport: "shm", timeInterval: 100 },
  { transport: "unix", timeInterval: 2000 },
  { transport: "pipe", timeInterval: 2000 },
];

export function measurements({ libsam, depth }: Settings): Measurement[] {
  const isWanted = ({ transport, timeInterval }: Case) =>
    depth === "full" || (timeInterval === 2000 && transport !== "pipe");
  return cases.filter(isWanted).flatMap((which) =>
    runtimes.map((runtime) => ({
      name: `processor time, ${which.transport}, ${which.timeInterval}, ${runtime}`,
      rows: async () => [await rowOf(runtime, which, depth === "full" ? 2 : 1, libsam)],
    }))
  );
}

async function rowOf(
  runtime: BenchRuntime,
  { transport, timeInterval }: Case,
  samples: number,
  libsam: string,
): Promise<Row> {
  const shm = transport === "shm";
  const seconds = Math.ceil((samples * sampleMs) / 1000);
  const beating = (1.5 * warmMs) / 1000 + seconds + 2; // it is ended before that
  const how = { transport, timeInterval, rate, seconds: beating };
  const programs: Running[] = [start(runtime, "cpu", how)];
  return await withSocketPath(async (path) => {
    try {
      programs.push(
        shm
          ? start(runtime, "bare_timer", { ms: timeInterval / 16 })
          : start(runtime, "bare_socket", { role: "reader", path }),
      );
      await Promise.all(programs.map((program) => program.line("ready")));
      if (!shm) programs.push(new Running(beater, [path, "1"]));
      await sleep(warmMs);
      const [server, floor] = programs as [Running, Running];
      const [oursUsed, floorUsed, peerUsed] = await Promise.all([
        used(server.pid, samples),
        used(floor.pid, samples),
        peerSamples(libsam, "cpu", rate, seconds, timeInterval),
      ]);
      const [ours, peer] = [figuresOf(oursUsed), figuresOf(peerUsed)];
      const floorName = shm ? `a timer of ${timeInterval / 16} ms` : "a byte a millisecond";
      return {
        figure: "the server's processor time at 1,000 heartbeats a second",
        case: `${transport}, T = ${timeInterval} ms`,
        runtime,
        unit: "µs a second",
        ours,
        peer: { name: "libsam's server", figures: peer },
        others: [{ name: `the bare runtime, ${floorName}`, figures: figuresOf(floorUsed) }],
        targets: [
          shm
            ? target(
              `server CPU at 1,000 heartbeats/s, shared memory, T = ${timeInterval} ms: ≤ 1/20 of libsam's`,
              "1/20 of libsam's",
              ours.p50,
              peer.p50 / 20,
            )
            : target(
              "server CPU at 1,000 heartbeats/s, Unix socket and pipe: ≤ libsam's",
              "libsam's",
              ours.p50,
              peer.p50,
            ),
        ],
      };
    } finally {
      await Promise.all(programs.map((program) => program.stop("SIGKILL")));
    }
  });
}

/** Microseconds of processor time a second. */
async function used(pid: number, count: number): Promise<number[]> {
  const samples: number[] = [];
  for (let nth = 0; nth < count; nth++) {
    const [before, at] = [cpuMicroseconds(pid), performance.now()];
    await sleep(sampleMs);
    samples.push((1000 * (cpuMicroseconds(pid) - before)) / (performance.now() - at));
  }
  return samples;
}
