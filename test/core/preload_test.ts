// A program that a preload has registered ahead of it, the ends that are failures, and a check from outside.
import { assertEquals } from "@std/assert";
import { Bench, restartDefaults, stopTimeout, T } from "../support/core_bench.ts";
import { test } from "../support/harness.ts";

const on = (rule: "failure" | "always") => ({ ...restartDefaults, on: rule });
const preloaded = { preloaded: true, restart: on("failure") };

test("core server: under on-failure exit code 0 is the end, started or not, and all else a recovery", () => {
  for (const reach of ["launch", "register", "start"] as const) {
    const done = new Bench(preloaded);
    done[reach]().exit(0);
    assertEquals(done.status(), { code: 0, signal: null, reason: "exit" }, reach);
    const failed = new Bench(preloaded);
    failed[reach]().exit(3);
    assertEquals([failed.state, failed.server.instanceId], ["spawning", 2], reach);
  }
});

test("core server: under always every end is a recovery, of a command too", () => {
  for (const some of [{ preloaded: true }, { startedAtSpawn: true }]) {
    const bench = new Bench({ ...some, restart: on("always") });
    bench.launch().exit(0);
    assertEquals([bench.state, bench.server.instanceId], ["spawning", 2]);
  }
  const command = new Bench({ startedAtSpawn: true, restart: on("failure") });
  command.launch().exit(0);
  assertEquals(command.status()?.reason, "exit");
});

test("core server: a program's own register() takes over from the preload's, and SAM's rules hold from there", () => {
  const bench = new Bench(preloaded);
  bench.start();
  assertEquals(bench.hello().type, "welcome");
  assertEquals([bench.state, bench.server.deadline], ["registered", undefined]);
  assertEquals(bench.hello().type, "refused");
  bench.pass(10 * T);
  assertEquals(bench.state, "registered");
  bench.ask("start");
  bench.exit(0);
  assertEquals([bench.state, bench.server.instanceId], ["spawning", 2]);
  bench.start(); // the preload's, in the second instance
  bench.hello();
  bench.exit(5);
  assertEquals(bench.events("recovery")[0]?.reason, "startup");
  const stopped = new Bench(preloaded);
  stopped.register();
  stopped.hello();
  stopped.exit(5);
  assertEquals(stopped.status(), { code: 5, signal: null, reason: "exit" });
});

test("core server: data that was set before register() is the first instance's, preload or not", () => {
  const bench = new Bench(preloaded);
  bench.register();
  const isFirst = () => (bench.hello() as { first?: boolean }).first;
  assertEquals(isFirst(), true);
  bench.ask("start");
  bench.exit(1);
  bench.register();
  assertEquals(isFirst(), false);
});

test("core server: a check from outside recovers a program that is registered or not, once, and never a finalized one", () => {
  const unhealthy = { type: "unhealthy", reason: "unhealthy", detail: "no answer" } as const;
  for (const reach of ["launch", "register", "start"] as const) {
    const bench = new Bench({ startedAtSpawn: reach === "launch" });
    bench[reach]().feed(unhealthy);
    assertEquals(bench.state, "warned", reach);
    bench.feed(unhealthy);
    assertEquals(bench.last, [], reach);
    bench.exit(0);
    assertEquals([bench.state, bench.server.instanceId], ["spawning", 2], reach);
    assertEquals(bench.events("recovery")[0]?.reason, "unhealthy");
  }
  const finalized = new Bench();
  finalized.start().ask("finalize");
  finalized.feed(unhealthy);
  assertEquals(finalized.state, "finalized");
});

test("core server: given up after a warning, exit code 0 is no success; under libsam's rule the status is the program's", () => {
  const quit = { recoveryPolicy: "quit", startedAtSpawn: true } as const;
  const failure = { restart: on("failure") };
  for (
    const [reach, some, code] of [["launch", failure, 1], ["start", failure, 0], [
      "launch",
      {},
      0,
    ]] as const
  ) {
    const bench = new Bench({ ...quit, ...some });
    bench[reach]().feed({ type: "unhealthy", reason: "unhealthy", detail: "500" });
    assertEquals(bench.exit(0).status(), { code, signal: null, reason: "quit" }, reach);
  }
  const own = new Bench({ ...quit, restart: on("failure") }).start().exit(0);
  assertEquals(own.status()?.code, 0, "nobody asked it to end");
  assertEquals(new Bench({ ...quit, restart: on("always") }).launch().exit(0).status()?.code, 1);
});

const turns = { type: "heartbeat" } as const;
const blocked = { type: "examined", evidence: {}, isBlocked: true } as const;

test("core server: a preloaded program whose loop turns is watched when its time to start is over", () => {
  const bench = new Bench({ ...preloaded, startupTimeout: 10 * T });
  bench.register().pass(9 * T + 1);
  bench.feed(turns);
  bench.pass(T);
  assertEquals([bench.state, bench.events("start").length], ["started", 1]);
  bench.feed(turns);
  bench.pass(T - 1);
  assertEquals(bench.ask("start")?.type, "done", "it may have been free at last");
  bench.pass(1);
  assertEquals(bench.events("warn")[0]?.reason, "timeout");
});

test("core server: a program whose loop no longer turns, or that registers itself, has to start in time", () => {
  const options = { ...preloaded, startupTimeout: 10 * T };
  const hung = new Bench(options);
  hung.register().pass(9 * T);
  hung.feed(turns);
  hung.pass(T);
  const own = new Bench(options);
  own.register().hello();
  own.pass(10 * T - 1);
  own.feed(turns);
  own.pass(1);
  const next = new Bench(options);
  next.register().feed(turns);
  next.exit(1);
  next.register().pass(10 * T);
  for (const bench of [hung, own, next]) {
    assertEquals(bench.events("warn")[0]?.reason, "startup");
  }
});

test("core server: where quorum is missing, a loop that turns is given the time to start once more", () => {
  const bench = new Bench({ ...preloaded, startupTimeout: T, hasQuorum: true });
  bench.register().pass(T - 1);
  for (let n = 0; n < 5; n++) {
    bench.feed(turns);
    bench.pass(T);
    assertEquals(bench.state, "registered");
  }
  bench.feed(turns);
  bench.feed({ type: "quorum", quorate: true });
  bench.pass(T);
  assertEquals(bench.state, "started");
});

/** Warned for its silence; the time since is 0. */
const warned = (some: object = {}) => {
  const bench = new Bench({ ...preloaded, ...some });
  bench.start().pass(T);
  assertEquals(bench.state, "warned");
  return bench;
};

test("core server: a loop that is shown to be blocked has a quarter of the time interval after its warning", () => {
  const bench = warned();
  bench.pass(10);
  bench.feed(blocked);
  bench.pass(T / 4 - 1);
  assertEquals(bench.state, "warned");
  bench.pass(1);
  assertEquals([bench.state, bench.signals()], ["killing", ["SIGKILL"]]);
  const late = warned();
  late.pass(T - 1);
  late.feed(blocked);
  late.pass(1);
  assertEquals(late.state, "killing", "never later than without");
});

test("core server: a blocked loop that turns again has its whole grace period from then on, once", () => {
  const bench = warned();
  bench.feed(blocked);
  bench.pass(T / 4 - 1);
  bench.feed(turns);
  bench.pass(T / 2);
  bench.feed(turns);
  bench.feed(blocked);
  bench.pass(T / 2 - 1);
  assertEquals(bench.state, "warned");
  bench.pass(1);
  assertEquals(bench.state, "killing");
});

test("core server: the whole grace period is left to a loop that turns, and to programs that register themselves", () => {
  const turned = warned();
  turned.feed(turns);
  turned.pass(T * 3 / 4);
  turned.feed(blocked);
  const own = new Bench(preloaded);
  own.start().hello();
  own.ask("start");
  own.pass(T);
  own.feed(blocked);
  own.pass(T * 3 / 4);
  const other = new Bench();
  other.start().pass(T);
  other.feed(blocked);
  other.pass(T * 3 / 4);
  const unlinked = warned();
  unlinked.feed({ type: "linkEnd" });
  unlinked.feed(blocked);
  unlinked.pass(T * 3 / 4);
  for (const bench of [turned, own, other, unlinked]) {
    bench.pass(T / 4 - 1);
    assertEquals(bench.state, "warned");
    bench.pass(1);
    assertEquals(bench.state, "killing");
  }
});

test("core server: found unhealthy by others, a loop counts as blocked once it has been silent for half the time interval", () => {
  const unhealthy = { type: "unhealthy", reason: "unhealthy", detail: "no answer" } as const;
  for (const [silentMs, graceMs] of [[T / 2 - 1, T], [T / 2, T / 4]] as const) {
    const bench = new Bench(preloaded).start();
    bench.pass(silentMs);
    bench.feed(unhealthy);
    bench.feed(blocked);
    bench.pass(graceMs - 1);
    assertEquals(bench.state, "warned");
    bench.pass(1);
    assertEquals(bench.state, "killing");
  }
});

test("core server: a loop that blocks before it ever turns has the short grace period, too; with time interval 0 none has", () => {
  const loading = new Bench({ ...preloaded, startupTimeout: 10 * T });
  loading.register().pass(10 * T);
  loading.feed(blocked);
  loading.pass(T / 4);
  assertEquals(loading.state, "killing");
  const unlimited = new Bench({ ...preloaded, startupTimeout: T, timeInterval: 0 });
  unlimited.register().pass(T);
  unlimited.feed(blocked);
  unlimited.pass(stopTimeout - 1);
  assertEquals(unlimited.state, "warned");
});
