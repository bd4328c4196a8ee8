// Supervises one program after the other, as the bench tells it, and tells the bench what happens to them. With `timed`, the
// moment of a warning is the one at which the kernel had been given the last message to the program: the warning itself.
import { type Program, supervise, type SuperviseOptions, type Transport } from "@x/sam";
import { pipe } from "../../transports/pipe.ts";
import { shm } from "../../transports/shm.ts";
import { unix } from "../../transports/unix.ts";
import { wall } from "../support/clock.ts";
import { say, settings } from "../support/say.ts";

wall(0); // the clock is looked at before it is needed
const { runs, timed } = settings as {
  runs: { program: Program; options: SuperviseOptions }[];
  timed?: string;
};
let sent = 0;
const plain = ({ unix, pipe, shm } as Record<string, Transport>)[timed ?? ""];
const transport = plain && noting(plain);
for (const [run, { program, options }] of runs.entries()) {
  const supervisor = supervise(program, { ...options, ...(transport && { transport }) });
  for await (const event of supervisor.events()) {
    const at = wall(transport && event.type === "warn" ? sent : performance.now());
    if (event.type !== "status") say(event.type, { run, at, instance: event.instanceId });
  }
}

function noting(plain: Transport): Transport {
  return {
    ...plain,
    async open(runtime) {
      const endpoint = await plain.open(runtime);
      return {
        ...endpoint,
        accept: (child, onLink) =>
          endpoint.accept(child, (link) => {
            const send = (frame: Uint8Array) => {
              link.send(frame);
              sent = performance.now();
            };
            onLink({ ...link, send });
          }),
      };
    },
  };
}
