// The short form of `npm run test:soak`: memory and file descriptors do not grow with recoveries, heartbeats and restarts.

import { assert, assertEquals } from "@std/assert";
import { processTest } from "../support/processes.ts";
import { currentRuntime } from "../support/runtimes.ts";
import { freePorts } from "../support/ports.ts";
import { growth, type Soak, soakFlags } from "../support/soak.ts";

interface Reloads extends Soak {
  readonly before: Required<Soak["early"]>;
  readonly end: Required<Soak["early"]>;
  readonly tally: { readonly reloaded: number; readonly failed: number };
}

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

const reloads = {
  "40 reloads of commands side by side": ["40", "commands"],
  "4 reloads of programs side by side": ["4", "modules"],
  "8 reloads by a spare": ["8", "spare"],
};

for (const [name, args] of Object.entries(reloads)) {
  processTest(`nothing is left of a reload: ${name}`, async (stage) => {
    const ports = await freePorts(1);
    const program = stage.run("faults/soak_reloads", {
      args: [...args, String(ports[0])],
      flags: soakFlags(currentRuntime),
    });
    assertEquals(await program.exited, { code: 0, signal: null }, program.stderr());
    const [done] = stage.lines("done") as unknown as [Reloads];
    assertEquals(growth(done), []);
    const all = Number(args[0]);
    assertEquals(done.tally, { reloaded: all * 3 / 4, failed: all / 4 });
    // After the end, as before the first start: the runtime may keep a descriptor that it has opened meanwhile.
    const { before, end } = done;
    assertEquals([end.processes, end.timers], [before.processes, before.timers]);
    assert(end.descriptors - before.descriptors <= 4, JSON.stringify(done));
  }, { timeoutMs: 120_000 });
}
