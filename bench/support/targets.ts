// The targets. They are computed from the published rows, so that a verdict and its figures cannot contradict each other.
import { continuityGoals } from "./continuity_targets.ts";
import { figure, peer, timerEvery } from "./names.ts";
import { figuresOfPeer, type Row } from "./rows.ts";
import { round } from "./statistics.ts";

/** A target, applied to one row. */
export interface Target {
  readonly goal: Goal;
  readonly value: number;
  readonly limit: number;
  readonly isMet: boolean;
}

/** The target of a group of rows. */
export interface Goal {
  /** The target in words. T is the time interval. */
  readonly text: string;
  /** The limit in words, for the full tables. */
  readonly limitText: string;
  /** The heading in the appendix that explains a miss. */
  readonly reason?: string;
  /** The target that this one replaces. */
  readonly replaces?: ReplacedGoal;
  appliesTo(row: Row): boolean;
  /** Compared with the limit; the median if left out. */
  value?(row: Row): number;
  /** The highest value that meets the target. */
  limit(row: Row): number;
}

/** An earlier form of a target. */
export interface ReplacedGoal {
  readonly text: string;
  /** The new limit in words, for the table of replaced targets. */
  readonly newText: string;
  /** Why the target changed, in one sentence. */
  readonly why: string;
  value?(row: Row): number;
  limit(row: Row): number;
}

/** The targets that apply to a row. */
export function targetsOf(row: Row): Target[] {
  return goals.filter((goal) => goal.appliesTo(row)).map((goal) => applied(goal, row));
}

/** The result that a row would have had under the earlier form of a target. */
export function replacedResult(replaced: ReplacedGoal, row: Row): boolean {
  return (replaced.value ?? median)(row) <= replaced.limit(row);
}

function applied(goal: Goal, row: Row): Target {
  const [value, limit] = [(goal.value ?? median)(row), goal.limit(row)];
  return { goal, value: round(value), limit: round(limit), isMet: value <= limit };
}

function median(row: Row): number {
  return row.sam.p50;
}

function p99(row: Row): number {
  return row.sam.p99;
}

/** The median of a peer of this row. */
function of(row: Row, name: string): number {
  return figuresOfPeer(row, name).p50;
}

/** Selects rows by figure, and by the beginning of the case if it is given. */
function rowsOf(name: string, which: RegExp = /^/): (row: Row) => boolean {
  return (row) => row.figure === name && which.test(row.case);
}

/** The extra time for the start of a process, in milliseconds. Node needs more: it opens a channel to each child. */
function startMs({ runtime }: Row): number {
  return runtime === "node26" ? 8 : 5;
}

/** A fixed allowance for the lateness of timers, in milliseconds. */
function timerMs({ runtime }: Row): number {
  return runtime === "deno" ? 2 : 1;
}

/** The limit for a crash, in milliseconds. */
function crashMs(row: Row, hasSpare: boolean): number {
  const exit = of(row, peer.bareExit);
  return hasSpare ? 1.5 * exit + 1 : of(row, peer.bareSpawn) + exit + startMs(row);
}

/** The time interval of the figures about hangs, in milliseconds. */
export const hangInterval = 100;

/** The time between two looks at heartbeats in shared memory. */
export function lookMs(timeInterval: number): number {
  return Math.max(1, timeInterval / 16);
}

/** Headings of the appendix. */
const reasons = {
  cpuShm: "Server CPU time over shm",
  cpuStream: "Server CPU time over unix and pipe",
  warning: "Lateness of a warning",
  spare: "A crash with a spare",
  noSpare: "A crash without a spare",
  dataPipe: "data.store() over a pipe",
  startUp: "Start-up",
  many: "Many programs",
  memory: "Server memory",
} as const;

function cpuOverShm(timeInterval: number): Goal {
  const label = `server CPU time, \`shm\`, T = ${timeInterval / 1000} s`;
  return {
    text: `${label}: ≤ 2 × the bare runtime's timer`,
    limitText: "2 × empty timer",
    reason: reasons.cpuShm,
    appliesTo: rowsOf(figure.cpu, RegExp(`^shm, T = ${timeInterval} ms`)),
    limit: (row) => 2 * of(row, timerEvery(lookMs(timeInterval))),
    replaces: {
      text: `${label}: ≤ 1/20 of libsam's`,
      newText: "≤ 2 × the bare runtime's timer",
      why: "An empty timer alone exceeds 1/20 of libsam's CPU time.",
      limit: (row) => of(row, peer.libsamServer) / 20,
    },
  };
}

/** Warnings for heartbeats in shared memory may be later by one look. */
const sampled = /^shm, heartbeat\(\)/;
const isSampled = ({ case: which }: Row): boolean => sampled.test(which);
const isBusy = ({ case: which }: Row): boolean => which.endsWith("both cores busy");

function isHang(row: Row, busy: boolean, isOverShm: boolean): boolean {
  return row.figure === figure.hang && isBusy(row) === busy && isSampled(row) === isOverShm;
}

/** All targets, in the order of the appendix. */
export const goals: readonly Goal[] = [
  ...continuityGoals,
  {
    text: "`heartbeat()` over `shm`: ≤ 1/20 of libsam's",
    limitText: "1/20 of libsam's",
    appliesTo: rowsOf(figure.heartbeat, /^shm/),
    limit: (row) => of(row, peer.hcSend) / 20,
  },
  {
    text: "`heartbeat()` over `shm`: allocates less than 1 byte",
    limitText: "1 byte",
    appliesTo: rowsOf(figure.allocated, /^shm/),
    limit: () => 1,
  },
  {
    text: "`heartbeat()` over `shm`: ≤ 5 further server wake-ups per second",
    limitText: "5 wake-ups",
    appliesTo: rowsOf(figure.wakeUps, /^shm/),
    limit: () => 5,
  },
  {
    text: "`heartbeat()` over `unix` and `pipe`: ≤ 1/2 of libsam's",
    limitText: "1/2 of libsam's",
    appliesTo: rowsOf(figure.heartbeat, /^(unix|pipe)/),
    limit: (row) => of(row, peer.hcSend) / 2,
  },
  cpuOverShm(10_000),
  cpuOverShm(2000),
  cpuOverShm(100),
  {
    text: "server CPU time, `unix` and `pipe`: ≤ 1.5 × the bare runtime's reads",
    limitText: "1.5 × bare reads",
    reason: reasons.cpuStream,
    appliesTo: rowsOf(figure.cpu, /^(unix|pipe)/),
    limit: (row) => 1.5 * of(row, peer.bareReads),
    replaces: {
      text: "server CPU time, `unix` and `pipe`: ≤ libsam's",
      newText: "≤ 1.5 × the bare runtime's reads",
      why: "Reading alone costs a bare runtime more than libsam's server needs.",
      limit: (row) => of(row, peer.libsamServer),
    },
  },
  {
    text: "hang → warning, idle: p50 ≤ the bare runtime's timer + 1 ms",
    limitText: "p50: bare timer + 1 ms",
    reason: reasons.warning,
    appliesTo: (row) => isHang(row, false, false),
    limit: (row) => of(row, peer.bareTimer) + 1,
    replaces: {
      text: "hang → warning, idle: p50 ≤ 1 ms (Deno 2 ms)",
      newText: "p50 ≤ the bare runtime's timer + 1 ms",
      why: "The old limit included the lateness of the runtime's own timer.",
      limit: timerMs,
    },
  },
  {
    text: "hang → warning, idle: p99 ≤ 5 ms",
    limitText: "p99: 5 ms",
    reason: reasons.warning,
    appliesTo: (row) => isHang(row, false, false),
    value: p99,
    limit: () => 5,
  },
  {
    text: "hang → warning: never more than 0.1 ms early",
    limitText: "at most 0.1 ms early",
    reason: reasons.warning,
    appliesTo: rowsOf(figure.hang),
    value: ({ sam }) => -sam.min,
    limit: () => 0.1, // the clocks of two processes differ by less
  },
  {
    text: "hang → warning, `shm` heartbeats, idle: p50 ≤ 1 ms (Deno 2 ms) + T/16",
    limitText: "p50: 1 ms (Deno 2 ms) + T/16",
    reason: reasons.warning,
    appliesTo: (row) => isHang(row, false, true),
    limit: (row) => timerMs(row) + lookMs(hangInterval),
  },
  {
    text: "hang → warning, `shm` heartbeats, idle: p99 ≤ 5 ms + T/16",
    limitText: "p99: 5 ms + T/16",
    reason: reasons.warning,
    appliesTo: (row) => isHang(row, false, true),
    value: p99,
    limit: () => 5 + lookMs(hangInterval),
  },
  {
    text: "hang → warning, both cores busy: p99 ≤ 25 ms",
    limitText: "p99: 25 ms",
    reason: reasons.warning,
    appliesTo: (row) => isHang(row, true, false),
    value: p99,
    limit: () => 25,
  },
  {
    text: "hang → warning, `shm` heartbeats, both cores busy: p99 ≤ 25 ms + T/16",
    limitText: "p99: 25 ms + T/16",
    reason: reasons.warning,
    appliesTo: (row) => isHang(row, true, true),
    value: p99,
    limit: () => 25 + lookMs(hangInterval),
  },
  {
    text: "crash → `register()`, a spare: ≤ 1.5 × bare exit + 1 ms",
    limitText: "1.5 × bare exit + 1 ms",
    reason: reasons.spare,
    appliesTo: rowsOf(figure.crashWithSpare),
    limit: (row) => crashMs(row, true),
  },
  {
    text: "crash → `register()`, no spare: ≤ bare spawn + bare exit + 5 ms (Node 8 ms)",
    limitText: "bare spawn + exit + 5 ms (Node 8 ms)",
    reason: reasons.noSpare,
    appliesTo: rowsOf(figure.crash),
    limit: (row) => crashMs(row, false),
  },
  {
    text: "hang → `register()`, a spare: ≤ 2 T + 1 ms (Deno 2 ms) + crash target",
    limitText: "2 T + 1 ms (Deno 2 ms) + crash target",
    reason: reasons.spare,
    appliesTo: rowsOf(figure.hangRecoveryWithSpare),
    limit: (row) => 2 * hangInterval + timerMs(row) + crashMs(row, true),
  },
  {
    text: "hang → `register()`, no spare: ≤ 2 T + 1 ms (Deno 2 ms) + crash target",
    limitText: "2 T + 1 ms (Deno 2 ms) + crash target",
    reason: reasons.noSpare,
    appliesTo: rowsOf(figure.hangRecovery),
    limit: (row) => 2 * hangInterval + timerMs(row) + crashMs(row, false),
  },
  {
    text: "crash, 9 MB module: with a spare ≤ 1/8 of the time without",
    limitText: "1/8 of the time without a spare",
    appliesTo: rowsOf(figure.spareGain),
    limit: (row) => of(row, peer.withoutSpare) / 8,
  },
  {
    text: "`data.store()` over `shm`: ≤ libsam's",
    limitText: "libsam's",
    appliesTo: rowsOf(figure.data, /^shm/),
    limit: (row) => of(row, peer.dataStore),
  },
  {
    text: "`data.store()` over `unix`: ≤ 2 × libsam's",
    limitText: "2 × libsam's",
    appliesTo: rowsOf(figure.data, /^unix/),
    limit: (row) => 2 * of(row, peer.dataStore),
  },
  {
    text: "`data.store()` over `pipe`: ≤ 2 × libsam's",
    limitText: "2 × libsam's",
    reason: reasons.dataPipe,
    appliesTo: rowsOf(figure.data, /^pipe/),
    limit: (row) => 2 * of(row, peer.dataStore),
  },
  {
    text: "start-up: ≤ the bare runtime + 5 ms (Node 8 ms)",
    limitText: "bare runtime + 5 ms (Node 8 ms)",
    reason: reasons.startUp,
    appliesTo: rowsOf(figure.startUp),
    limit: (row) => of(row, peer.bare) + startMs(row),
  },
  {
    text: "server CPU time, 1,000 programs over `shm`: ≤ 5 % of a core",
    limitText: "5 %",
    reason: reasons.many,
    appliesTo: rowsOf(figure.manyCpu, /^shm, 1000 /),
    limit: () => 5,
  },
  {
    text: "server CPU time per program, `shm`: at 1,000 ≤ 1.2 × that at 10",
    limitText: "1.2 × that at 10 programs",
    reason: reasons.many,
    appliesTo: rowsOf(figure.cpuPerProgram, /^shm/),
    limit: (row) => 1.2 * of(row, peer.perProgramAt10),
  },
  {
    text: "server CPU time per program, `unix` and `pipe`: at 1,000 ≤ 1.2 × that at 10",
    limitText: "1.2 × that at 10 programs",
    reason: reasons.many,
    appliesTo: rowsOf(figure.cpuPerProgram, /^(unix|pipe)/),
    limit: (row) => 1.2 * of(row, peer.perProgramAt10),
  },
  {
    text: "server memory per further program: ≤ the bare runtime's + 20 KiB",
    limitText: "bare runtime + 20 KiB",
    reason: reasons.memory,
    appliesTo: rowsOf(figure.memoryPerProgram),
    limit: (row) => of(row, peer.bareChild) + 20,
    replaces: {
      text: "server memory per further program: ≤ 20 KiB",
      newText: "≤ the bare runtime's + 20 KiB",
      why: "On Deno, the runtime's own objects for a child exceed 20 KiB.",
      limit: () => 20,
    },
  },
  {
    text: "server memory, one program: ≤ bare runtime with child and socket + 4 MiB",
    limitText: "bare runtime with child and socket + 4 MiB",
    reason: reasons.memory,
    appliesTo: rowsOf(figure.memory),
    limit: (row) => of(row, peer.bareParent) + 4096,
    replaces: {
      text: "server memory, one program: ≤ bare runtime + 4 MiB",
      newText: "≤ bare runtime with child and socket + 4 MiB",
      why: "A server always has a child and a socket; the runtime needs room for both.",
      limit: (row) => of(row, peer.bare) + 4096,
    },
  },
  {
    text: "quorum lost → warning: p50 ≤ 2 ms after Corosync notifies a C program",
    limitText: "C program + 2 ms",
    appliesTo: rowsOf(figure.quorum),
    limit: (row) => of(row, peer.corosync) + 2,
  },
];
