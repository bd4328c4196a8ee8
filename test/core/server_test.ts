// The state machine of the server: deadlines, warnings, kills, ends and statuses. In virtual time.

import { assert, assertEquals, assertMatch } from "@std/assert";
import { isSignal, signalNumber, signals } from "../../src/core/signals.ts";
import { Bench, stopTimeout, T } from "../support/core_bench.ts";
import { test } from "../support/harness.ts";

const tick = { type: "tick" } as const;
const starved = { type: "starved", waitMs: T / 8 } as const;
const heartbeat = { type: "heartbeat" } as const;
const unhealthy = { type: "checkEnd", healthy: false, detail: "disk full" } as const;

test("core server: begin starts instance 1, which has no deadline before start()", () => {
  const bench = new Bench();
  assertEquals(bench.feed({ type: "begin" }), [{ type: "spawn", instanceId: 1 }]);
  bench.feed({ type: "spawned", pid: 7 });
  assertEquals(bench.events("spawn"), [{ type: "spawn", pid: 7 }]);
  assertEquals(bench.server.deadline, undefined);
  const welcome = bench.hello();
  assert(welcome.type === "welcome" && welcome.first && welcome.instanceId === 1);
  assertEquals(bench.server.deadline, undefined);
  assertEquals(bench.pass(1e9), []);
});

test("core server: a program that is stopped while it waits for permission to start is later started as instance 1", () => {
  const bench = new Bench({ asksBeforeStart: true });
  bench.feed({ type: "begin" });
  assertEquals(bench.state, "pending");
  bench.feed({ type: "halt" });
  assertEquals(bench.state, "stopped");
  assertEquals(bench.feed({ type: "restart" }), [{ type: "askToStart" }]);
  assertEquals(bench.feed({ type: "allowStart" }), [{ type: "spawn", instanceId: 1 }]);
  assertEquals(bench.server.restarts, 0);
});

test("core server: a program that is stopped before its first start is later started as instance 1", () => {
  const bench = new Bench();
  bench.feed({ type: "halt" });
  bench.feed({ type: "begin" });
  assertEquals(bench.state, "stopped");
  assertEquals(bench.feed({ type: "restart" }), [{ type: "spawn", instanceId: 1 }]);
  bench.feed({ type: "spawned", pid: 7 });
  const welcome = bench.hello();
  assert(welcome.type === "welcome" && welcome.first && welcome.instanceId === 1);
  assertEquals(bench.server.restarts, 0);
});

test("core server: if the process ends while it is not watched, the server ends with its status, with either policy", () => {
  for (const recoveryPolicy of ["quit", "restart"] as const) {
    for (const end of [0, 3, "SIGSEGV"] as const) {
      const status = {
        code: end === "SIGSEGV" ? 139 : end,
        signal: end === "SIGSEGV" ? end : null,
      };
      const launched = new Bench({ recoveryPolicy }).launch().exit(end);
      const registered = new Bench({ recoveryPolicy }).register().exit(end);
      const stopped = new Bench({ recoveryPolicy }).start();
      assertEquals(stopped.ask("stop")?.type, "done");
      const finalized = new Bench({ recoveryPolicy }).start();
      assertEquals(finalized.ask("finalize")?.type, "done");
      for (const bench of [stopped, finalized]) {
        assertEquals(bench.server.deadline, undefined);
        bench.pass(100 * T);
        bench.exit(end);
      }
      for (const bench of [registered, stopped, finalized]) {
        assertEquals(bench.status(), { ...status, reason: "exit" });
      }
      const { error, ...rest } = launched.status()!;
      assertEquals(rest, { ...status, reason: "exit" });
      assertEquals(error?.code, end === 0 ? undefined : "LIBRARY");
      if (error) {
        assertMatch(error.message, /^app ended with exit code \d+ before it called register/);
      }
    }
  }
});

test("core server: the status is 128 + n for each signal", () => {
  assertEquals(signals.length, 31);
  for (const signal of signals) {
    const status = new Bench({ recoveryPolicy: "quit" }).start().exit(signal).status();
    assertEquals(status, { code: 128 + signalNumber(signal), signal, reason: "quit" });
  }
  assertEquals([signalNumber("SIGKILL"), signalNumber("SIGTERM")], [9, 15]);
  assert(!isSignal("toString") && !isSignal("sigterm") && !isSignal(15));
});

test("core server: startupTimeout is a deadline until start(), and a process that misses it is replaced", () => {
  for (const registers of [false, true]) {
    const bench = new Bench({ startupTimeout: 500 }).launch();
    if (registers) bench.hello();
    assertEquals(bench.pass(499), []);
    bench.pass(1);
    assertEquals([bench.state, bench.signals()], ["warned", ["SIGTERM"]]);
    bench.pass(T);
    assertEquals(bench.signals(), ["SIGKILL"]);
    bench.exit("SIGKILL");
    const [recovery] = bench.events("recovery");
    assertEquals([recovery?.reason, recovery?.delay], ["startup", 0]);
    assertEquals([bench.state, bench.server.instanceId], ["spawning", 2]);
    assertEquals(recovery?.evidence.heartbeatAge, null);
  }
  const bench = new Bench({ startupTimeout: 500 }).register();
  bench.pass(499);
  bench.ask("start");
  bench.ask("stop");
  assertEquals(bench.pass(1e6), [], "the deadline is removed");
});

test("core server: a command without initialize counts as started from its spawn, without time limit", () => {
  const bench = new Bench({ startedAtSpawn: true }).launch();
  assertEquals(bench.pass(100 * T), []);
  bench.exit(0);
  assertEquals(bench.events("recovery")[0]?.reason, "exit");
  assertEquals(bench.state, "spawning");
  const quit = new Bench({ startedAtSpawn: true, recoveryPolicy: "quit" }).launch().exit(4);
  assertEquals(quit.status(), { code: 4, signal: null, reason: "quit" });
  const registered = new Bench({ startedAtSpawn: true }).register().exit(0);
  assertEquals(registered.status(), { code: 0, signal: null, reason: "exit" });
});

test("core server: every heartbeat moves the deadline to now + time interval", () => {
  const bench = new Bench().start();
  for (let n = 0; n < 50; n++) {
    assertEquals(bench.server.deadline, bench.now + T);
    assertEquals(bench.pass(T - 1), []);
    assertEquals(bench.feed(heartbeat), []);
  }
  const window = new Bench({ heartbeatWindow: 0.5 }).start();
  assertEquals(window.server.deadline, window.now + T + 0.5);
  const unlimited = new Bench({ timeInterval: 0 }).start();
  unlimited.feed(heartbeat);
  assertEquals(unlimited.server.deadline, undefined);
});

test("core server: only a heartbeat or a healthy answer moves the deadline", () => {
  const bench = new Bench().start();
  const due = bench.server.deadline;
  bench.now += T / 2;
  bench.store(Uint8Array.of(1));
  bench.say({ type: "setWarnSignal", id: 8, signal: "SIGHUP" });
  bench.say({ type: "fetch", id: 9, offset: 0 });
  assertEquals(bench.ask("start")?.type, "done", "a repeated request is granted again");
  bench.say({ type: "checkBegin" });
  assertEquals(bench.server.deadline, due);
  bench.say({ type: "checkEnd", healthy: true, detail: "" });
  assertEquals(bench.server.deadline, bench.now + T);
});

test("core server: a missed deadline sends a warning message and the warn signal, and SIGKILL a time interval later", () => {
  const bench = new Bench().start();
  bench.pass(30);
  bench.feed(heartbeat);
  bench.pass(T - 1);
  assertEquals(bench.last, []);
  bench.pass(1);
  assertEquals(bench.signals(), ["SIGTERM"]);
  assertEquals(bench.sent().map(({ type }) => type), ["warn"]);
  assertEquals(bench.events("warn")[0]?.reason, "timeout");
  bench.now += T / 2;
  assertEquals(bench.feed(heartbeat), [], "too late to cancel the kill");
  assertEquals(bench.say({ type: "checkEnd", healthy: true, detail: "" }), []);
  bench.pass(T / 2 - 1);
  assertEquals(bench.last, []);
  bench.pass(1);
  assertEquals([bench.state, bench.signals()], ["killing", ["SIGKILL"]]);
  assertEquals(
    bench.pass(1e6),
    [],
    "the next instance starts after the end of this one, not before",
  );
  bench.exit("SIGKILL");
  assertEquals(bench.of("spawn"), [{ type: "spawn", instanceId: 2 }]);
  assertEquals(bench.of("cleanUp").length, 1);
  assertEquals(bench.events("recovery"), [{
    type: "recovery",
    reason: "timeout",
    delay: 0,
    evidence: {
      detail: `no heartbeat for ${T} ms`,
      exitCode: null,
      signal: "SIGKILL",
      heartbeatAge: T,
    },
  }]);
});

test("core server: the warn signal SIGKILL leaves out the warning, and a changed warn signal is used", () => {
  const bench = new Bench({ warnSignal: "SIGKILL" }).start();
  bench.pass(T);
  assertEquals([bench.state, bench.signals()], ["killing", ["SIGKILL"]]);
  const changed = new Bench().start();
  changed.say({ type: "setWarnSignal", id: 8, signal: "SIGUSR2" });
  changed.pass(T);
  assertEquals(changed.signals(), ["SIGUSR2"]);
});

test("core server: an exit while started is a failure, exit code 0 included", () => {
  for (const end of [0, 1, "SIGKILL"] as const) {
    const bench = new Bench().start().exit(end);
    assertEquals(bench.events("recovery")[0]?.reason, typeof end === "string" ? "signal" : "exit");
    assertEquals([bench.state, bench.server.instanceId, bench.server.restarts], ["spawning", 2, 1]);
    const quit = new Bench({ recoveryPolicy: "quit" }).start().exit(end);
    assertEquals(quit.events("recovery")[0]?.delay, null);
    assertEquals(quit.status()?.reason, "quit");
  }
});

test("core server: with the policy quit, the server ends with the status of a warned process", () => {
  const bench = new Bench({ recoveryPolicy: "quit" }).start();
  bench.pass(T);
  assertEquals(bench.exit(7).status(), { code: 7, signal: null, reason: "quit" });
});

test("core server: an unhealthy answer starts the recovery at once", () => {
  const bench = new Bench().start();
  bench.say({ type: "checkBegin" });
  bench.now += 10;
  bench.say(unhealthy);
  assertEquals(bench.signals(), ["SIGTERM"]);
  assertEquals(bench.sent(), [{
    type: "warn",
    reason: "unhealthy",
    detail: "disk full",
    drain: "",
  }]);
  assertEquals(bench.server.deadline, bench.now + T);
  bench.pass(T);
  assertEquals(bench.signals(), ["SIGKILL"]);
  bench.exit("SIGKILL");
  const { reason, evidence } = bench.events("recovery")[0]!;
  assertEquals([reason, evidence.detail, evidence.heartbeatAge], ["unhealthy", "disk full", 10]);
});

test("core server: a check without an answer is unhealthy after a time interval, also with event-loop heartbeats", () => {
  const bench = new Bench().start();
  bench.now += 10;
  bench.say({ type: "checkBegin" });
  const due = bench.now + T;
  for (let n = 0; n < 3; n++) {
    bench.pass(T / 4);
    bench.feed(heartbeat);
  }
  assertEquals(bench.server.deadline, due);
  bench.pass(T / 4);
  assertEquals(bench.events("warn")[0]?.reason, "unhealthy");
  const stopped = new Bench().start();
  stopped.say({ type: "checkBegin" });
  stopped.ask("stop");
  assertEquals(stopped.pass(1e6), []);
  assertEquals(stopped.say(unhealthy), [], "an answer after stop() is ignored");
});

test("core server: a blocked event loop is noticed even if the last health check was healthy", () => {
  const bench = new Bench().start();
  bench.say({ type: "checkBegin" });
  bench.say({ type: "checkEnd", healthy: true, detail: "" });
  bench.pass(T);
  assertEquals(bench.events("warn")[0]?.reason, "timeout");
});

test("core server: a late tick does not kill a process whose heartbeat arrives", () => {
  for (const late of [T / 4, T, 10 * T, 1e6]) {
    const bench = new Bench().start();
    for (let n = 0; n < 5; n++) {
      bench.now = bench.server.deadline! + late;
      bench.feed(tick);
      assertEquals(bench.events("stall"), [{ type: "stall", lateMs: late }]);
      assertEquals(bench.state, "started");
      const room = bench.server.deadline! - bench.now;
      assert(room > 0 && room <= T, `${room}`);
      bench.now += room / 2;
      bench.feed(heartbeat);
      assertEquals(bench.server.deadline, bench.now + T);
    }
  }
});

test("core server: an unresponsive process is killed although the server stalls", () => {
  for (const late of [0, 9, T / 4, T / 2, T - 1, 3 * T]) {
    const bench = new Bench().start();
    bench.now = bench.server.deadline! + late;
    bench.feed(tick);
    bench.pass(2 * T);
    assertEquals(bench.state, "killing", `${late} ms late once`);
  }
  const bench = new Bench().start();
  let ticks = 0;
  for (; bench.state !== "killing" && ticks < 10; ticks++) {
    bench.now = bench.server.deadline! + T * 0.9;
    bench.feed(tick);
  }
  assert(ticks <= 3, "ticks that are late by less than a time interval postpone the end only once");
  const first = new Bench().start();
  first.now = first.server.deadline! + 9;
  first.feed(tick);
  assertEquals(first.state, "warned", "a delay of 9 ms is no stall");
});

test("core server: a process without CPU time gets more time, and is then observed again", () => {
  const bench = new Bench().start();
  const begun = bench.now;
  assertEquals(bench.server.responseDueAt, begun + T);
  assertEquals(bench.server.doubtAt, begun + T * 3 / 4);
  bench.feed(starved);
  assertEquals(bench.server.responseDueAt, begun + T, "the deadline has not passed");
  for (let n = 0; n < 9; n++) {
    bench.now = bench.server.responseDueAt;
    bench.feed(starved);
    assertEquals([bench.state, bench.server.responseDueAt], ["started", bench.now + T / 8]);
    assertEquals(bench.events("starved").length, n === 0 ? 1 : 0, "reported once");
  }
  bench.pass(T / 8);
  assertEquals(bench.events("warn")[0]?.reason, "timeout");
  bench.feed(starved);
  assertEquals(bench.state, "warned", "a warned process gets no more time");
});

test("core server: the deadline of a health check moves together with that of the event loop", () => {
  const bench = new Bench().start();
  bench.now += 3;
  bench.say({ type: "checkBegin" });
  bench.now = bench.server.responseDueAt;
  bench.feed(starved);
  assertEquals(bench.server.responseDueAt, bench.now + T / 8);
  assertEquals(bench.pass(T / 8 - 1), []);
  bench.pass(1);
  assertEquals(bench.events("warn").length, 1);
});

test("core server: below a time interval of 80 ms, CPU time is not judged", () => {
  for (const [timeInterval, doubtAfter] of [[0, Infinity], [79, Infinity], [80, 60]] as const) {
    const bench = new Bench({ timeInterval }).start();
    assertEquals(bench.server.doubtAt - bench.now, doubtAfter);
  }
});

test("core server: a command that registers late has the full startupTimeout from then on", () => {
  const bench = new Bench({ startedAtSpawn: true, startupTimeout: 100 });
  bench.launch();
  bench.pass(5000);
  bench.hello();
  assertEquals(bench.pass(99), []);
  bench.pass(1);
  assertEquals(bench.events("warn")[0]?.reason, "startup");
});

test("core server: an exit is judged when all messages of the process have arrived", () => {
  const late = new Bench().start();
  late.feed({ type: "exit", code: 0, signal: null });
  assertEquals([late.state, late.of("cleanUp").length], ["started", 0]);
  late.now += 20;
  assertEquals(late.ask("stop")?.type, "done", "a message from before the exit counts");
  late.feed({ type: "linkEnd" });
  assertEquals(late.conclude().status(), { code: 0, signal: null, reason: "exit" });
  const held = new Bench().start();
  held.feed({ type: "exit", code: 0, signal: null });
  assertEquals(held.pass(1e6), [], "an ended process has no deadline");
  held.conclude();
  assertEquals([held.state, held.events("recovery").length], ["spawning", 1]);
  const early = new Bench().register();
  early.feed({ type: "exit", code: 2, signal: null });
  early.ask("start");
  early.conclude();
  assertEquals(early.events("recovery")[0]?.reason, "exit");
});

test("core server: no deadline warns or kills a process that has exited", () => {
  const bench = new Bench({ timeInterval: 20 }).start();
  bench.feed({ type: "exit", code: 1, signal: null });
  bench.feed(heartbeat);
  bench.say({ type: "checkBegin" });
  bench.say(unhealthy);
  bench.pass(50);
  assertEquals([bench.signals(), bench.events("warn")], [[], []]);
  assertEquals(bench.server.deadline, undefined, "no passed deadline remains");
  bench.conclude();
  assertEquals(bench.events("recovery")[0]?.reason, "exit");
});

test("core server: a link that ends without an exit is a failure while started, and only then", () => {
  const bench = new Bench({ timeInterval: 0 }).start();
  bench.feed({ type: "linkEnd" });
  assertEquals(bench.pass(999), []);
  bench.pass(1);
  assertEquals(bench.events("warn")[0]?.reason, "exit");
  assertEquals(bench.sent(), [], "there is no link");
  assertEquals(
    bench.server.deadline,
    bench.now + stopTimeout,
    "the grace period without a time interval",
  );
  const limited = new Bench().start();
  limited.feed({ type: "linkEnd" });
  limited.pass(T);
  assertEquals(limited.state, "warned");
  for (const call of ["stop", "finalize"] as const) {
    const calm = new Bench().start();
    calm.ask(call);
    calm.feed({ type: "linkEnd" });
    assertEquals(calm.pass(1e6), []);
  }
});
