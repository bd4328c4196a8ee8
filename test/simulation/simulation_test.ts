// The driver, and with it both cores, in worlds of their own: 100,000 schedules of faults in virtual time, a part of them on
// each runtime. What must always hold, see support/sim_judge.ts: never two active processes; no healthy one is warned or
// killed; a silent one is warned in time, then killed in time; instance ids rise by one; acknowledged data is never lost; no
// more recoveries than allowed; a spare harms nobody, and is there again; every run ends, and leaves nothing: no process,
// endpoint, link, timer or listener. `npm run test:mutants` shows that it finds what it is for.

import { assert, assertEquals } from "@std/assert";
import { test } from "../support/harness.ts";
import { type Line, processTest } from "../support/processes.ts";
import { currentRuntime, runtimeNames } from "../support/runtimes.ts";
import { runWorld } from "../support/sim_run.ts";

const worlds = Number(process.env["SAM_TEST_WORLDS"] ?? 100_000);
const repeated = process.env["SAM_TEST_SEED"];

/** It would be easy to keep promises where nothing happens: what happens at least once in so many worlds. */
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

processTest(
  "simulation: whatever happens to a program, supervision keeps its promises",
  async (stage) => {
    if (repeated !== undefined) return void await runWorld(Number(repeated));
    const part = Math.ceil(worlds / runtimeNames.length);
    const first = runtimeNames.indexOf(currentRuntime) * part;
    const program = stage.run("simulation/simulation", { args: [String(first), String(part)] });
    assertEquals(await program.exited, { code: 0, signal: null }, program.stderr());
    const [{ tally }] = stage.lines("done") as [Line];
    for (const [what, times] of Object.entries(rarity)) {
      assert(
        (tally[what] ?? 0) >= part / times,
        `${what}: ${tally[what]}\n${JSON.stringify(tally)}`,
      );
    }
  },
  { timeoutMs: 170_000, leg: runtimeNames },
);

test("simulation: a seed is a schedule, whenever it is run", async () => {
  for (const seed of [3, 1071, 1634, 4711]) {
    assertEquals((await runWorld(seed)).trace, (await runWorld(seed)).trace);
  }
});
