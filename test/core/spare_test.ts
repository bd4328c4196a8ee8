// The state machine of the server: the start of a spare, its promotion, and its failures. In virtual time.
import { assert, assertEquals, assertGreaterOrEqual } from "@std/assert";
import { protocolVersion } from "../../src/core/wire.ts";
import type { ServerInput } from "../../src/core/server/types.ts";
import { Client } from "../../src/core/client/machine.ts";
import { Bench, settings, T } from "../support/core_bench.ts";
import { test } from "../support/harness.ts";

const patient = { standby: 1, timeInterval: 0 } as const;

/** A started program with a spare that is being started. */
function starting(some: ConstructorParameters<typeof Bench>[0] = {}): Bench {
  return new Bench({ ...patient, ...some }).start().startSpare();
}

/** A started program with a spare that is parked. */
function parked(some: ConstructorParameters<typeof Bench>[0] = {}): Bench {
  return starting(some).park();
}

test("core spare: a spare is started shortly after start(), and parks", () => {
  const bench = new Bench(patient).register();
  bench.pass(10_000);
  assertEquals(bench.server.spare, null);
  bench.ask("start");
  bench.pass(100);
  assertEquals(bench.of("spawnSpare").length, 0);
  bench.pass(1000);
  assertEquals(bench.of("spawnSpare").length, 1);
  assertEquals(bench.server.spare, { state: "starting", pid: null });
  bench.spare({ type: "spawned", pid: 8 });
  assertEquals(bench.server.spare, { state: "starting", pid: 8 });
  bench.park();
  assertEquals(bench.of("sendSpare").map(({ message }) => message), [{ type: "parked", id: 77 }]);
  assertEquals(bench.server.spare, { state: "parked", pid: 8 });
  assertEquals(bench.server.deadline, undefined, "a parked spare needs no timer");
});

test("core spare: if processes need permission, a spare asks too, and does not start beside the next instance", () => {
  const bench = new Bench({ ...patient, asksBeforeStart: true });
  const allow = { type: "spare", input: { type: "allowStart" } } as const;
  for (const input of [{ type: "begin" }, { type: "allowStart" }] as const) bench.feed(input);
  bench.start();
  assertEquals(bench.feed(allow), [], "no spare is due");
  bench.pass(1000);
  assertEquals([bench.of("askToStartSpare").length, bench.of("spawnSpare").length], [1, 0]);
  assertEquals(bench.server.spare, { state: "starting", pid: null });
  bench.exit("SIGSEGV");
  assertEquals([bench.state, bench.server.spare], ["pending", null]);
  assertEquals(bench.feed(allow), [], "the spare is no longer due");
  bench.feed({ type: "allowStart" });
  bench.start().pass(1000);
  assertEquals(bench.feed(allow), [{ type: "spawnSpare" }]);
  assertEquals(bench.feed(allow), [], "once");
  bench.spare({ type: "spawned", pid: 8 });
  assertEquals(bench.park().server.spare, { state: "parked", pid: 8 });
});

test("core spare: there is no spare with standby 0 or with the policy quit", () => {
  for (const some of [{ timeInterval: 0 }, { ...patient, recoveryPolicy: "quit" }] as const) {
    const bench = new Bench(some).start();
    assertEquals(bench.pass(100_000), []);
  }
});

test("core spare: a spare becomes the next instance as soon as the last one has ended", () => {
  const bench = parked();
  bench.store(Uint8Array.of(1, 2, 3));
  bench.exit("SIGSEGV");
  const order = bench.last.map(({ type }) => type).filter((type) => type !== "emit");
  assertEquals(order.slice(0, 3), ["cleanUp", "promote", "send"]);
  const [welcome] = bench.sent();
  assert(welcome?.type === "welcome");
  assertEquals([welcome.id, welcome.instanceId, welcome.first, welcome.dataSize], [
    77,
    2,
    false,
    3,
  ]);
  assertEquals([bench.state, bench.server.pid, bench.server.spare], ["registered", 8, null]);
  bench.ask("start");
  bench.pass(1000);
  assertEquals(bench.of("spawnSpare").length, 1, "the next spare");
});

test("core spare: a spare that has not called register() can take over", () => {
  const bench = new Bench(patient).start();
  bench.pass(1000);
  bench.spare({ type: "spawned", pid: 8 });
  bench.exit(1);
  assertEquals(bench.of("promote").length, 1);
  assertEquals([bench.state, bench.server.pid, bench.server.instanceId], ["launched", 8, 2]);
  assertEquals(bench.hello().type, "welcome");
});

test("core spare: a spare that is still being started does not delay the next instance", () => {
  const bench = new Bench(patient).start();
  bench.pass(1000);
  bench.exit(1);
  assertEquals([bench.of("promote").length, bench.of("spawn").length], [0, 1]);
});

test("core spare: the backoff applies to a promotion too", () => {
  const bench = parked();
  bench.exit(1);
  bench.ask("start");
  bench.pass(1000);
  bench.spare({ type: "spawned", pid: 9 });
  bench.park();
  bench.exit(1);
  assertEquals([bench.state, bench.of("promote").length], ["backoff", 0]);
  bench.pass(100);
  assertEquals(bench.of("promote").length, 1);
});

test("core spare: the startup timeout begins at the promotion", () => {
  const bench = parked({ startupTimeout: 500 });
  bench.pass(10_000);
  bench.exit(1);
  assertEquals(bench.pass(499), []);
  bench.pass(1);
  assertEquals(bench.events("warn").map(({ reason }) => reason), ["startup"]);
});

test("core spare: the end of a spare does not affect the instance, and each next spare waits longer", () => {
  const bench = parked();
  const waits: number[] = [];
  for (let round = 0; round < 5; round++) {
    bench.spare({ type: "exit" });
    assertEquals(bench.of("killSpare").length, 1);
    assertEquals(bench.events("spare").map(({ state }) => state), ["ended"]);
    assertEquals(bench.state, "started");
    waits.push(bench.server.deadline! - bench.now);
    bench.pass(waits.at(-1)!);
    bench.spare({ type: "spawned", pid: 10 + round });
  }
  for (let round = 1; round < waits.length; round++) {
    assertGreaterOrEqual(waits[round]!, waits[round - 1]!);
  }
  assertGreaterOrEqual(waits.at(-1)!, 500);
});

test("core spare: a link that ends, a failed spawn and another version end a spare", () => {
  for (const input of [{ type: "linkEnd" }, { type: "spawnFailed" }] as const) {
    const bench = parked();
    bench.spare(input);
    assertEquals([bench.of("killSpare").length, bench.server.spare], [1, null]);
  }
  const bench = new Bench(patient).start();
  bench.pass(1000);
  bench.spare({ type: "spawned", pid: 8 });
  bench.park(protocolVersion + 1);
  assertEquals([bench.of("killSpare").length, bench.server.spare], [1, null]);
});

test("core spare: every end of supervision ends the spare", () => {
  const ends: Readonly<Record<string, (bench: Bench) => void>> = {
    shutdown: (bench) => bench.feed({ type: "shutdown", signal: null }),
    restart: (bench) => bench.feed({ type: "restart" }),
    finalize: (bench) => bench.ask("finalize"),
    "an exit after stop()": (bench) => {
      bench.ask("stop");
      bench.exit(0);
    },
    "the restart limit": (bench) => bench.exit(1),
  };
  for (const [name, end] of Object.entries(ends)) {
    const bench = parked({ restart: { ...settings.restart, intensity: 0 } });
    end(bench);
    assertEquals(bench.log.filter(({ type }) => type === "killSpare").length, 1, name);
    assertEquals(bench.server.spare, null, name);
    assertEquals(bench.pass(100_000).filter(({ type }) => type === "spawnSpare"), [], name);
  }
});

test("core spare: restart() in backoff starts a new process, without the old code of the spare", () => {
  const bench = parked({ restart: { ...settings.restart, initialDelay: 5000 } });
  bench.exit(1);
  assertEquals(bench.state, "backoff");
  bench.feed({ type: "restart" });
  assertEquals([bench.of("killSpare").length, bench.of("spawn").length], [1, 1]);
});

test("core spare: late inputs about an ended spare are ignored", () => {
  const bench = parked();
  bench.exit(1);
  for (const type of ["exit", "linkEnd", "spawnFailed"] as const) {
    bench.spare({ type });
    assertEquals(bench.last, []);
  }
});

test("core spare: register() of a spare waits without a time limit, and the spare ends with its server", () => {
  const client = new Client({ timeInterval: T, maxDataSize: 10 });
  client.step({ type: "connect" }, 0);
  client.step({ type: "register", id: 1, pid: 8, notice: "" }, 0);
  client.step({ type: "message", message: { type: "parked", id: 1 } }, 5);
  assertEquals(client.deadline ?? Infinity, Infinity);
  assertEquals(client.waiting, true, "the link keeps the process alive");
  assertEquals(client.step({ type: "linkEnd", detail: "" }, 1e6), [{ type: "exit" }]);
});

test("core spare: restart() during a recovery ends the spare, which holds old code", () => {
  const bench = new Bench({ standby: 1, timeInterval: 2000 }).start();
  bench.pass(1000);
  bench.spare({ type: "spawned", pid: 8 });
  bench.park();
  bench.pass(1000);
  assertEquals(bench.state, "warned");
  bench.feed({ type: "restart" });
  assertEquals([bench.of("killSpare").length, bench.server.spare], [1, null]);
  bench.exit("SIGTERM");
  assertEquals([bench.of("promote").length, bench.of("spawn").length], [0, 1]);
});

test("core spare: a parked spare changes nothing for the instance", () => {
  const some = { hasQuorum: true, heartbeatWindow: 0.5 };
  const [without, with_] = [0, 1].map((standby) => {
    const bench = new Bench({ ...some, standby: standby as 0 | 1 }).register();
    bench.feed({ type: "quorum", quorate: true });
    bench.ask("start");
    for (let beats = 0; beats < 30; beats++) {
      bench.pass(10);
      bench.feed({ type: "heartbeat" });
    }
    return bench;
  }) as [Bench, Bench];
  with_.spare({ type: "spawned", pid: 8 });
  with_.park();
  assertEquals(with_.server.spare?.state, "parked");
  const check = { type: "message", message: { type: "checkBegin" } } as const;
  const answer = { healthy: true, detail: "" };
  const happens: readonly ServerInput[] = [
    { type: "heartbeat" },
    { type: "tick" },
    check,
    { type: "heartbeat" },
    { type: "message", message: { type: "checkEnd", ...answer } },
    { type: "message", message: { type: "stop", id: 91 } },
    { type: "message", message: { type: "start", id: 92 } },
    check,
    { type: "quorum", quorate: true },
    { type: "tick" },
  ];
  for (const input of happens) {
    for (const bench of [without, with_]) bench.pass(7);
    assertEquals(with_.feed(input), without.feed(input));
    assertEquals(with_.server.deadline, without.server.deadline);
    assert(with_.server.deadline !== undefined || with_.state === "registered");
  }
  assertEquals(with_.pass(1000), without.pass(1000));
});

test("core spare: no spare starts beside an instance that is starting", () => {
  const bench = parked();
  bench.spare({ type: "exit" });
  bench.pass(100);
  bench.exit(1);
  assertEquals(bench.of("spawn").length, 1);
  assertEquals(bench.pass(10_000), [], "the next instance is being started");
  bench.start();
  assertEquals(bench.pass(249), []);
  bench.pass(1);
  assertEquals(bench.of("spawnSpare").length, 1);
});

test("core spare: the backoff of the spare continues after the instance in which it failed", () => {
  const bench = parked({ restart: { ...settings.restart, initialDelay: 5000 } });
  bench.spare({ type: "exit" });
  bench.exit(1);
  bench.pass(5000);
  assertEquals(bench.of("spawn").length, 1, "the backoff of the instance is not affected");
  bench.start();
  assertEquals(bench.pass(249), []);
  bench.pass(1);
  bench.spare({ type: "spawned", pid: 9 });
  bench.spare({ type: "exit" });
  bench.spare({ type: "exit" });
  const due = bench.server.deadline!;
  const delay = due - bench.now - 250;
  assert(delay >= 8000 && delay <= 12_000, `${delay}`);
  bench.feed({ type: "restart" });
  bench.exit(1);
  bench.start();
  assertEquals(bench.server.deadline, due);
});

test("core spare: a spare that had ended before its promotion does not end supervision", () => {
  const unknown = starting();
  unknown.exit(1);
  unknown.exit(0);
  assertEquals(unknown.events("recovery").map(({ reason }) => reason), ["startup"]);

  const bench = parked();
  bench.exit(1);
  bench.exit(0);
  assertEquals(bench.events("recovery").map(({ reason }) => reason), ["startup"]);
  assertEquals(bench.status(), undefined);

  const aware = parked();
  aware.exit(1);
  aware.store(Uint8Array.of(1));
  aware.exit(0);
  assertEquals(aware.status(), { code: 0, signal: null, reason: "exit" });
});

test("core spare: a promoted command has no startup timeout before it registers", () => {
  const some = { startupTimeout: 500, startedAtSpawn: true } as const;
  const bench = starting(some);
  bench.exit(1);
  assertEquals(bench.pass(10_000), []);
});

/** The server of a reload by a spare, which waits for permission to start the spare. */
function preparing(): Bench {
  const bench = new Bench({ timeInterval: 0, firstInstanceId: 2, asksBeforeStart: true });
  for (const type of ["begin", "prepareSpare"] as const) bench.feed({ type });
  return bench;
}

test("core spare: in the server of a reload, the spare starts before the first instance, and becomes it with the stored data", () => {
  const bench = preparing();
  assertEquals(bench.pass(100_000), [], "no process before the permission");
  bench.spare({ type: "allowStart" });
  assertEquals(bench.of("spawnSpare").length, 1);
  bench.spare({ type: "spawned", pid: 8 });
  bench.park();
  bench.feed({ type: "linkData", bytes: Uint8Array.of(1, 2, 3) });
  bench.feed({ type: "allowStart" });
  const [welcome] = bench.sent();
  assert(welcome?.type === "welcome");
  assertEquals([welcome.instanceId, welcome.dataSize], [2, 3]);
  assertEquals([bench.state, bench.server.pid, bench.server.spare], ["registered", 8, null]);
});

test("core spare: in the server of a reload, a spare that has failed or comes too late gives way to a process", () => {
  const failed = preparing();
  failed.spare({ type: "allowStart" });
  failed.spare({ type: "spawned", pid: 8 });
  failed.spare({ type: "exit" });
  assertEquals(failed.pass(100_000), [], "no other spare follows");
  assertEquals(failed.server.spare, null);
  failed.feed({ type: "allowStart" });
  assertEquals([failed.state, failed.server.instanceId], ["spawning", 2]);
  const late = preparing();
  late.spare({ type: "allowStart" });
  late.feed({ type: "allowStart" });
  assertEquals([late.of("killSpare").length, late.server.spare], [1, null]);
  assertEquals([late.state, late.server.instanceId], ["spawning", 2]);
});

test("core spare: in the server of a reload, a spare that ends soon after its promotion is replaced", () => {
  const bench = preparing();
  bench.spare({ type: "allowStart" });
  bench.spare({ type: "spawned", pid: 8 });
  bench.park();
  bench.feed({ type: "allowStart" });
  assertEquals([bench.server.pid, bench.server.instanceId], [8, 2]);
  bench.exit("SIGSEGV");
  assertEquals([bench.state, bench.server.instanceId], ["pending", 3]);
  const unlucky = new Bench({ timeInterval: 0, firstInstanceId: 2 });
  unlucky.feed({ type: "begin" });
  unlucky.feed({ type: "spawnFailed", error: { code: "LIBRARY", message: "no process" } });
  assertEquals([unlucky.state, unlucky.server.instanceId], ["spawning", 3]);
});
