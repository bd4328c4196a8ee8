// Runs simulated worlds one after the other. A failure names its seed.

import { drawFleetPlan } from "./sim_fleet_plan.ts";
import { FleetWorld } from "./sim_fleet_world.ts";
import { drawPlan } from "./sim_plan.ts";
import { ProgramWorld } from "./sim_program_world.ts";
import type { World } from "./sim_world.ts";

/** How often each thing happened. */
export type Tally = ReadonlyMap<string, number>;

/** Runs the world of one program. A failure has the seed, the plan and the trace. */
export function runWorld(seed: number): Promise<ProgramWorld> {
  return run(new ProgramWorld(drawPlan(seed)), String(seed));
}

/** Runs a world of several programs, which are reloaded. */
export function runFleet(seed: number): Promise<FleetWorld> {
  return run(new FleetWorld(drawFleetPlan(seed)), `fleet ${seed}`);
}

/** Repeats the world of a seed as a failure prints it. */
export async function repeat(seed: string): Promise<void> {
  const number = Number(seed.replace(/^fleet /, ""));
  await (seed.startsWith("fleet ") ? runFleet(number) : runWorld(number));
}

async function run<W extends World>(world: W, seed: string): Promise<W> {
  try {
    await world.run();
    return world;
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    const plan = JSON.stringify(world.plan);
    throw new Error(
      `${message} (seed ${seed}: repeat it with SAM_TEST_SEED="${seed}" npm test -- --file simulation --only node26)\n${plan}\n${
        world.trace.slice(-100).join("\n")
      }`,
      { cause },
    );
  }
}

/** Counts how often each thing happened. */
class Count {
  readonly tally: Map<string, number> = new Map();

  add(what: string, times = 1): void {
    this.tally.set(what, (this.tally.get(what) ?? 0) + times);
  }
}

/** Runs `count` worlds of one program from the seed `first`. Returns how often each thing happened. */
export async function runWorlds(first: number, count: number): Promise<Tally> {
  const counted = new Count();
  for (let seed = first; seed < first + count; seed++) {
    const { judge, events } = await runWorld(seed);
    counted.add(`ended: ${judge.finished!.reason}`);
    counted.add("instances", judge.instances);
    for (const [how, times] of Object.entries(judge.spares)) counted.add(`spares: ${how}`, times);
    for (const event of events) counted.add(event);
  }
  return counted.tally;
}

/** Runs `count` worlds of several programs from the seed `first`. Returns how often each thing happened. */
export async function runFleets(first: number, count: number): Promise<Tally> {
  const counted = new Count();
  for (let seed = first; seed < first + count; seed++) {
    const { fleetJudge, isServerDead } = await runFleet(seed);
    for (const [what, times] of fleetJudge.tally) counted.add(what, times);
    if (isServerDead) counted.add("killed servers");
    if (isServerDead && fleetJudge.isReloading) counted.add("killed servers in a reload");
  }
  return counted.tally;
}
