// Beats for a while, or has its event loop confirmed, says when the last sign of life was given, and gives no other.
import { initialize, type Transport } from "@x/sam";
import { pipe } from "../../transports/pipe.ts";
import { shm } from "../../transports/shm.ts";
import { unix } from "../../transports/unix.ts";
import { wall } from "../support/clock.ts";
import { say, settings, sleep } from "../support/say.ts";

wall(0); // the clock is looked at before it is needed
const { timeInterval, transport, confirmed } = settings;
const plain = ({ unix, pipe, shm } as Record<string, Transport>)[transport]!;

let last = 0;
const noting: Transport = {
  ...plain,
  async connect(address, runtime) {
    const link = await plain.connect(address, runtime);
    const noted = <T extends unknown[]>(tell: (...what: T) => void) => (...what: T) => {
      last = performance.now();
      tell(...what);
    };
    return {
      ...link,
      heartbeat: noted(link.heartbeat),
      confirm: noted(link.confirm ?? link.heartbeat),
      send: noted(link.send), // the answer of a health check is a sign of life, too
    };
  },
};

const sam = await initialize({ timeInterval, recoveryPolicy: "restart", transport: noting });
const instance = await sam.register();
if (confirmed) sam.setHealthCheck(() => true);
await sam.start();
const untilMs = performance.now() + 20 + 40 * Math.random();
while (performance.now() < untilMs) {
  if (!confirmed) sam.heartbeat();
  await sleep(5);
}
say("last", { at: wall(last), instance });
if (confirmed) { for (;;); }
else setInterval(() => {}, 1000);
