// Whatever happens to a spare, or around it, at whatever moment of its life: nobody is harmed, it is there again, and no end
// leaves it behind. The bench sees to it that there is never more than one, and none after the end.

import { assert, assertEquals } from "@std/assert";
import { Bench, settings } from "../support/core_bench.ts";
import { test } from "../support/harness.ts";

const patient = { standby: 1, timeInterval: 0 } as const;

function starting(): Bench {
  return new Bench(patient).start().startSpare();
}

function parked(restart: Partial<typeof settings.restart> = {}): Bench {
  return new Bench({ ...patient, restart: { ...settings.restart, ...restart } }).start()
    .startSpare().park();
}

const moments: Readonly<Record<string, () => Bench>> = {
  "none is wanted": () => new Bench({ ...patient }).register(),
  "one is due": () => new Bench(patient).start(),
  "it is being spawned": () => {
    const bench = new Bench(patient).start();
    bench.pass(250);
    return bench;
  },
  "it is starting": starting,
  "it is parked": () => parked(),
  "it has failed": () => {
    const bench = parked();
    bench.spare({ type: "exit" });
    return bench;
  },
  "the active process has stopped": () => {
    const bench = parked();
    bench.ask("stop");
    return bench;
  },
  "the active process is finalized": () => {
    const bench = parked();
    bench.ask("finalize");
    return bench;
  },
  "the active process is warned": () => {
    const bench = new Bench({ ...patient, hasQuorum: true }).register();
    bench.feed({ type: "quorum", quorate: true });
    bench.ask("start");
    bench.startSpare().park();
    bench.feed({ type: "quorum", quorate: false });
    return bench;
  },
  "the active process is being stopped": () => {
    const bench = parked();
    bench.feed({ type: "shutdown", signal: null });
    return bench;
  },
  "the active process is being replaced": () => {
    const bench = parked();
    bench.feed({ type: "restart" });
    return bench;
  },
  "the active process has ended, its link has not": () => {
    const bench = parked();
    bench.feed({ type: "exit", code: 1, signal: null });
    return bench;
  },
  "the backoff runs": () => {
    const bench = parked({ initialDelay: 5000 });
    return bench.exit(1);
  },
  "it is being spawned, and so is the active process": () => {
    const bench = new Bench(patient).start();
    bench.pass(250);
    return bench.exit(1);
  },
  "it was promoted before it registered": () => starting().exit(1),
  "it was promoted": () => parked().exit(1),
  "it was promoted, and has started": () => {
    const bench = parked().exit(1);
    bench.ask("start");
    return bench;
  },
};

const ofSpare: Readonly<Record<string, (bench: Bench) => void>> = {
  spawned: (bench) => {
    if (bench.server.spare?.pid === null) bench.spare({ type: "spawned", pid: 9 });
  },
  spawnFailed: (bench) => bench.spare({ type: "spawnFailed" }),
  hello: (bench) => {
    if (bench.server.spare?.pid) bench.park();
  },
  linkEnd: (bench) => bench.spare({ type: "linkEnd" }),
  exit: (bench) => bench.spare({ type: "exit" }),
};
const ofOthers: Readonly<Record<string, (bench: Bench) => void>> = {
  "the end of the active process": (bench) => {
    if (bench.server.pid !== null) bench.exit("SIGKILL");
  },
  "an exit, and the link stays": (bench) => {
    if (bench.server.pid !== null) bench.feed({ type: "exit", code: 0, signal: null });
  },
  "the end of the link": (bench) => bench.feed({ type: "linkEnd" }),
  start: (bench) => void bench.ask("start"),
  stop: (bench) => void bench.ask("stop"),
  finalize: (bench) => void bench.ask("finalize"),
  markFailed: (bench) => void bench.ask("markFailed"),
  "a failed spawn": (bench) => {
    if (bench.state !== "spawning") return;
    bench.feed({ type: "spawnFailed", error: { code: "LIBRARY", message: "no" } });
  },
  restart: (bench) => bench.feed({ type: "restart" }),
  shutdown: (bench) => bench.feed({ type: "shutdown", signal: "SIGTERM" }),
  "much time": (bench) => bench.pass(10_000),
};

/** What each process does where nothing is wrong; returns whether that is all. */
function liveOn(bench: Bench): boolean {
  const { spare } = bench.server;
  const ending = ["warned", "killing", "stopping"].includes(bench.state);
  if (bench.state === "spawning") bench.feed({ type: "spawned", pid: 10 });
  else if (bench.state === "launched") bench.hello();
  else if (bench.state === "registered") bench.ask("start");
  else if (bench.state === "waiting") bench.feed({ type: "quorum", quorate: true });
  else if (ending) bench.exit("SIGKILL");
  else if (spare?.state === "starting" && spare.pid === null) {
    bench.spare({ type: "spawned", pid: 11 });
  } else if (spare?.state === "starting") bench.park();
  else if (spare === null || bench.state === "backoff") return bench.pass(6000).length === 0;
  else return true;
  return false;
}

for (const [moment, reach] of Object.entries(moments)) {
  test(`core standby, ${moment}: no end of the spare is felt by the active process`, () => {
    for (const [what, happen] of Object.entries(ofSpare)) {
      const bench = reach();
      const before = [bench.state, bench.server.pid, bench.server.instanceId];
      bench.last = [];
      happen(bench);
      assertEquals([bench.state, bench.server.pid, bench.server.instanceId], before, what);
      for (const effect of bench.last) {
        const own = effect.type === "emit" ? effect.event.type : effect.type;
        assert(["spare", "killSpare", "sendSpare"].includes(own), `${what}: ${own}`);
      }
    }
  });

  test(`core standby, ${moment}: whatever happens, there is one again, or an end without`, () => {
    for (const [what, happen] of Object.entries({ ...ofSpare, ...ofOthers })) {
      const bench = reach();
      happen(bench);
      bench.conclude(); // all that an ended process said becomes known
      for (let steps = 0; !liveOn(bench); steps++) assert(steps < 50, `${what}: no end`);
      const over = ["finished", "finalized"].includes(bench.state);
      assertEquals(
        [bench.server.spare?.state, bench.state],
        over ? [undefined, bench.state] : ["parked", "started"],
        what,
      );
      bench.feed({ type: "shutdown", signal: null });
      if (!over || bench.state !== "finished") bench.exit("SIGTERM");
      assertEquals([bench.state, bench.server.spare], ["finished", null], what);
    }
  });
}
