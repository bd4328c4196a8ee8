// Supervises programs one after the other and reports their events to the benchmark. With `timed`, the time of a warning is the
// time at which its message to the program was sent.
import { type Program, supervise, type SuperviseOptions, type Transport } from "@x/sam";
import { pipe } from "../../transports/pipe.ts";
import { shm } from "../../transports/shm.ts";
import { unix } from "../../transports/unix.ts";
import { wall } from "../support/clock.ts";
import { say, settings } from "../support/say.ts";

wall(0); // calibrates the clock before the measurement
const { runs, timed } = settings as {
  runs: { program: Program; options: SuperviseOptions }[];
  timed?: string;
};
let sent = 0;
const plain = ({ unix, pipe, shm } as Record<string, Transport>)[timed ?? ""];
const transport = plain && timedTransport(plain);
for (const [run, { program, options }] of runs.entries()) {
  const supervisor = supervise(program, { ...options, ...(transport && { transport }) });
  for await (const event of supervisor.events()) {
    const at = wall(transport && event.type === "warn" ? sent : performance.now());
    if (event.type !== "status") say(event.type, { run, at, instance: event.instanceId });
  }
}

function timedTransport(plain: Transport): Transport {
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
