// Measures data.store() in a loop.
import { initialize } from "@x/sam";
import { say, settings } from "../support/say.ts";

const { transport, size, count } = settings;
const sam = await initialize({ timeInterval: 0, recoveryPolicy: "quit", transport });
await sam.register();
await sam.start();
const bytes = new Uint8Array(size).fill(7);
const samples: number[] = [];
for (let round = -3; round < count; round++) {
  const before = performance.now();
  await sam.data.store(bytes);
  if (round >= 0) samples.push(1000 * (performance.now() - before));
}
say("samples", { samples });
await sam.finalize();
