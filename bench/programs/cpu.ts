// Gives so many signs of life a second, evenly, from a loop that does nothing else.
import { initialize } from "@x/sam";
import { say, settings } from "../support/say.ts";

const { transport, timeInterval, rate, seconds } = settings;
const sam = await initialize({ timeInterval, recoveryPolicy: "quit", transport });
await sam.register();
await sam.start();
say("ready");
const begin = performance.now();
for (let beat = 0; beat < rate * seconds; beat++) {
  while (performance.now() < begin + (1000 * beat) / rate);
  sam.heartbeat();
}
say("over");
await sam.finalize();
