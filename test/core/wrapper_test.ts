// The server's core: the end of a wrapper and of the program below it, what finalize() lets go, and what cannot be killed.

import { assertEquals } from "@std/assert";
import type { ServerInput } from "../../src/core/server/types.ts";
import { protocolVersion } from "../../src/core/wire.ts";
import { Bench, stopTimeout, T } from "../support/core_bench.ts";
import { test } from "../support/harness.ts";

const killed: ServerInput = { type: "orphaned", code: null, signal: "SIGKILL" };
const ended: ServerInput = { type: "orphaned", code: 3, signal: null };
const unkillable: ServerInput = {
  type: "unkillable",
  problem: { code: "ACCESS", message: "it is root's" },
};
const names = (bench: Bench) => bench.last.map(({ type }) => type);

test("core server: a program whose wrapper ended is warned, keeps its data, and is replaced when it is gone", () => {
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

test("core server: a program whose wrapper ended is killed when its grace period ends", () => {
  const bench = new Bench().start();
  bench.feed(killed);
  bench.pass(T);
  assertEquals([bench.signals(), bench.state], [["SIGKILL"], "killing"]);
});

test("core server: a program that is not started is judged by the end of its wrapper, whatever it does after", () => {
  const bench = new Bench().register();
  bench.feed(ended);
  bench.ask("finalize");
  assertEquals(bench.exit(3).status(), { code: 3, signal: null, reason: "exit" });
});

test("core server: a restart that is asked for after the end of a wrapper is carried out, also where that end would be final", () => {
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

test("core server: while the end is planned, the end of a wrapper leaves the grace period as it is", () => {
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

test("core server: finalize() lets the program go, unless its end is planned", () => {
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

test("core server: supervision of a program that cannot be killed ends with an error", () => {
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

test("core server: after the end of supervision, a cluster map that answers late starts nothing", () => {
  const bench = new Bench({ hasClusterMap: true }).launch();
  bench.say({ type: "hello", version: protocolVersion, id: bench.id(), pid: 7, notice: "" });
  bench.feed(unkillable);
  assertEquals(bench.status()?.reason, "failed");
  assertEquals(bench.feed({ type: "mapped" }), []);
});
