// From the last sign of life of a program that hangs to its warning: how much later than the time interval.
import { busyCores } from "../support/busy.ts";
import { type BenchRuntime, peerSamples, programFor, runtimes, start } from "../support/host.ts";
import { type Measurement, type Row, type Settings, target } from "../support/rows.ts";
import { type Figures, figuresOf } from "../support/statistics.ts";

const timeInterval = 100;

/** The clocks of two processes are compared: less than this, in ms, is no difference. */
const clockMs = 0.1;

interface Case {
  readonly transport: string;
  /** "heartbeat()" is called; "event loop" is confirmed by a health check, and then blocked. */
  readonly manner: "heartbeat()" | "event loop";
  readonly busy?: boolean;
}

const cases: readonly Case[] = [
  { transport: "unix", manner: "event loop" },
  { transport: "shm", manner: "event loop" },
  { transport: "pipe", manner: "event loop" },
  { transport: "unix", manner: "heartbeat()" },
  { transport: "pipe", manner: "heartbeat()" },
  { transport: "shm", manner: "heartbeat()" },
  { transport: "unix", manner: "event loop", busy: true },
  { transport: "shm", manner: "event loop", busy: true },
  { transport: "unix", manner: "heartbeat()", busy: true },
  { transport: "shm", manner: "heartbeat()", busy: true },
];

export function measurements({ libsam, depth }: Settings): Measurement[] {
  const count = depth === "full" ? 24 : 5;
  const isWanted = ({ transport, manner, busy = false }: Case) => {
    if (depth === "full") return true;
    if (depth === "check") return !busy && transport === "unix";
    if (busy) return transport === "unix" && manner === "event loop";
    return transport !== "pipe" && (transport === "shm" || manner === "event loop");
  };
  return cases.filter(isWanted).map((which) => ({
    name: `hang → warning, ${nameOf(which)}`,
    rows: async () => {
      const stop = which.busy ? await busyCores() : () => {};
      try {
        const peers: number[] = [];
        const samples = new Map<BenchRuntime, { ours: number[]; floor: number[] }>();
        for (const runtime of runtimes) {
          peers.push(...await peerSamples(libsam, "hang", timeInterval, Math.ceil(count / 3)));
          const ours = await overshoots(runtime, which, count);
          samples.set(runtime, { ours, floor: await latenesses(runtime, count) });
        }
        const peer = figuresOf(peers);
        return [...samples].map(([runtime, { ours, floor }]) =>
          rowOf(runtime, which, ours, peer, figuresOf(floor))
        );
      } finally {
        stop();
      }
    },
  }));
}

function nameOf({ transport, manner, busy }: Case): string {
  return `${transport}, ${manner}${busy ? ", both cores busy" : ""}`;
}

function rowOf(
  runtime: BenchRuntime,
  which: Case,
  samples: readonly number[],
  peer: Figures,
  floor: Figures,
): Row {
  const ours = figuresOf(samples);
  const early = samples.filter((sample) => sample < -clockMs).length;
  // Heartbeats in shared memory carry no time: they are looked for every so often.
  const isSampled = which.transport === "shm" && which.manner === "heartbeat()";
  const more = isSampled ? Math.max(1, timeInterval / 16) : 0;
  const where = isSampled
    ? "`heartbeat()` in shared memory, one sampling period more"
    : "`heartbeat()` over Unix socket and pipe, and the event loop";
  const when = which.busy ? "both cores busy" : "idle";
  const goal = (what: string) => `hang → warning, T = 100 ms, ${when}, ${where}: ${what}`;
  const p50 = target(
    goal("p50 ≤ 1 ms late (Deno 2 ms)"),
    "p50",
    ours.p50,
    (runtime === "deno" ? 2 : 1) + more,
  );
  const p99 = which.busy
    ? target(goal("p99 ≤ 25 ms late"), "p99", ours.p99, 25 + more)
    : target(goal("p99 ≤ 5 ms late"), "p99", ours.p99, 5 + more);
  return {
    figure: "hang → warning, later than T = 100 ms by",
    case: nameOf(which),
    runtime,
    unit: "ms",
    ours,
    peer: { name: "libsam", figures: peer },
    others: [{ name: "a timer of the bare runtime", figures: floor }],
    targets: [
      ...(which.busy ? [] : [p50]),
      p99,
      target("hang → warning: never early", "early ones", early, 0),
    ],
  };
}

/** How late a runtime's own timers are. */
async function latenesses(runtime: BenchRuntime, count: number): Promise<number[]> {
  const timer = start(runtime, "bare_timer", { ms: timeInterval, count });
  try {
    return (await timer.line("samples"))["samples"];
  } finally {
    await timer.stop();
  }
}

async function overshoots(runtime: BenchRuntime, which: Case, count: number): Promise<number[]> {
  const { transport, manner } = which;
  const program = programFor(runtime, "hang", {
    timeInterval,
    transport,
    confirmed: manner === "event loop",
  });
  const restart = { intensity: 1_000_000, maxDelay: 0 };
  // With a stack to be taken the in-band warning would go at once, but the signal would wait for it.
  const captureStack = false;
  const options = { timeInterval, recoveryPolicy: "restart", transport, restart, captureStack };
  const server = start(runtime, "supervisor", {
    runs: [{ program, options }],
    timed: transport,
  });
  try {
    for (let warnings = 1;; warnings++) {
      // What the program has said is there when its successor is: they write to one pipe. One that a busy machine has kept
      // from its heartbeats is warned, too, but has not said its last.
      await server.line("spawn", warnings + 1);
      const lasts = new Map(
        server.lines.filter(({ event }) => event === "last")
          .map((line) => [line["instance"] as number, line["at"] as number]),
      );
      const samples = server.lines.filter(({ event }) => event === "warn")
        .filter((line) => lasts.has(line["instance"]))
        .map((line) => line["at"] - lasts.get(line["instance"])! - timeInterval);
      if (samples.length >= count) return samples;
      if (warnings > 4 * count) throw new Error("this machine is too busy for the time interval");
    }
  } finally {
    await server.stop();
  }
}
