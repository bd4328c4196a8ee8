// The time from the last heartbeat of a program that hangs until its warning, less the time interval.
import { busyCores } from "../support/busy.ts";
import { type BenchRuntime, peerSamples, programFor, runtimes, start } from "../support/host.ts";
import { figure, peer } from "../support/names.ts";
import type { Measurement, Row, Settings } from "../support/rows.ts";
import { figuresOf } from "../support/statistics.ts";
import { hangInterval as timeInterval } from "../support/targets.ts";

interface Case {
  readonly transport: string;
  /** The program calls `heartbeat()`; or its event loop, watched because it has a health check, is blocked. */
  readonly sign: "heartbeat()" | "event loop";
  /** True if other processes keep all cores busy. */
  readonly busy?: boolean;
}

const cases: readonly Case[] = [
  { transport: "unix", sign: "event loop" },
  { transport: "shm", sign: "event loop" },
  { transport: "pipe", sign: "event loop" },
  { transport: "unix", sign: "heartbeat()" },
  { transport: "pipe", sign: "heartbeat()" },
  { transport: "shm", sign: "heartbeat()" },
  { transport: "unix", sign: "event loop", busy: true },
  { transport: "shm", sign: "event loop", busy: true },
  { transport: "unix", sign: "heartbeat()", busy: true },
  { transport: "shm", sign: "heartbeat()", busy: true },
];

export function measurements({ libsam, depth }: Settings): Measurement[] {
  const count = depth === "full" ? 24 : 5;
  const isWanted = ({ transport, sign, busy = false }: Case) => {
    if (depth === "full") return true;
    if (depth === "check") return !busy && transport === "unix";
    if (busy) return transport === "unix" && sign === "event loop";
    return transport !== "pipe" && (transport === "shm" || sign === "event loop");
  };
  return cases.filter(isWanted).map((which) => ({
    name: `hang → warning, ${nameOf(which)}`,
    rows: async (): Promise<Row[]> => {
      const stop = which.busy ? await busyCores() : () => {};
      try {
        const peers: number[] = [];
        const samples = new Map<BenchRuntime, { sam: number[]; floor: number[] }>();
        for (const runtime of runtimes) {
          peers.push(...await peerSamples(libsam, "hang", timeInterval, Math.ceil(count / 3)));
          const sam = await overshoots(runtime, which, count);
          samples.set(runtime, { sam, floor: await timerDelays(runtime, count) });
        }
        const libsamFigures = figuresOf(peers);
        return [...samples].map(([runtime, { sam, floor }]) => ({
          figure: figure.hang,
          case: nameOf(which),
          runtime,
          unit: "ms",
          sam: figuresOf(sam),
          peer: { name: peer.libsam, figures: libsamFigures },
          others: [{ name: peer.bareTimer, figures: figuresOf(floor) }],
        }));
      } finally {
        stop();
      }
    },
  }));
}

function nameOf({ transport, sign, busy }: Case): string {
  return `${transport}, ${sign}${busy ? ", both cores busy" : ""}`;
}

/** The lateness of the runtime's own timers, in milliseconds. */
async function timerDelays(runtime: BenchRuntime, count: number): Promise<number[]> {
  const timer = start(runtime, "bare_timer", { ms: timeInterval, count });
  try {
    return (await timer.line("samples"))["samples"];
  } finally {
    await timer.stop();
  }
}

async function overshoots(runtime: BenchRuntime, which: Case, count: number): Promise<number[]> {
  const { transport, sign } = which;
  const program = programFor(runtime, "hang", {
    timeInterval,
    transport,
    watchesLoop: sign === "event loop",
  });
  const restart = { intensity: 1_000_000, maxDelay: 0 };
  // The signal would wait until the stack trace is captured; the message to the program would not.
  const captureStack = false;
  const options = { timeInterval, recoveryPolicy: "restart", transport, restart, captureStack };
  const server = start(runtime, "supervisor", {
    runs: [{ program, options }],
    timed: transport,
  });
  try {
    for (let warnings = 1;; warnings++) {
      // All instances write to one pipe, so the lines of an instance have arrived when the next one is spawned. On a busy
      // machine, a program that got no CPU time is warned too. It has not written its "last" line and does not count.
      await server.line("spawn", warnings + 1);
      const lasts = new Map(
        server.lines.filter(({ event }) => event === "last")
          .map((line) => [line["instance"] as number, line["at"] as number]),
      );
      const samples = server.lines.filter(({ event }) => event === "warn")
        .filter((line) => lasts.has(line["instance"]))
        .map((line) => line["at"] - lasts.get(line["instance"])! - timeInterval);
      if (samples.length >= count) return samples;
      if (warnings > 4 * count) {
        throw new Error(`this machine is too busy for a time interval of ${timeInterval} ms`);
      }
    }
  } finally {
    await server.stop();
  }
}
