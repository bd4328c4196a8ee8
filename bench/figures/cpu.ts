// What 1,000 heartbeats a second cost the server, beside libsam's server and beside a bare runtime that only wakes up.
import { rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type BenchRuntime,
  cpuMicroseconds,
  peerSamples,
  type Running,
  runtimes,
  start,
} from "../support/host.ts";
import { atMost, type Peer, type Row, type Settings } from "../support/rows.ts";
import { figuresOf } from "../support/statistics.ts";

const rate = 1000;
/** A process's own start is over by then. */
const warmMs = 2000;

export async function rows({ libsam, quick }: Settings): Promise<Row[]> {
  const rows: Row[] = [];
  const seconds = 2;
  const cases = [10_000, 2000, 100].flatMap((timeInterval) =>
    ["shm", "unix", "pipe"].map((transport) => ({ timeInterval, transport }))
  );
  const wanted = cases.filter(({ timeInterval, transport }) =>
    transport === "shm" || (timeInterval === 2000 && !(quick && transport === "pipe"))
  );
  for (const { timeInterval, transport } of wanted) {
    for (const runtime of runtimes) {
      const peer = figuresOf(peerSamples(libsam, "cpu", rate, seconds, timeInterval));
      const how = { transport, timeInterval, rate, seconds: seconds + warmMs / 1000 + 1 };
      const program = start(runtime, "cpu", how);
      await program.line("ready");
      const ours = figuresOf(await used(program, seconds));
      const shm = transport === "shm";
      rows.push({
        figure: "the server's processor time at 1,000 heartbeats a second",
        case: `${transport}, T = ${timeInterval} ms`,
        runtime,
        unit: "µs a second",
        ours,
        peer: { name: "libsam's server", figures: peer },
        others: [
          shm
            ? await timerFloor(runtime, timeInterval / 16, seconds)
            : await readerFloor(runtime, seconds),
        ],
        target: shm
          ? atMost(ours, 1 / 20, peer, "≤ 1/20 of libsam's")
          : atMost(ours, 1, peer, "≤ libsam's"),
      });
    }
  }
  return rows;
}

/** Microseconds that a process uses in each of so many seconds; it is ended then. */
async function used(program: Running, seconds: number): Promise<number[]> {
  await sleep(warmMs);
  const samples: number[] = [];
  for (let second = 0; second < seconds; second++) {
    const [before, at] = [cpuMicroseconds(program.pid), performance.now()];
    await sleep(1000);
    samples.push((1000 * (cpuMicroseconds(program.pid) - before)) / (performance.now() - at));
  }
  await program.stop("SIGKILL");
  return samples;
}

async function timerFloor(runtime: BenchRuntime, ms: number, seconds: number): Promise<Peer> {
  const program = start(runtime, "floor", { role: "timer", ms });
  await program.line("ready");
  return {
    name: `the bare runtime, a timer of ${ms} ms`,
    figures: figuresOf(await used(program, seconds)),
  };
}

async function readerFloor(runtime: BenchRuntime, seconds: number): Promise<Peer> {
  const path = `/tmp/bench-${process.pid}`;
  const reader = start(runtime, "floor", { role: "reader", path });
  try {
    await reader.line("ready");
    const writing = { role: "writer", path, rate, seconds: seconds + warmMs / 1000 + 1 };
    const writer = start("node26", "floor", writing);
    const figures = figuresOf(await used(reader, seconds));
    await writer.stop("SIGKILL");
    return { name: "the bare runtime, a byte a millisecond", figures };
  } finally {
    rmSync(path, { force: true });
  }
}
