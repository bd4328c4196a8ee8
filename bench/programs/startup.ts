// Says a line: at once ("bare"), or after the first calls of the library, which is loaded no earlier.
import { say, settings } from "../support/say.ts";

if (settings.bare !== true) {
  const { initialize } = await import("@x/sam");
  const { transport } = settings;
  const sam = await initialize({ timeInterval: 60_000, recoveryPolicy: "quit", transport });
  await sam.register();
  say("first");
  await sam.finalize();
} else say("first");
export {};
