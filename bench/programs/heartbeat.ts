// What one heartbeat() costs the program, in a loop; heartbeats that the transport may leave out are part of it.
import { measure } from "mitata";
import { initialize } from "@x/sam";
import { say, settings, sleep } from "../support/say.ts";

const { transport, timeInterval } = settings;
const sam = await initialize({ timeInterval, recoveryPolicy: "quit", transport });
await sam.register();
await sam.start();
say("ready");

const { samples } = await measure(() => sam.heartbeat(), { batch_samples: 4096, inner_gc: false });
say("samples", { samples });

// A second without heartbeats and a second with them, for the bench to watch the server.
for (const [phase, beats] of [["silent", false], ["beating", true]] as const) {
  say(phase);
  if (!beats) await sleep(1000);
  else for (const end = performance.now() + 1000; performance.now() < end;) sam.heartbeat();
}
say("over");
await sleep(200);
await sam.finalize();
