// The state machine of the server: recoveries, instance ids, the restart limit and the backoff. In virtual time.

import { assert, assertEquals } from "@std/assert";
import { nextInstanceId } from "../../src/core/server/instance_record.ts";
import { Bench, settings } from "../support/core_bench.ts";
import { test } from "../support/harness.ts";

type Restart = typeof settings.restart;
const heartbeat = { type: "heartbeat" } as const;
const restart = (some: Partial<Restart>): Restart => ({ ...settings.restart, ...some });

test("core server: instance ids rise by one", () => {
  const bench = new Bench({ restart: restart({ intensity: Infinity, maxDelay: 0 }) });
  for (const id of [1, 2, 3, 4]) {
    const welcome = bench.launch().hello();
    assert(welcome.type === "welcome" && welcome.first === (id === 1));
    assertEquals([welcome.instanceId, bench.server.instanceId], [id, id]);
    bench.ask("start");
    bench.exit(1);
  }
});

test("core server: instance ids wrap from 2^31-1 to 0", () => {
  const seen = [2 ** 31 - 2];
  while (seen.length < 4) seen.push(nextInstanceId(seen.at(-1)!));
  assertEquals(seen, [2 ** 31 - 2, 2 ** 31 - 1, 0, 1]);
});

test("core server: a replacement that fails before its start() is recovered, but the first instance is not", () => {
  for (const end of [1, "SIGKILL"] as const) {
    for (const registers of [false, true]) {
      const bench = new Bench().start().exit(0);
      registers ? bench.register() : bench.launch();
      bench.exit(end);
      assertEquals(bench.events("recovery")[0]?.reason, "startup");
      assertEquals(bench.state, "backoff");
    }
  }
  const clean = new Bench().start().exit(5).register().exit(0);
  assertEquals(clean.status(), { code: 0, signal: null, reason: "exit" });
  const stopped = new Bench().start().exit(5).start();
  stopped.ask("stop");
  assertEquals(stopped.exit(4).status(), { code: 4, signal: null, reason: "exit" });
  const limited = new Bench({ restart: restart({ intensity: 2 }) }).start().exit(0).launch().exit(
    6,
  );
  limited.pass(120);
  assertEquals(limited.launch().exit(6).status()?.reason, "restart-limit");
});

test("core server: the restart limit ends supervision with the status of the last instance, or 1", () => {
  for (const [end, code] of [[0, 1], [5, 5], ["SIGABRT", 134]] as const) {
    const bench = new Bench({ restart: restart({ intensity: 2, maxDelay: 0 }) });
    for (let n = 0; n < 3; n++) bench.start().exit(end);
    const signal = typeof end === "string" ? end : null;
    assertEquals(bench.status(), { code, signal, reason: "restart-limit" });
    assertEquals([bench.events("recovery")[0]?.delay, bench.server.instanceId], [null, 3]);
  }
});

test("core server: the backoff waits without a process, and counts healthy time from start()", () => {
  const bench = new Bench({ restart: restart({ resetAfter: 1000 }) });
  const delays: number[] = [];
  for (const healthy of [0, 0, 0, 1000, 999]) {
    bench.start();
    for (let ms = 0; ms < healthy; ms += 50) {
      bench.now += Math.min(50, healthy - ms);
      bench.feed(heartbeat);
    }
    bench.exit(1);
    const delay = bench.events("recovery")[0]!.delay!;
    delays.push(delay);
    assertEquals(bench.server.pid, null);
    if (delay > 0) assertEquals([bench.state, bench.pass(delay - 1)], ["backoff", []]);
    bench.pass(1);
    bench.now = Math.ceil(bench.now); // a delay need not be an integer
    bench.pass(0);
    assertEquals(bench.state, "spawning");
  }
  for (const [at, nominal] of [0, 100, 200, 0, 100].entries()) {
    assert(Math.abs(delays[at]! - nominal) <= nominal * 0.2, `${delays}`);
  }
});

test("core server: a failed spawn ends supervision for the first instance, and is a failure later", () => {
  const error = { code: "LIBRARY", message: "no such program" } as const;
  const first = new Bench();
  first.feed({ type: "begin" });
  first.feed({ type: "spawnFailed", error });
  assertEquals(first.status(), { code: 1, signal: null, reason: "spawn", error });
  const later = new Bench().start().exit(0);
  later.feed({ type: "spawnFailed", error });
  assertEquals(later.events("recovery")[0]?.reason, "startup");
  assertEquals(later.state, "backoff");
  later.pass(100);
  assertEquals(later.of("spawn"), [{ type: "spawn", instanceId: 3 }]);
});

test("core server: a process that needs permission starts when it gets it, and the next one asks again", () => {
  const bench = new Bench({ asksBeforeStart: true });
  bench.feed({ type: "begin" });
  for (const id of [1, 2]) {
    assertEquals(bench.of("askToStart").length, 1);
    assertEquals([bench.state, bench.of("spawn")], ["pending", []]);
    assertEquals(bench.feed({ type: "restart" }), [], "a restart needs permission too");
    assertEquals([bench.state, bench.server.deadline], ["pending", undefined]);
    bench.feed({ type: "allowStart" });
    assertEquals([bench.state, bench.of("spawn")], ["spawning", [{
      type: "spawn",
      instanceId: id,
    }]]);
    assertEquals(bench.feed({ type: "allowStart" }), []);
    bench.start().exit(1);
  }
});

test("core server: a stop or halt while a process waits for permission starts none, and is no failure", () => {
  const pending = () => {
    const bench = new Bench({ asksBeforeStart: true });
    bench.feed({ type: "begin" });
    return bench;
  };
  const stopped = pending();
  stopped.feed({ type: "shutdown", signal: "SIGTERM" });
  assertEquals(stopped.status(), { code: 143, signal: "SIGTERM", reason: "stopped" });
  const halted = pending();
  halted.feed({ type: "halt" });
  assertEquals([halted.state, halted.events("stopped").length], ["stopped", 1]);
  assertEquals(halted.feed({ type: "allowStart" }), []);
  halted.feed({ type: "restart" });
  assertEquals([halted.state, halted.of("askToStart").length], ["pending", 1]);
});
