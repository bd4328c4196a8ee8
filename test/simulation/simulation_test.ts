// The driver and both state machines in simulated worlds: 100,000 schedules of faults in virtual time, divided among the
// runtimes. support/sim_judge.ts checks in every world:
// - There are never two instances at once, and instance ids rise by one.
// - No healthy process is warned or killed. An unresponsive one is warned in time, then killed in time.
// - Acknowledged data is never lost.
// - There are no more recoveries than allowed.
// - A spare never affects the instance, and is replaced.
// - Every run ends, and leaves no process, endpoint, link, timer or listener.
//
// 12,000 worlds have several programs, with one to three instances, which are reloaded at random moments while processes fail and
// the operator restarts, stops or ends them. support/sim_fleet_judge.ts checks in every such world:
// - A reload ends the old instance only after its replacement has been ready for minReady. A failed reload changes nothing.
// - An instance has at most one replacement, and after the reload one process. No number is used twice.
// - Each reload ends with one event, `reloaded` or `reloadFailed`, and each call settles.
// - A killed server leaves no process.
//
// `npm run test:mutants` shows that the simulation finds such defects.

import { assert, assertEquals } from "@std/assert";
import { test } from "../support/harness.ts";
import { type Line, processTest } from "../support/processes.ts";
import { currentRuntime, runtimeNames } from "../support/runtimes.ts";
import { repeat, runFleet, runWorld } from "../support/sim_run.ts";

const worlds = Number(process.env["SAM_TEST_WORLDS"] ?? 100_000);
const fleets = Math.ceil(worlds * 0.12);
const repeated = process.env["SAM_TEST_SEED"];

/** Each of these must happen at least once in this number of worlds. Otherwise, the simulation would prove too little. */
const rarity: Readonly<Record<string, number>> = {
  "instances": 1,
  "ended: exit": 20,
  "ended: stopped": 20,
  "ended: quit": 20,
  "ended: restart-limit": 20,
  "ended: failed": 200,
  "ended: spawn": 50,
  "recovery: exit": 20,
  "recovery: signal": 20,
  "recovery: timeout": 20,
  "recovery: startup": 20,
  "recovery: unhealthy": 50,
  "recovery: quorum": 200,
  "recovery: failed": 200,
  "spares: promoted": 20,
  "spares: bornDead": 500,
  "spares: failed": 20,
  "spawnFailed": 20,
  "stall": 50,
  "starved": 100,
  "problem": 20,
};

/** Each of these must happen at least once in this number of worlds with several programs. */
const fleetRarity: Readonly<Record<string, number>> = {
  "reloaded": 2,
  "reloaded by a spare": 10,
  "failed, and the old instance stayed": 2,
  "failed, and the old instance was gone": 20,
  "old instance failed beside its replacement": 20,
  "killed servers": 20,
  "killed servers in a reload": 100,
};

for (
  const [kind, all, rare] of [["programs", worlds, rarity], [
    "fleets",
    fleets,
    fleetRarity,
  ]] as const
) {
  processTest(
    `simulation of ${kind}: no schedule of faults breaks a promise of supervision`,
    async (stage) => {
      if (repeated !== undefined) return await repeat(repeated);
      const part = Math.ceil(all / runtimeNames.length);
      const first = runtimeNames.indexOf(currentRuntime) * part;
      const args = [kind, String(first), String(part)];
      const program = stage.run("simulation/simulation", { args });
      assertEquals(await program.exited, { code: 0, signal: null }, program.stderr());
      const [{ tally }] = stage.lines("done") as [Line];
      for (const [what, times] of Object.entries(rare)) {
        assert(
          (tally[what] ?? 0) >= part / times,
          `${what}: ${tally[what]}\n${JSON.stringify(tally)}`,
        );
      }
    },
    { timeoutMs: 170_000, leg: runtimeNames },
  );
}

test("simulation of fleets: worlds in which a reload once broke a promise", async () => {
  for (const seed of [20, 23, 52, 161, 234, 314, 327, 490, 977]) await runFleet(seed);
});

test("simulation: a seed always gives the same schedule", async () => {
  for (const seed of [3, 1071, 1634, 4711]) {
    assertEquals((await runWorld(seed)).trace, (await runWorld(seed)).trace);
    assertEquals((await runFleet(seed)).trace, (await runFleet(seed)).trace);
  }
});
