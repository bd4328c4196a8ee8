// Both cores in a world of their own, thousands of random fates in virtual time. What must always hold, see core_world.ts:
// never two active processes; no warning and no kill without its reason; a silent one is noticed and killed in time;
// a spare that harms nobody, and is there again; instance ids rise by one; acknowledged data is never lost; no more recoveries than allowed; every run ends with a status.

import { assert } from "@std/assert";
import * as fc from "fast-check";
import { restartDefaults } from "../src/core/restart.ts";
import { settings } from "./support/core_bench.ts";
import type { Act, Deed, Script } from "./support/core_process.ts";
import { horizon, type Operation, type Plan, World } from "./support/core_world.ts";
import { test } from "./support/harness.ts";
import { runs } from "./support/property.ts";

const ms = (max: number) => fc.integer({ min: 0, max });
const oneOf = <const T>(...values: T[]) => fc.constantFrom(...values);
const rarely = fc.integer({ min: 0, max: 19 }).map((n) => n === 0);

const act = (...deeds: Deed[]): fc.Arbitrary<Act> =>
  fc.record({ waitMs: ms(80), does: oneOf(...deeds), n: ms(400) });
const quick = (does: Deed, n: fc.Arbitrary<number> = ms(400)): fc.Arbitrary<Act> =>
  fc.record({ waitMs: ms(30), does: fc.constant(does), n });

/** What most instances do first, so that something is at stake. */
const opening: fc.Arbitrary<Act[]> = fc.oneof<fc.WeightedArbitrary<Act[]>[]>(
  { weight: 6, arbitrary: fc.tuple(quick("register"), quick("beat", ms(60)), quick("start")) },
  { weight: 3, arbitrary: fc.tuple(quick("register"), quick("check"), quick("start")) },
  { weight: 1, arbitrary: fc.tuple(quick("store"), quick("register"), quick("start")) },
  { weight: 1, arbitrary: fc.constant<Act[]>([]) },
);
const life: fc.Arbitrary<Act[]> = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: act("store", "beat", "warn signal") },
    { weight: 3, arbitrary: act("start", "register", "store and crash", "hang") },
    { weight: 3, arbitrary: act("fall silent", "turn unhealthy", "stop", "exit", "crash") },
    { weight: 1, arbitrary: act("finalize", "mark failed", "close link") },
  ),
  { maxLength: 12 },
);

const script: fc.Arbitrary<Script> = fc.record({
  spawnMs: ms(20),
  spawnFails: rarely,
  warned: oneOf("dies", "exits", "ignores"),
  linkHeld: rarely,
  checkMs: oneOf(0, 5, 50, 90, 150, 1e6),
  acts: fc.tuple(opening, life).map((parts) => parts.flat()),
  fate: fc.record({
    from: oneOf("never", "its begin", "the end of the active process"),
    ms: fc.oneof(ms(12), ms(800)),
    does: oneOf<Deed>("exit", "crash", "crash", "close link", "hang"),
  }),
});

const plan: fc.Arbitrary<Plan> = fc.record({
  settings: fc.record({
    timeInterval: oneOf(100, 100, 100, 30, 0),
    recoveryPolicy: oneOf("restart", "restart", "restart", "quit"),
    warnSignal: oneOf("SIGTERM", "SIGTERM", "SIGKILL"),
    startupTimeout: oneOf(0, 0, 200),
    stopTimeout: oneOf(0, 300),
    maxDataSize: fc.constant(1e6),
    standby: oneOf(0, 1, 1),
    startedAtSpawn: rarely,
    hasQuorum: rarely,
    hasClusterMap: oneOf(true, false),
    heartbeatWindow: oneOf(0, 0.5),
    restart: fc.record({
      intensity: oneOf(0, 2, 5, 5, Infinity),
      period: oneOf(200, 1000, 300_000),
      initialDelay: oneOf(0, 0, 50),
      maxDelay: oneOf(0, 120, 30_000),
      on: fc.constant(restartDefaults.on),
      factor: fc.constant(restartDefaults.factor),
      jitter: oneOf(0, 0.2),
      resetAfter: oneOf(50, 1000),
    }),
  }),
  scripts: fc.array(script, { minLength: 1, maxLength: 4 }),
  operator: fc.array(
    fc.record({
      at: ms(horizon - 1),
      does: oneOf<Operation>("quorate", "quorate", "not quorate", "restart", "stop", "SIGINT"),
    }),
    { maxLength: 3 },
  ),
  stalls: fc.array(fc.record({ at: ms(horizon), ms: oneOf(3, 15, 60, 150, 500) }), {
    maxLength: 2,
  }),
  maxDelay: oneOf(0, 1, 8),
  seed: fc.nat(),
});

test("core model: whatever happens to a program, supervision keeps its promises", () => {
  let instances = 0;
  let worlds = 0;
  const ends = new Set<string>();
  runs(2000, plan, (each) => {
    const world = new World(each, settings);
    instances += world.run();
    worlds++;
    ends.add(world.bench.status()!.reason);
  });
  // It would be easy to keep promises where nothing happens.
  assert(instances > 2 * worlds, `${instances} instances in ${worlds} worlds`);
  for (const end of ["exit", "stopped", "quit", "restart-limit", "failed", "spawn"]) {
    assert(ends.has(end), `no world ended with ${end}`);
  }
});

/** Instances that live long enough for a spare, and spares that often end about when they are needed. */
const short: fc.Arbitrary<Script> = fc.record({
  spawnMs: ms(20),
  spawnFails: rarely,
  warned: oneOf("dies", "exits", "ignores"),
  linkHeld: rarely,
  checkMs: fc.constant(0),
  acts: fc.tuple(
    fc.tuple(quick("register"), quick("beat", ms(60)), quick("start")),
    fc.array(act("store", "store", "start", "stop", "hang"), { maxLength: 2 }),
    fc.tuple(fc.record({
      waitMs: fc.integer({ min: 200, max: 700 }),
      does: oneOf<Deed>("crash", "store and crash", "exit", "fall silent", "close link"),
      n: ms(400),
    })),
  ).map((parts) => parts.flat()),
  fate: fc.record({
    from: oneOf(
      "never",
      "its begin",
      "the end of the active process",
      "the end of the active process",
    ),
    ms: fc.oneof({ weight: 3, arbitrary: ms(4) }, { weight: 1, arbitrary: ms(800) }),
    does: oneOf<Deed>("exit", "exit", "crash", "close link", "hang"),
  }),
});

test("core model: a spare that ends at any moment harms nobody", () => {
  let worlds = 0;
  const spares = { promoted: 0, bornDead: 0, failed: 0 };
  const sparePlan = fc.tuple(plan, fc.array(short, { minLength: 2, maxLength: 6 })).map(
    ([each, scripts]): Plan => ({
      ...each,
      settings: { ...each.settings, standby: 1, recoveryPolicy: "restart", startedAtSpawn: false },
      scripts,
    }),
  );
  runs(2000, sparePlan, (each) => {
    const world = new World(each, settings);
    world.run();
    worlds++;
    for (const what of ["promoted", "bornDead", "failed"] as const) {
      spares[what] += world.spares[what];
    }
  });
  for (const [what, count] of Object.entries(spares)) {
    assert(count > worlds / 100, `${count} spares ${what} in ${worlds} worlds`);
  }
});
