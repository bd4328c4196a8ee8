// The plan of a simulated world, drawn from a seed: one seed always gives the same plan.

import type { ServerSettings } from "../../src/core/server/types.ts";

/** The actions of an instance in their order, and its accidents. */
export interface Script {
  /** Milliseconds from the call of `spawn` to its answer. */
  readonly spawnMs: number;
  /** The part of that time after which the process begins to run, 0 to 1. */
  readonly born: number;
  readonly spawnFails: boolean;
  /** Effect of the warn signal: the default action, a handler that exits, or a handler that does nothing. */
  readonly warned: "dies" | "exits" | "ignores";
  /** True if another process holds the link open after the end. */
  readonly linkHeld: boolean;
  /** Milliseconds from the end of the process until the server can learn of it, by its exit and by its link. */
  readonly exitMs: number;
  readonly eofMs: number;
  readonly checkMs: number;
  readonly acts: readonly Act[];
  /** The fate of the process as a spare: `ms` after its begin, or after the end of the active process. */
  readonly fate: {
    readonly from: "never" | "its begin" | "the end of the active process";
    readonly ms: number;
    readonly does: Deed;
  };
}

export interface Act {
  readonly waitMs: number;
  readonly does: Deed;
  /** The argument of the action: milliseconds, bytes or an exit code. */
  readonly n: number;
}

export type Deed =
  | "register"
  | "start"
  | "beat"
  | "check"
  | "store"
  | "store and crash"
  | "warn signal"
  | "hang"
  | "freeze"
  | "fall silent"
  | "turn unhealthy"
  | "stop"
  | "finalize"
  | "mark failed"
  | "close link"
  | "exit"
  | "crash";

export type Operation =
  | "restart"
  | "stop"
  | "SIGINT"
  | "quorate"
  | "not quorate"
  | "kill the active process"
  | "kill the spare"
  | "unhealthy";

/** A world. */
export interface Plan {
  readonly seed: number;
  readonly settings: ServerSettings;
  /** The scripts of the processes, used in turn. */
  readonly scripts: readonly Script[];
  readonly operator: readonly { readonly at: number; readonly does: Operation }[];
  /**
   * Times in which processes do not run: the server, the program, or all. After a stall of all, the server runs first.
   */
  readonly stalls: readonly {
    readonly at: number;
    readonly ms: number;
    readonly of: "server" | "program" | "all";
  }[];
  /** The longest delay of a message. */
  readonly maxDelay: number;
  /** The share of heartbeats that get lost. */
  readonly loss: number;
  /** The number of unread heartbeats that the link holds. Further ones are left out. */
  readonly room: number;
  /** True if heartbeats do not wake the server. */
  readonly sampled: boolean;
  /** True if data is left without a message. */
  readonly keeps: boolean;
  /** The share of endpoints that cannot be opened, and of those that cannot accept. */
  readonly openFails: number;
  readonly acceptFails: number;
  /** As in `Runtime`. */
  readonly settleMs: number;
  /** How late or early timers fire. */
  readonly timerMs: number;
  /** True if, after a stall, timers fire before arrivals are read. */
  readonly timersFirst: boolean;
  /** The behavior of the cluster. */
  readonly cluster: "sound" | "fails" | "fails late" | "hangs";
}

/** All planned actions happen before this time. Then the world is shut down. */
export const horizon = 3000;

/** A source of random numbers, and choices made from them. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) >>> 0;
  }

  /** A number in [0, 1) (mulberry32). */
  number(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number from 0 to `max`. */
  upTo(max: number): number {
    return Math.floor(this.number() * (max + 1));
  }

  /** One of the values. A value that is listed twice comes twice as often. */
  oneOf<const T>(...values: readonly T[]): T {
    return values[this.upTo(values.length - 1)]!;
  }

  /** True once in `times`. */
  once(times: number): boolean {
    return this.number() * times < 1;
  }

  /** A random number of values, at most `most`. */
  some<T>(most: number, make: () => T): T[] {
    return Array.from({ length: this.upTo(most) }, make);
  }
}

/** Draws a world. */
export function drawPlan(seed: number): Plan {
  const dice = new Dice(seed);
  const short = dice.once(3);
  const timeInterval = dice.oneOf(100, 100, 100, 30, 0);
  const hasQuorum = dice.once(6);
  return {
    seed,
    settings: {
      program: "app",
      serverLost: "exit",
      captureStack: false,
      observe: false,
      timeInterval,
      recoveryPolicy: dice.oneOf("restart", "restart", "restart", "restart", "quit"),
      warnSignal: dice.oneOf("SIGTERM", "SIGTERM", "SIGKILL"),
      startupTimeout: dice.oneOf(0, 0, 200),
      stopTimeout: dice.oneOf(0, 300),
      maxDataSize: 1e6,
      standby: dice.oneOf(0, 1, 1),
      startedAtSpawn: dice.once(20),
      preloaded: seed % 3 === 0,
      hasQuorum,
      hasClusterMap: dice.oneOf(true, false),
      heartbeatWindow: dice.oneOf(0, Math.min(0.5, timeInterval / 200)),
      restart: {
        intensity: dice.oneOf(0, 2, 5, 5, Infinity),
        period: dice.oneOf(200, 1000, 300_000),
        initialDelay: dice.oneOf(0, 0, 50),
        maxDelay: dice.oneOf(0, 120, 30_000),
        on: dice.oneOf("started", "started", "started", "started", "failure", "always"),
        resetAfter: dice.oneOf(50, 1000),
      },
      asksBeforeStart: dice.once(4),
    },
    scripts: Array.from(
      { length: 1 + dice.upTo(4) },
      () => short ? drawShortLife(dice) : drawLife(dice),
    ),
    operator: [
      ...(hasQuorum ? drawQuorum(dice) : []),
      ...dice.some(3, () => ({ at: dice.upTo(horizon - 1), does: dice.oneOf(...operations) })),
    ],
    stalls: dice.some(3, () => ({
      at: dice.upTo(horizon),
      // A stall of all processes lasts more than twice any limit, because a shorter one may look like a hang.
      ...dice.oneOf(
        { of: "server", ms: dice.oneOf(3, 15, 60, 150, 500) },
        { of: "program", ms: dice.oneOf(15, 60, 150, 500) },
        { of: "all", ms: dice.oneOf(450, 1000) },
      ),
    })),
    maxDelay: dice.oneOf(0, 1, 8),
    loss: dice.oneOf(0, 0, 0, 0.3),
    sampled: dice.oneOf(true, false, false),
    keeps: dice.oneOf(true, false),
    openFails: dice.oneOf(0, 0, 0, 0, 0.1),
    acceptFails: dice.oneOf(0, 0, 0, 0, 0.1),
    settleMs: dice.oneOf(0, 0, 3),
    timerMs: dice.oneOf(0, 2),
    timersFirst: dice.oneOf(true, false),
    cluster: dice.oneOf("sound", "sound", "sound", "sound", "fails", "fails late", "hangs"),
    room: dice.oneOf(Infinity, Infinity, 1, 3),
  };
}

const operations: readonly Operation[] = [
  "restart",
  "restart",
  "stop",
  "SIGINT",
  "kill the active process",
  "kill the active process",
  "kill the active process",
  "kill the spare",
  "kill the spare",
  "unhealthy",
];

/** Quorum comes early, and may be lost and regained. */
function drawQuorum(dice: Dice): Plan["operator"] {
  const flaps = dice.some(5, () => 300 + dice.upTo(horizon - 400)).sort((a, b) => a - b);
  return [dice.upTo(100), ...flaps].map((at, index) => ({
    at,
    does: index % 2 === 0 ? "quorate" : "not quorate",
  }));
}

function drawLife(dice: Dice): Script {
  const quick = (does: Deed, n = 400): Act => ({ waitMs: dice.upTo(30), does, n: dice.upTo(n) });
  // The first actions of most instances, so that there is something to lose.
  const openings: readonly (() => Act[])[] = [
    () => [quick("register"), quick("beat", 60), quick("start")],
    () => [quick("register"), quick("check"), quick("start")],
    () => [quick("store"), quick("register"), quick("start")],
    () => [],
  ];
  const opening = dice.oneOf(0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 3);
  const kinds: readonly (readonly Deed[])[] = [
    ["store", "beat", "warn signal"],
    ["start", "register", "store and crash", "hang", "freeze"],
    ["fall silent", "turn unhealthy", "stop", "exit", "crash"],
    ["finalize", "mark failed", "close link"],
  ];
  const deed = () => dice.oneOf(...kinds[dice.oneOf(0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3)]!);
  return {
    ...drawCircumstances(dice),
    acts: [
      ...openings[opening]!(),
      ...dice.some(12, () => ({ waitMs: dice.upTo(80), does: deed(), n: dice.upTo(400) })),
    ],
  };
}

/** An instance that lives long enough for a spare, and often ends about when the spare is needed. */
function drawShortLife(dice: Dice): Script {
  const quick = (does: Deed, n = 400): Act => ({ waitMs: dice.upTo(30), does, n: dice.upTo(n) });
  return {
    ...drawCircumstances(dice),
    checkMs: 0,
    acts: [
      quick("register"),
      quick("beat", 60),
      quick("start"),
      ...dice.some(2, () => ({
        waitMs: dice.upTo(80),
        does: dice.oneOf<Deed>("store", "store", "start", "stop", "hang"),
        n: dice.upTo(400),
      })),
      {
        waitMs: 200 + dice.upTo(500),
        does: dice.oneOf<Deed>("crash", "store and crash", "exit", "fall silent", "close link"),
        n: dice.upTo(400),
      },
    ],
    fate: {
      from: dice.oneOf(
        "never",
        "its begin",
        "the end of the active process",
        "the end of the active process",
      ),
      ms: dice.oneOf(dice.upTo(4), dice.upTo(4), dice.upTo(4), dice.upTo(800)),
      does: dice.oneOf<Deed>("exit", "exit", "crash", "close link", "hang"),
    },
  };
}

function drawCircumstances(dice: Dice): Omit<Script, "acts"> {
  return {
    spawnMs: dice.oneOf(dice.upTo(20), dice.upTo(20), dice.upTo(20), 600),
    born: dice.oneOf(0, 0.5, 1),
    spawnFails: dice.once(50),
    warned: dice.oneOf("dies", "exits", "ignores"),
    linkHeld: dice.once(20),
    exitMs: dice.oneOf(5, 5, 5, 5, 5, 200, 5000),
    eofMs: dice.oneOf(0, 0, 5, 5, 200),
    checkMs: dice.oneOf(0, 5, 50, 90, 150, 1e6),
    fate: {
      from: dice.oneOf("never", "its begin", "the end of the active process"),
      ms: dice.oneOf(dice.upTo(12), dice.upTo(800)),
      does: dice.oneOf<Deed>("exit", "crash", "crash", "close link", "hang"),
    },
  };
}
