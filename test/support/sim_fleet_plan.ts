// The plan of a simulated world with several programs, which are reloaded: one seed always gives the same plan.

import type { ServerSettings } from "../../src/core/server/types.ts";
import type { Strategy } from "../../src/supervisor/fleet_program.ts";
import {
  type Act,
  type Deed,
  Dice,
  drawPlan,
  horizon,
  type Plan,
  type Script,
} from "./sim_plan.ts";

/** A program of the world. */
export interface ProgramPlan {
  readonly name: string;
  /** The number of instances side by side; undefined for a program without that option. */
  readonly instances: number | undefined;
  readonly kind: "module" | "command" | "preloaded command";
  readonly minReady: number;
  readonly after: readonly string[];
  readonly settings: ServerSettings;
  readonly hasQuorum: boolean;
  readonly hasClusterMap: boolean;
  /** The server's own check; undefined for none. */
  readonly check:
    | { readonly period: number; readonly timeout: number; readonly failureThreshold: number }
    | undefined;
  /** The scripts of the processes, used in turn. */
  readonly scripts: readonly Script[];
}

export type FleetOrder =
  | "reload"
  | "restart"
  | "halt"
  | "stop"
  | "stop twice"
  | "kill the instance"
  | "kill the replacement"
  | "hang the instance"
  | "hang the replacement"
  | "lose quorum"
  | "kill the server";

/** A world of several programs. */
export interface FleetPlan extends Plan {
  readonly strategy: Strategy;
  readonly programs: readonly ProgramPlan[];
  readonly orders: readonly {
    readonly at: number;
    readonly does: FleetOrder;
    /** The name of the program or instance. */
    readonly name: string;
  }[];
}

/** Draws a world. The transport, the stalls and the timers are those of a world with one program. */
export function drawFleetPlan(seed: number): FleetPlan {
  const plan = drawPlan(seed);
  const dice = new Dice(seed ^ 0x5eed);
  const names = ["db", "web"].slice(0, dice.oneOf(1, 1, 2));
  const programs = names.map((name, at) =>
    drawProgram(dice, plan.settings, name, names.slice(0, dice.upTo(at)))
  );
  const orders: FleetPlan["orders"][number][] = [];
  for (let at = 300 + dice.upTo(400); at < horizon;) {
    const { name, instances = 1 } = dice.oneOf(...programs);
    const one = instances > 1 ? `${name}.${1 + dice.upTo(instances - 1)}` : name;
    orders.push({ at, does: "reload", name: dice.oneOf(name, name, one) });
    // Most accidents happen while a reload goes on.
    for (const { after, does } of dice.some(3, () => drawAccident(dice))) {
      orders.push({ at: at + after, does, name: one });
    }
    at += 200 + dice.upTo(1200);
  }
  if (dice.once(3)) {
    const ends = dice.oneOf<FleetOrder>("kill the server", "kill the server", "stop", "stop twice");
    // Most ends come in the middle of a reload.
    const { at } = dice.oneOf(...orders);
    orders.push({ at: at + dice.upTo(dice.oneOf(20, 150, 500)), does: ends, name: "" });
  }
  return {
    ...plan,
    cluster: "sound",
    stalls: dice.once(2) ? [] : plan.stalls,
    strategy: dice.oneOf("one_for_one", "one_for_one", "one_for_all", "rest_for_one"),
    programs,
    orders,
  };
}

function drawAccident(dice: Dice): { readonly after: number; readonly does: FleetOrder } {
  const does = dice.oneOf<FleetOrder>(
    "reload",
    "restart",
    "halt",
    "kill the instance",
    "kill the instance",
    "kill the replacement",
    "kill the replacement",
    "hang the instance",
    "hang the replacement",
    "lose quorum",
  );
  return { after: dice.upTo(dice.oneOf(20, 150, 500)), does };
}

function drawProgram(
  dice: Dice,
  settings: ServerSettings,
  name: string,
  after: readonly string[],
): ProgramPlan {
  const kind = dice.oneOf("module", "module", "module", "preloaded command", "command");
  const hasQuorum = dice.once(6);
  const hasClusterMap = dice.once(8);
  const { restart } = settings;
  return {
    name,
    kind,
    after,
    hasQuorum,
    hasClusterMap,
    instances: dice.oneOf(undefined, 1, 2, 3),
    minReady: dice.oneOf(0, 20, 100, 300),
    settings: {
      ...settings,
      program: name,
      hasQuorum,
      hasClusterMap,
      timeInterval: kind === "command" ? 0 : settings.timeInterval,
      startedAtSpawn: kind !== "module",
      preloaded: kind === "preloaded command",
      recoveryPolicy: dice.oneOf("restart", "restart", "restart", "restart", "restart", "quit"),
      startupTimeout: dice.oneOf(0, 200, 200),
      standby: dice.oneOf(0, 0, 1),
      restart: { ...restart, intensity: dice.oneOf(0, 2, 5, Infinity, Infinity) },
    },
    check: dice.once(3)
      ? { period: dice.oneOf(20, 50), timeout: 40, failureThreshold: dice.oneOf(1, 3) }
      : undefined,
    scripts: Array.from({ length: 2 + dice.upTo(4) }, () => drawVersion(dice)),
  };
}

/** A process that may be the replacement in a reload: most of them start and go on, and each flaw is seen often. */
function drawVersion(dice: Dice): Script {
  const quick = (does: Deed, n = 60): Act => ({ waitMs: dice.upTo(20), does, n: dice.upTo(n) });
  const start = [quick("register"), quick("beat"), quick("start")];
  const later = (does: Deed): Act => ({ waitMs: dice.upTo(500), does, n: dice.upTo(400) });
  const flaw = dice.oneOf(0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9);
  const acts: readonly (readonly Act[])[] = [
    [...start],
    [quick("exit")],
    [quick("register"), quick("beat"), quick("exit", 2)],
    [quick("register"), quick("hang", 400)],
    [quick("register"), quick("beat")], // never ready
    [...start, later("turn unhealthy")],
    [...start, later("crash")],
    [...start, later("hang")],
    [...start, later("store"), later("store")],
    [...start, later(dice.oneOf("stop", "finalize", "close link", "mark failed", "exit"))],
  ];
  return {
    spawnMs: dice.oneOf(dice.upTo(20), dice.upTo(20), dice.upTo(20), dice.upTo(200)),
    born: dice.oneOf(0, 0.5, 1),
    spawnFails: dice.once(30),
    warned: dice.oneOf("dies", "exits", "ignores"),
    linkHeld: dice.once(30),
    exitMs: dice.oneOf(5, 5, 5, 5, 5, 200, 1000),
    eofMs: dice.oneOf(0, 5, 5, 200),
    checkMs: dice.oneOf(0, 2, 10),
    acts: acts[flaw]!,
    fate: {
      from: dice.oneOf("never", "never", "its begin", "the end of the active process"),
      ms: dice.oneOf(dice.upTo(12), dice.upTo(500)),
      does: dice.oneOf<Deed>("exit", "crash", "close link", "hang"),
    },
  };
}
