// Supervises one program after the other, as the bench tells it, and tells the bench what happens to them.
import { type Program, supervise, type SuperviseOptions } from "@x/sam";
import { wall } from "../support/clock.ts";
import { say, settings } from "../support/say.ts";

wall(0); // the clock is looked at before it is needed
const { runs } = settings as { runs: { program: Program; options: SuperviseOptions }[] };
for (const [run, { program, options }] of runs.entries()) {
  for await (const event of supervise(program, options).events()) {
    const at = wall(performance.now());
    if (event.type !== "status") say(event.type, { run, at, instance: event.instanceId });
  }
}
