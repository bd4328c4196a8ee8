// Every event around a spare, at every moment of its life: the instance is not affected, the spare is replaced, and no end
// leaves it behind. The bench checks that there is never more than one spare, and none after the end.

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
  "the active process has ended, but not its link": () => {
    const bench = parked();
    bench.feed({ type: "exit", code: 1, signal: null });
    return bench;
  },
  "the backoff is running": () => {
    const bench = parked({ initialDelay: 5000 });
    return bench.exit(1);
  },
  "the spare and the active process are being started": () => {
    const bench = new Bench(patient).start();
    bench.pass(250);
    return bench.exit(1);
  },
  "the spare was promoted before it registered": () => starting().exit(1),
  "the spare was promoted": () => parked().exit(1),
  "the spare was promoted, and has started": () => {
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
  "an exit without the end of the link": (bench) => {
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
  "a long time": (bench) => bench.pass(10_000),
};

/** Takes the next step of processes without failures. Returns true if no step is left. */
function stepOn(bench: Bench): boolean {
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
  test(`core spare, ${moment}: no end of the spare affects the instance`, () => {
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

  test(`core spare, ${moment}: after every event there is a spare again, or supervision ends without one`, () => {
    for (const [what, happen] of Object.entries({ ...ofSpare, ...ofOthers })) {
      const bench = reach();
      happen(bench);
      bench.conclude(); // all messages of an ended process have arrived
      for (let steps = 0; !stepOn(bench); steps++) assert(steps < 50, `${what}: no end`);
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
