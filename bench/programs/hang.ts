// Sends heartbeats for a while, writes the time of the last one, and hangs. With `watchesLoop`, the event loop is watched instead
// (the program has a health check), and then blocked.
import { initialize, type Transport } from "@x/sam";
import { pipe } from "../../transports/pipe.ts";
import { shm } from "../../transports/shm.ts";
import { unix } from "../../transports/unix.ts";
import { wall } from "../support/clock.ts";
import { say, settings, sleep } from "../support/say.ts";

wall(0); // calibrates the clock before the measurement
const { timeInterval, transport, watchesLoop } = settings;
const plain = ({ unix, pipe, shm } as Record<string, Transport>)[transport]!;

let last = 0;
const timed: Transport = {
  ...plain,
  async connect(address, runtime) {
    const link = await plain.connect(address, runtime);
    const timed = <T extends unknown[]>(send: (...args: T) => void) => (...args: T) => {
      last = performance.now();
      send(...args);
    };
    return {
      ...link,
      heartbeat: timed(link.heartbeat),
      confirm: timed(link.confirm ?? link.heartbeat),
      send: timed(link.send), // the result of a health check counts as a heartbeat
    };
  },
};

const sam = await initialize({ timeInterval, recoveryPolicy: "restart", transport: timed });
const instance = await sam.register();
if (watchesLoop) sam.setHealthCheck(() => true);
await sam.start();
const untilMs = performance.now() + 20 + 40 * Math.random();
while (performance.now() < untilMs) {
  if (!watchesLoop) sam.heartbeat();
  await sleep(5);
}
say("last", { at: wall(last), instance });
if (watchesLoop) { for (;;); }
else setInterval(() => {}, 1000);
