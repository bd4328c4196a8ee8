// Runs simulated worlds one after the other. A failure names its seed.

import { drawPlan } from "./sim_plan.ts";
import { World } from "./sim_world.ts";

/** How often each thing happened. */
export type Tally = ReadonlyMap<string, number>;

/** Runs one world. A failure has the seed, the plan and the trace. */
export async function runWorld(seed: number): Promise<World> {
  const world = new World(drawPlan(seed));
  try {
    await world.run();
    return world;
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    const plan = JSON.stringify(world.plan);
    throw new Error(
      `${message} (seed ${seed}: repeat it with SAM_TEST_SEED=${seed} npm test -- --file simulation --only node26)\n${plan}\n${
        world.trace.slice(-100).join("\n")
      }`,
      { cause },
    );
  }
}

/** Runs `count` worlds from the seed `first`. Returns how often each thing happened. */
export async function runWorlds(first: number, count: number): Promise<Tally> {
  const tally = new Map<string, number>();
  const add = (what: string, times = 1) => tally.set(what, (tally.get(what) ?? 0) + times);
  for (let seed = first; seed < first + count; seed++) {
    const { judge, events } = await runWorld(seed);
    add(`ended: ${judge.finished!.reason}`);
    add("instances", judge.instances);
    for (const [how, times] of Object.entries(judge.spares)) add(`spares: ${how}`, times);
    for (const event of events) add(event);
  }
  return tally;
}
