// Sends evenly spaced heartbeats from a loop that never yields.
import { initialize } from "@x/sam";
import { say, settings } from "../support/say.ts";

const { transport, timeInterval, rate, seconds } = settings;
const sam = await initialize({ timeInterval, recoveryPolicy: "quit", transport });
await sam.register();
await sam.start();
say("ready");
const begin = performance.now();
for (let nth = 0; nth < rate * seconds; nth++) {
  while (performance.now() < begin + (1000 * nth) / rate);
  sam.heartbeat();
}
say("over");
await sam.finalize();
