// The state machine of the server: the end of a wrapper, finalize(), and a process that cannot be killed. In virtual time.

import { assertEquals } from "@std/assert";
import type { ServerInput } from "../../src/core/server/types.ts";
import { protocolVersion } from "../../src/core/wire.ts";
import { Bench, restartDefaults, stopTimeout, T } from "../support/core_bench.ts";
import { test } from "../support/harness.ts";

const killed: ServerInput = { type: "orphaned", code: null, signal: "SIGKILL" };
const ended: ServerInput = { type: "orphaned", code: 3, signal: null };
const unkillable: ServerInput = {
  type: "unkillable",
  problem: { code: "ACCESS", message: "it is root's" },
};
const names = (bench: Bench) => bench.last.map(({ type }) => type);

test("core server: a program whose wrapper ended is warned, can store data, and is replaced after its end", () => {
  for (const [input, reason] of [[killed, "signal"], [ended, "exit"]] as const) {
    const bench = new Bench().start();
    bench.feed(input);
    assertEquals([bench.signals(), bench.state], [["SIGTERM"], "warned"]);
    assertEquals(bench.events("warn")[0]?.reason, reason);
    assertEquals(bench.store(Uint8Array.of(7)).type, "done");
    assertEquals(bench.pass(T - 1).length, 0);
    bench.exit(input === ended ? 3 : "SIGKILL");
    assertEquals(bench.events("recovery")[0]?.reason, reason);
    bench.start();
    assertEquals([...bench.stored()], [7]);
  }
});

test("core server: a program whose wrapper ended is killed after its grace period", () => {
  const bench = new Bench().start();
  bench.feed(killed);
  bench.pass(T);
  assertEquals([bench.signals(), bench.state], [["SIGKILL"], "killing"]);
});

test("core server: before start(), the end of the wrapper decides, not the later end of the program", () => {
  const bench = new Bench().register();
  bench.feed(ended);
  bench.ask("finalize");
  assertEquals(bench.exit(3).status(), { code: 3, signal: null, reason: "exit" });
});

test("core server: a restart requested after the end of a wrapper takes place, even if that end would be final", () => {
  const launched = new Bench().launch();
  for (const bench of [launched, new Bench().register(), new Bench().start()]) {
    bench.feed(ended);
    bench.feed({ type: "restart" });
    bench.exit(3);
    assertEquals(bench.state, "spawning");
  }
  const stopped = new Bench().register();
  stopped.feed(ended);
  stopped.feed({ type: "restart" });
  stopped.feed({ type: "shutdown", signal: "SIGTERM" });
  assertEquals(stopped.exit(3).status()?.reason, "stopped");
});

test("core server: the end of a wrapper does not change a grace period that has begun", () => {
  const stopping = new Bench().start();
  stopping.feed({ type: "shutdown", signal: "SIGTERM" });
  stopping.pass(stopTimeout - 1);
  stopping.feed(ended);
  assertEquals(names(stopping), ["passOn"]);
  stopping.pass(1);
  assertEquals(stopping.signals(), ["SIGKILL"]);
  const warned = new Bench().start();
  warned.pass(T);
  warned.feed(killed);
  assertEquals(names(warned), ["passOn"]);
  warned.pass(T);
  assertEquals(warned.signals(), ["SIGKILL"]);
});

test("core server: finalize() leaves the program running after supervision, unless it is being ended", () => {
  const free = new Bench().start();
  free.ask("finalize");
  assertEquals(free.of("letGo").length, 1);
  const ends: ((bench: Bench) => void)[] = [
    (bench) => bench.pass(T),
    (bench) => bench.feed({ type: "shutdown", signal: "SIGTERM" }),
    (bench) => bench.feed(killed),
  ];
  for (const end of ends) {
    const bench = new Bench().start();
    end(bench);
    assertEquals(bench.ask("finalize")?.type, "done");
    assertEquals(bench.of("letGo").length, 0);
  }
});

test("core server: a process that cannot be killed ends supervision with an error", () => {
  const failed = new Bench({ hasClusterMap: true }).start();
  failed.pass(2 * T);
  failed.feed(unkillable);
  const error = { code: "ACCESS", message: "it is root's" } as const;
  assertEquals(failed.status(), { code: 1, signal: null, reason: "failed", error });
  assertEquals(failed.map()?.state, "failed");
  const stopped = new Bench().start();
  stopped.feed({ type: "shutdown", signal: "SIGTERM" });
  stopped.pass(stopTimeout);
  stopped.feed(unkillable);
  assertEquals(stopped.status(), { code: 1, signal: null, reason: "stopped", error });
  assertEquals(names(stopped), ["cleanUp", "finish"]);
});

test("core server: after the end of supervision, a late answer of the cluster map has no effect", () => {
  const bench = new Bench({ hasClusterMap: true }).launch();
  bench.say({ type: "hello", version: protocolVersion, id: bench.id(), pid: 7, notice: "" });
  bench.feed(unkillable);
  assertEquals(bench.status()?.reason, "failed");
  assertEquals(bench.feed({ type: "mapped" }), []);
});

// A program below a wrapper that only a preload has registered.

const wrapper = { startedAtSpawn: true, restart: { ...restartDefaults, on: "failure" } } as const;

/** Starts the watch of a program below a wrapper. */
function watchedBelow(): Bench {
  const bench = new Bench(wrapper).launch();
  bench.say({ type: "belowWrapper" }); // before the hello: the process may end right after it
  bench.hello();
  assertEquals([bench.state, bench.server.isBelowWrapper], ["registered", true]);
  bench.ask("start");
  assertEquals(bench.state, "started");
  return bench;
}

test("core server: below a wrapper, a hang is a failure, and the exit code of the wrapper counts", () => {
  const hung = watchedBelow();
  hung.pass(T);
  assertEquals([hung.signals(), hung.state], [["SIGTERM"], "warned"]);
  hung.exit("SIGTERM");
  assertEquals(hung.events("recovery")[0]?.reason, "timeout");
  const done = watchedBelow();
  assertEquals(done.exit(0).status(), { code: 0, signal: null, reason: "exit" });
  const failed = watchedBelow();
  failed.exit(3);
  assertEquals(failed.events("recovery")[0]?.reason, "exit");
});

test("core server: after the end of the program, its wrapper may go on, and only its end counts", () => {
  const bench = watchedBelow();
  bench.feed({ type: "linkEnd" });
  assertEquals([bench.events("stop").length, bench.state], [1, "launched"]);
  assertEquals(bench.pass(10 * T), []);
  assertEquals(bench.exit(0).status(), { code: 0, signal: null, reason: "exit" });
  const early = new Bench(wrapper).launch();
  early.say({ type: "belowWrapper" });
  early.hello();
  early.feed({ type: "linkEnd" });
  assertEquals([early.events("stop").length, early.state], [0, "launched"]);
  // A program that registers itself must not end unnoticed.
  const own = new Bench(wrapper).start();
  own.feed({ type: "linkEnd" });
  own.pass(T);
  assertEquals(own.signals(), ["SIGTERM"]);
});

test("core server: below a wrapper that goes on, the next program is watched in the same instance", () => {
  const bench = watchedBelow();
  const ended = bench.feed({ type: "linkEnd" });
  assertEquals(ended.filter(({ type }) => type === "reopen").length, 1);
  bench.pass(10 * T); // no deadline applies between two programs
  assertEquals([bench.signals(), bench.state], [[], "launched"]);
  bench.say({ type: "belowWrapper" });
  bench.hello();
  bench.ask("start");
  assertEquals([bench.state, bench.server.instanceId], ["started", 1]);
  bench.pass(T);
  assertEquals([bench.signals(), bench.state], [["SIGTERM"], "warned"]);
  // The link of a program that is being ended stays closed.
  assertEquals(bench.feed({ type: "linkEnd" }), []);
  bench.exit("SIGTERM");
  assertEquals(bench.events("recovery")[0]?.reason, "timeout");
});

test("core server: a program below a wrapper that registers itself takes over", () => {
  const bench = watchedBelow();
  bench.hello();
  assertEquals(bench.state, "registered");
  bench.ask("start");
  bench.exit(0);
  assertEquals(bench.events("recovery")[0]?.reason, "exit");
});

test("core server: the link of a program that is being ended may end before its wrapper", () => {
  const bench = watchedBelow();
  bench.feed({ type: "shutdown", signal: "SIGTERM" });
  bench.feed({ type: "linkEnd" });
  assertEquals(bench.state, "stopping");
  bench.pass(stopTimeout);
  assertEquals(bench.signals(), ["SIGKILL"]);
});
