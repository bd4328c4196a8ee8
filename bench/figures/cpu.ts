// The CPU time of the server at 1,000 heartbeats per second, beside libsam's server and a bare runtime that wakes up as often.
// All three are measured in the same seconds, because the program keeps one core busy, and a core beside a busy one is slower.
import { setTimeout as sleep } from "node:timers/promises";
import {
  type BenchRuntime,
  cpuMicroseconds,
  peerSamples,
  Running,
  runtimes,
  start,
  tinyProgram,
  withSocketPath,
} from "../support/host.ts";
import { figure, peer, timerEvery } from "../support/names.ts";
import type { Measurement, Row, Settings } from "../support/rows.ts";
import { figuresOf } from "../support/statistics.ts";
import { lookMs } from "../support/targets.ts";

const rate = 1000;
/** The time for the start of a process and the compilation of its code, in milliseconds. */
const warmMs = 1500;
/** The length of one sample: several periods of the longest timer. */
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
      name: `CPU time, ${which.transport}, ${which.timeInterval}, ${runtime}`,
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
  const periodMs = lookMs(timeInterval);
  const seconds = Math.ceil((samples * sampleMs) / 1000);
  const programSeconds = (1.5 * warmMs) / 1000 + seconds + 2; // longer than the measurement
  const settings = { transport, timeInterval, rate, seconds: programSeconds };
  const programs: Running[] = [start(runtime, "cpu", settings)];
  return await withSocketPath(async (path) => {
    try {
      programs.push(
        shm
          ? start(runtime, "bare_timer", { ms: periodMs })
          : start(runtime, "bare_socket", { role: "reader", path }),
      );
      await Promise.all(programs.map((program) => program.line("ready")));
      if (!shm) programs.push(new Running(tinyProgram, [path, "1"]));
      await sleep(warmMs);
      const [server, floor] = programs as [Running, Running];
      const [samUsed, floorUsed, peerUsed] = await Promise.all([
        cpuSamples(server.pid, samples),
        cpuSamples(floor.pid, samples),
        peerSamples(libsam, "cpu", rate, seconds, timeInterval),
      ]);
      return {
        figure: figure.cpu,
        case: `${transport}, T = ${timeInterval} ms`,
        runtime,
        unit: "µs per second",
        sam: figuresOf(samUsed),
        peer: { name: peer.libsamServer, figures: figuresOf(peerUsed) },
        others: [{
          name: shm ? timerEvery(periodMs) : peer.bareReads,
          figures: figuresOf(floorUsed),
        }],
      };
    } finally {
      await Promise.all(programs.map((program) => program.stop("SIGKILL")));
    }
  });
}

/** Samples of the CPU time of a process, in microseconds per second. */
async function cpuSamples(pid: number, count: number): Promise<number[]> {
  const samples: number[] = [];
  for (let nth = 0; nth < count; nth++) {
    const [before, at] = [cpuMicroseconds(pid), performance.now()];
    await sleep(sampleMs);
    samples.push((1000 * (cpuMicroseconds(pid) - before)) / (performance.now() - at));
  }
  return samples;
}
