// The state machine of the server: programs that a preload registers, the option restart.on, and health checks of the server.
import { assertEquals } from "@std/assert";
import { Bench, restartDefaults, stopTimeout, T } from "../support/core_bench.ts";
import { test } from "../support/harness.ts";

const on = (rule: "failure" | "always") => ({ ...restartDefaults, on: rule });
const preloaded = { preloaded: true, restart: on("failure") };

test("core server: with on: failure, exit code 0 ends supervision, and every other end is a failure, started or not", () => {
  for (const reach of ["launch", "register", "start"] as const) {
    const done = new Bench(preloaded);
    done[reach]().exit(0);
    assertEquals(done.status(), { code: 0, signal: null, reason: "exit" }, reach);
    const failed = new Bench(preloaded);
    failed[reach]().exit(3);
    assertEquals([failed.state, failed.server.instanceId], ["spawning", 2], reach);
  }
});

test("core server: with on: always, every end is a failure, also of a command", () => {
  for (const some of [{ preloaded: true }, { startedAtSpawn: true }]) {
    const bench = new Bench({ ...some, restart: on("always") });
    bench.launch().exit(0);
    assertEquals([bench.state, bench.server.instanceId], ["spawning", 2]);
  }
  const command = new Bench({ startedAtSpawn: true, restart: on("failure") });
  command.launch().exit(0);
  assertEquals(command.status()?.reason, "exit");
});

test("core server: a program's register() takes over from its preload, and the rules of libsam apply from then on", () => {
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

test("core server: data that was stored before register() is for the first instance only, with a preload too", () => {
  const bench = new Bench(preloaded);
  bench.register();
  const isFirst = () => (bench.hello() as { first?: boolean }).first;
  assertEquals(isFirst(), true);
  bench.ask("start");
  bench.exit(1);
  bench.register();
  assertEquals(isFirst(), false);
});

test("core server: a failed check of the server starts one recovery, registered or not, but none after finalize()", () => {
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

test("core server: exit code 0 after a warning is no success; under libsam's rule, the status is that of the program", () => {
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
  assertEquals(own.status()?.code, 0, "it ended by itself");
  assertEquals(new Bench({ ...quit, restart: on("always") }).launch().exit(0).status()?.code, 1);
});

const turns = { type: "heartbeat" } as const;
const blocked = { type: "examined", evidence: {}, isBlocked: true } as const;

test("core server: a preloaded program whose event loop turns is watched after its startup timeout", () => {
  const bench = new Bench({ ...preloaded, startupTimeout: 10 * T });
  bench.register().pass(9 * T + 1);
  bench.feed(turns);
  bench.pass(T);
  assertEquals([bench.state, bench.events("start").length], ["started", 1]);
  bench.feed(turns);
  bench.pass(T - 1);
  assertEquals(bench.ask("start")?.type, "done", "the event loop may have become free just then");
  bench.pass(1);
  assertEquals(bench.events("warn")[0]?.reason, "timeout");
});

test("core server: the startup timeout holds for a blocked event loop, and for a program that registers itself", () => {
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

test("core server: without quorum, an event loop that turns gets the startup timeout again", () => {
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

/** A process that has just been warned because it missed its deadline. */
const warned = (some: object = {}) => {
  const bench = new Bench({ ...preloaded, ...some });
  bench.start().pass(T);
  assertEquals(bench.state, "warned");
  return bench;
};

test("core server: a blocked event loop has a grace period of a quarter of the time interval", () => {
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
  assertEquals(late.state, "killing", "never later than with a full grace period");
});

test("core server: a blocked event loop that turns again gets a full grace period from then on, once", () => {
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

test("core server: an event loop that turns, and a program that registers itself, have the full grace period", () => {
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

test("core server: after a failed check of the server, an event loop counts as blocked after half a time interval without a heartbeat", () => {
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

test("core server: an event loop that never turned has the short grace period too, but not with time interval 0", () => {
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

const listens = {
  type: "listens",
  address: "8080",
  isHeld: true,
  drains: true,
  checkPort: 0,
} as const;

test("core server: a preload that can drain gets no signal at a requested end, and SIGKILL after the stop timeout", () => {
  for (const input of [{ type: "restart" }, { type: "shutdown", signal: null }] as const) {
    const bench = new Bench(preloaded);
    bench.start().say(listens);
    bench.feed(input);
    const warnings = bench.log.flatMap((effect) =>
      effect.type === "send" && effect.message.type === "warn" ? [effect.message.drain] : []
    );
    assertEquals([warnings, bench.signals()], [["SIGTERM"], []]);
    bench.pass(stopTimeout);
    assertEquals(bench.signals(), ["SIGKILL"]);
  }
});

test("core server: a failed instance, and a program that has registered itself, get the signal at once", () => {
  const failed = new Bench(preloaded);
  failed.start().say(listens);
  failed.pass(T);
  assertEquals(failed.signals(), ["SIGTERM"]);
  const own = new Bench(preloaded);
  own.start().say(listens);
  own.hello();
  own.feed({ type: "restart" });
  assertEquals(own.signals(), ["SIGTERM"]);
});

test("core server: a replacement that does not listen fails at its startup timeout", () => {
  const startupTimeout = 10 * T;
  const bench = new Bench({ ...preloaded, startupTimeout, listensOn: "8080", firstInstanceId: 7 });
  bench.register().say({ ...listens, address: "8081", isHeld: false, drains: false });
  bench.pass(startupTimeout);
  const [warning] = bench.events("warn");
  assertEquals(
    [warning?.reason, warning?.detail],
    ["startup", "the program did not listen on 8080 within 1000 ms; it listens on 8081"],
  );
});

test("core server: a replacement accepts connections when it takes over, or at once if it has taken over", () => {
  const accepts = (bench: Bench) =>
    bench.log.filter((effect) => effect.type === "send" && effect.message.type === "accept").length;
  const deferred = { ...listens, checkPort: 40_001 };
  const bench = new Bench({ ...preloaded, listensOn: "8080", firstInstanceId: 7 });
  bench.register().say(deferred);
  assertEquals([bench.server.checkPortOf(8080), accepts(bench)], [40_001, 0]);
  bench.feed({ type: "accept" });
  bench.feed({ type: "accept" });
  assertEquals([bench.server.checkPortOf(8080), accepts(bench)], [undefined, 1]);
  const late = new Bench({ ...preloaded, listensOn: "8080", firstInstanceId: 7 });
  late.feed({ type: "accept" });
  late.register().say(deferred);
  assertEquals([late.server.checkPortOf(8080), accepts(late)], [undefined, 1]);
});
