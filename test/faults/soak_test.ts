// The short form of `npm run test:soak`: memory and file descriptors do not grow with recoveries, heartbeats and restarts.

import { assertEquals } from "@std/assert";
import { processTest } from "../support/processes.ts";
import { currentRuntime } from "../support/runtimes.ts";
import { growth, type Soak, soakFlags } from "../support/soak.ts";

const soaks = {
  "500 recoveries, 100,000 heartbeats": ["memory", "500", "100000"],
  "four restarts": ["processes", "4", "shm"],
};

for (const [name, args] of Object.entries(soaks)) {
  processTest(`memory and file descriptors do not grow: ${name}`, async (stage) => {
    const program = stage.run("faults/soak", { args, flags: soakFlags(currentRuntime) });
    assertEquals(await program.exited, { code: 0, signal: null }, program.stderr());
    assertEquals(growth(stage.lines("done")[0] as unknown as Soak), []);
  });
}
