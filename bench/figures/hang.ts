// From the last sign of life of a program that hangs to its warning: how much later than the time interval.
import { type ChildProcess, spawn } from "node:child_process";
import { type BenchRuntime, peerSamples, programFor, runtimes, start } from "../support/host.ts";
import type { Row, Settings } from "../support/rows.ts";
import { figuresOf } from "../support/statistics.ts";

const timeInterval = 100;

interface Case {
  readonly transport: string;
  /** "beats" calls heartbeat(); "confirmed" has a health check, and blocks its event loop. */
  readonly manner: "beats" | "confirmed";
  readonly busy: boolean;
}

const cases: readonly Case[] = [
  { transport: "unix", manner: "confirmed", busy: false },
  { transport: "shm", manner: "confirmed", busy: false },
  { transport: "unix", manner: "beats", busy: false },
  { transport: "pipe", manner: "beats", busy: false },
  { transport: "shm", manner: "beats", busy: false },
  { transport: "unix", manner: "confirmed", busy: true },
  { transport: "shm", manner: "confirmed", busy: true },
];

export async function rows({ libsam, quick, scale }: Settings): Promise<Row[]> {
  const rows: Row[] = [];
  const count = Math.ceil(24 * scale);
  for (const which of cases) {
    if (quick && which.transport === "pipe") continue;
    const busy = which.busy ? [spin(), spin()] : [];
    try {
      for (const runtime of runtimes) {
        const peer = figuresOf(peerSamples(libsam, "hang", timeInterval, Math.ceil(count / 4)));
        const ours = figuresOf(await overshoots(runtime, which, count));
        // Heartbeats in shared memory carry no time: they are looked for every so often.
        const more = which.transport === "shm" && which.manner === "beats" ? timeInterval / 16 : 0;
        const p50 = (runtime === "deno" ? 2 : 1) + more;
        const p99 = (which.busy ? 25 : 5) + more;
        rows.push({
          figure: "hang → warning, later than T = 100 ms by",
          case: `${which.transport}, ${which.manner}${which.busy ? ", both cores busy" : ""}`,
          runtime,
          unit: "ms",
          ours,
          peer: { name: "libsam", figures: peer },
          target: {
            text: `${which.busy ? "" : `p50 ≤ ${p50}, `}p99 ≤ ${p99}, never early`,
            met: (which.busy || ours.p50 <= p50) && ours.p99 <= p99 && ours.min >= 0,
          },
        });
      }
    } finally {
      for (const each of busy) each.kill("SIGKILL");
    }
  }
  return rows;
}

async function overshoots(runtime: BenchRuntime, which: Case, count: number): Promise<number[]> {
  const { transport, manner } = which;
  const program = programFor(runtime, "hang", { timeInterval, transport, manner });
  const restart = { intensity: 1_000_000, maxDelay: 0 };
  const options = { timeInterval, recoveryPolicy: "restart", transport, restart };
  const server = start(runtime, "supervisor", { runs: [{ program, options }] });
  try {
    const samples: number[] = [];
    for (let nth = 1; nth <= count; nth++) {
      const warn = await server.line("warn", nth);
      const last = await server.line("last", nth);
      if (warn["instance"] !== last["instance"]) throw new Error("a warning without a hang");
      samples.push(warn["at"] - last["at"] - timeInterval);
    }
    return samples;
  } finally {
    await server.stop();
  }
}

/** Keeps a core busy, as long as this process lives. */
function spin(): ChildProcess {
  const program = "const parent = process.ppid; while (process.ppid === parent);";
  return spawn(process.execPath, ["-e", program], { stdio: "ignore" });
}
