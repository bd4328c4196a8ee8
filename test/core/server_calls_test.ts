// The state machine of the server: orderly ends, calls of the active process, quorum and the cluster map. In virtual time.

import { assert, assertEquals, assertMatch } from "@std/assert";
import type { ServerInput } from "../../src/core/server/types.ts";
import { Bench, settings, stopTimeout, T } from "../support/core_bench.ts";
import { test } from "../support/harness.ts";

const stop = { type: "shutdown", signal: null } as const;
const terminate = { type: "shutdown", signal: "SIGTERM" } as const;
const restart = { type: "restart" } as const;
const quorate = (quorate: boolean): ServerInput => ({ type: "quorum", quorate });
const bytes = (...values: number[]) => Uint8Array.from(values);

test("core server: stop warns, kills after stopTimeout, and ends with the status of the process", () => {
  const ways: readonly ((bench: Bench) => void)[] = [
    (bench) => bench.launch(),
    (bench) => bench.register(),
    (bench) => bench.start(),
    (bench) => bench.start().ask("stop"),
    (bench) => bench.start().ask("finalize"),
  ];
  for (const reach of ways) {
    const bench = new Bench();
    reach(bench);
    const speaks = bench.state !== "launched" && bench.state !== "finalized";
    bench.feed(stop);
    assertEquals([bench.state, bench.signals()], ["stopping", ["SIGTERM"]]);
    if (speaks) assertEquals(bench.sent()[0]?.type, "warn");
    bench.feed({ type: "heartbeat" });
    assertEquals(bench.pass(stopTimeout - 1), []);
    bench.pass(1);
    assertEquals(bench.signals(), ["SIGKILL"]);
    assertEquals(bench.exit("SIGKILL").status(), {
      code: 137,
      signal: "SIGKILL",
      reason: "stopped",
    });
  }
});

test("core server: a signal to the server is passed on, unless the process got it already", () => {
  for (const delivered of [false, true]) {
    const bench = new Bench({ warnSignal: "SIGHUP" }).start();
    bench.feed({ type: "shutdown", signal: "SIGINT", delivered });
    assertEquals(bench.signals(), delivered ? [] : ["SIGINT"]);
    assertEquals(bench.server.deadline, bench.now + stopTimeout);
    assertEquals(bench.exit(0).status(), { code: 0, signal: null, reason: "stopped" });
  }
  const bench = new Bench({ warnSignal: "SIGKILL" }).start();
  bench.feed(stop);
  assertEquals(bench.signals(), ["SIGKILL"], "no warning");
});

test("core server: a second stop kills at once", () => {
  const bench = new Bench().start();
  bench.feed(stop);
  bench.feed(terminate);
  assertEquals(bench.signals(), ["SIGKILL"]);
  assertEquals(bench.server.deadline, undefined);
  const warned = new Bench().start();
  warned.pass(T);
  warned.feed(stop);
  assertEquals(warned.signals(), [], "no second warning");
  warned.feed(stop);
  assertEquals(warned.signals(), ["SIGKILL"]);
  assertEquals(warned.exit("SIGKILL").status()?.reason, "stopped");
});

test("core server: a stop without a process ends supervision at once, in backoff too", () => {
  for (const [input, code] of [[stop, 0], [terminate, 143]] as const) {
    const idle = new Bench();
    idle.feed(input);
    assertEquals(idle.status(), { code, signal: input.signal, reason: "stopped" });
    const backoff = new Bench({ restart: { ...settings.restart, initialDelay: 500 } });
    backoff.start().exit(3);
    assertEquals(backoff.state, "backoff");
    backoff.feed(input);
    assertEquals(backoff.status(), { code, signal: input.signal, reason: "stopped" });
    assertEquals(backoff.pass(1e6), []);
  }
});

test("core server: a stop during the start of the process ends it as soon as it exists", () => {
  const bench = new Bench();
  bench.feed({ type: "begin" });
  assertEquals(bench.feed(terminate), []);
  bench.feed({ type: "spawned", pid: 7 });
  assertEquals([bench.state, bench.signals()], ["stopping", ["SIGTERM"]]);
  assertEquals(bench.exit("SIGTERM").status()?.reason, "stopped");
  const failed = new Bench();
  failed.feed({ type: "begin" });
  failed.feed(terminate);
  failed.feed({ type: "spawnFailed", error: { code: "LIBRARY", message: "" } });
  assertEquals(failed.status(), { code: 143, signal: "SIGTERM", reason: "stopped" });
});

test("core server: a stop after the exit, or after a warning, makes that exit final", () => {
  const exited = new Bench().start();
  exited.feed({ type: "exit", code: 9, signal: null });
  exited.feed(stop);
  exited.conclude();
  assertEquals(exited.status(), { code: 9, signal: null, reason: "stopped" });
  const warned = new Bench().start();
  warned.pass(T);
  warned.feed(stop);
  warned.pass(T);
  assertEquals(warned.signals(), ["SIGKILL"], "the grace period does not become longer");
  assertEquals(warned.exit("SIGKILL").status()?.reason, "stopped");
  const restarting = new Bench().start();
  restarting.feed(restart);
  restarting.feed(stop);
  assertEquals(restarting.exit(0).status()?.reason, "stopped");
});

test("core server: a restart starts a new instance from every state with a process, and from backoff", () => {
  const limits = { ...settings.restart, intensity: 0, initialDelay: 500 };
  for (const policy of ["quit", "restart"] as const) {
    for (const reach of ["launch", "register", "start"] as const) {
      const bench = new Bench({ restart: limits, recoveryPolicy: policy })[reach]();
      bench.feed(restart);
      assertEquals([bench.state, bench.signals()], ["stopping", ["SIGTERM"]]);
      bench.pass(stopTimeout);
      assertEquals(bench.signals(), ["SIGKILL"]);
      bench.exit("SIGKILL");
      assertEquals(
        bench.of("spawn"),
        [{ type: "spawn", instanceId: 2 }],
        "without backoff and restart limit",
      );
      assertEquals([bench.events("recovery"), bench.server.pid], [[], null]);
    }
  }
  const backoff = new Bench({ restart: { ...limits, intensity: 1 } }).start().exit(1);
  assertEquals(backoff.state, "backoff");
  assertEquals(backoff.feed(restart), [{ type: "spawn", instanceId: 2 }]);
  const exited = new Bench().start();
  exited.feed({ type: "exit", code: 0, signal: null });
  exited.feed(restart);
  exited.conclude();
  assertEquals(exited.of("spawn"), [{ type: "spawn", instanceId: 2 }]);
});

test("core server: the run time before an orderly restart counts for the restart limit", () => {
  const bench = new Bench({ restart: { ...settings.restart, intensity: 1, period: 1000 } });
  bench.start().exit(1);
  bench.start();
  for (let n = 0; n < 20; n++) {
    bench.now += 50;
    bench.feed({ type: "heartbeat" });
  }
  bench.feed(restart);
  bench.exit(0);
  bench.start().exit(1);
  assertEquals(bench.state, "backoff", "the first recovery is more than a period ago");
});

test("core server: data and warn signal survive recoveries and restarts", () => {
  const bench = new Bench().start();
  assertEquals(bench.store(bytes(1, 2, 3)).type, "done");
  bench.say({ type: "setWarnSignal", id: 9, signal: "SIGUSR1" });
  bench.exit(1);
  const welcome = bench.launch().hello();
  assert(welcome.type === "welcome");
  assertEquals([welcome.dataSize, welcome.warnSignal, welcome.first], [3, "SIGUSR1", false]);
  bench.feed(restart);
  assertEquals(bench.signals(), ["SIGUSR1"]);
  bench.exit(0);
  assertEquals(bench.start().stored(), bytes(1, 2, 3));
  assertEquals(bench.store(bytes()).type, "done");
  assertEquals(bench.server.dataSize, 0, "deleted");
});

test("core server: new data replaces the old data when its last part has arrived, not before", () => {
  const bench = new Bench().start();
  bench.store(bytes(1, 2));
  assertEquals(bench.store(bytes(3, 4), 4).type, "done");
  assertEquals(bench.stored(), bytes(1, 2));
  bench.exit(1);
  bench.start();
  assertEquals(bench.stored(), bytes(1, 2));
  assertEquals(bench.store(bytes(8), 3).type, "done", "a new store discards an incomplete one");
  assertEquals(bench.store(bytes(9), 4, 2).type, "refused", "the part is of another size");
  assertEquals(bench.store(bytes(9), 3, 2).type, "refused", "a part is missing");
  assertEquals(bench.store(bytes(9, 9), 3, 1).type, "done");
  assertEquals(bench.stored(), bytes(8, 9, 9));
  assertEquals(bench.store(bytes(9), 3, 1).type, "refused", "no store is in progress");
});

test("core server: data that a process stored without a message goes to its successor", () => {
  const bench = new Bench().start();
  bench.store(bytes(1));
  bench.feed({ type: "linkData", bytes: bytes(2, 3) });
  assertEquals(bench.last, []);
  bench.exit(1);
  assertEquals([bench.start().stored(), bench.server.dataSize], [bytes(2, 3), 2]);
  bench.feed({ type: "linkData", bytes: new Uint8Array(settings.maxDataSize + 1) });
  assertEquals(bench.stored(), bytes(2, 3), "too much data is ignored");
});

test("core server: the stored bytes are copies", () => {
  const bench = new Bench().start();
  const mine = bytes(1, 2, 3);
  bench.store(mine);
  mine[0] = 7;
  assertEquals(bench.stored(), bytes(1, 2, 3));
});

test("core server: too much data, an invalid size and an unknown signal are refused", () => {
  const bench = new Bench().start();
  const refusal = (answer: unknown) => (answer as { code?: string }).code;
  assertEquals(bench.store(bytes(1), settings.maxDataSize).type, "done");
  assertEquals(refusal(bench.store(bytes(1), settings.maxDataSize + 1)), "TOO_BIG");
  assertEquals(refusal(bench.store(bytes(1), 0.5)), "INVALID_PARAM");
  assertEquals(refusal(bench.store(bytes(1, 2), 1)), "INVALID_PARAM");
  const [answer] = bench.say({ type: "setWarnSignal", id: 5, signal: "SIGNOPE" });
  assertEquals([refusal(answer), bench.server.warnSignal], ["INVALID_PARAM", "SIGTERM"]);
});

test("core server: a hello is answered once per instance, and only for the same version", () => {
  const bench = new Bench().launch();
  const [other, again] = [bench.hello(9), (bench.hello(), bench.hello())];
  assert(other.type === "refused" && again.type === "refused");
  assertEquals([other.code, again.code], ["MESSAGE_ERROR", "BAD_HANDLE"]);
  assertMatch(other.message, /protocol 9, its SAM server protocol 1/);
});

test("core server: after the warning every call works, and none prevents the recovery", () => {
  const plans: readonly ((bench: Bench) => void)[] = [
    (bench) => bench.start().pass(T),
    (bench) => bench.start().pass(2 * T),
    (bench) => bench.start().feed(stop),
  ];
  for (const plan of plans) {
    const bench = new Bench();
    plan(bench);
    const { deadline } = bench.server;
    const { state } = bench;
    assertEquals(bench.store(bytes(4, 2)).type, "done");
    assertEquals(bench.say({ type: "setWarnSignal", id: 9, signal: "SIGHUP" })[0]?.type, "done");
    for (const call of ["stop", "start", "finalize"] as const) {
      assertEquals(bench.ask(call)?.type, "done", call);
    }
    assertEquals([bench.state, bench.server.deadline], [state, deadline]);
    assertEquals([bench.server.dataSize, bench.server.warnSignal], [2, "SIGHUP"]);
    bench.exit(0);
    assertEquals(bench.state, state === "stopping" ? "finished" : "spawning");
  }
});

test("core server: with time interval 0 the grace period of a recovery is stopTimeout", () => {
  const bench = new Bench({ timeInterval: 0, hasQuorum: true });
  bench.feed(quorate(true));
  bench.start().feed(quorate(false));
  assertEquals([bench.state, bench.server.deadline], ["warned", bench.now + stopTimeout]);
});

test("core server: start() waits for quorum without a time limit, and a loss of quorum is a recovery", () => {
  const bench = new Bench({ hasQuorum: true, startupTimeout: 500 }).start();
  assertEquals([bench.state, bench.pass(1e6)], ["waiting", []]);
  assertEquals(bench.feed(quorate(false)), [], "no change");
  bench.feed(quorate(true));
  assertEquals(bench.state, "started");
  assertEquals(bench.sent().map(({ type }) => type), ["done"]);
  assertEquals(bench.server.deadline, bench.now + T);
  bench.feed(quorate(false));
  assertEquals([bench.state, bench.signals()], ["warned", ["SIGTERM"]]);
  assertEquals(bench.events("warn")[0]?.reason, "quorum");
  bench.exit(0);
  assertEquals(bench.events("recovery")[0]?.reason, "quorum");
  assertEquals(bench.start().state, "waiting", "start() waits for quorum again");
});

test("core server: a loss of quorum before start(), after stop() or after finalize() is no recovery", () => {
  for (const call of ["stop", "finalize"] as const) {
    const bench = new Bench({ hasQuorum: true });
    bench.feed(quorate(true));
    bench.register();
    bench.feed(quorate(false));
    bench.feed(quorate(true));
    bench.ask("start");
    bench.ask(call);
    bench.feed(quorate(false));
    assertEquals([bench.signals(), bench.pass(1e6)], [[], []]);
  }
});

test("core server: a process that ends while it waits for quorum counts as started", () => {
  const bench = new Bench({ hasQuorum: true }).start().exit(0);
  assertEquals(bench.events("recovery")[0]?.reason, "exit");
  const refused = new Bench({ hasQuorum: true }).start();
  assertEquals(refused.ask("start")?.type, "refused");
});

test("core server: finalize() and an orderly end interrupt a start() that waits for quorum", () => {
  const inputs: readonly ServerInput[] = [
    { type: "message", message: { type: "finalize", id: 77 } },
    stop,
    restart,
  ];
  for (const input of inputs) {
    const bench = new Bench({ hasQuorum: true }).start();
    bench.feed(input);
    const refused = bench.sent().filter((message) => message.type === "refused");
    assertEquals(refused.map(({ code }) => code), ["INTERRUPT"]);
    bench.feed(quorate(true));
    assertEquals(bench.sent(), []);
  }
});

test("core server: if quorum can never be known, every start() is refused with the reason", () => {
  const problem = { code: "NOT_SUPPORTED", message: "no library" } as const;
  const waiting = new Bench({ hasQuorum: true, hasClusterMap: true }).start();
  waiting.feed({ type: "quorumFailed", problem });
  assertEquals(
    waiting.sent().map((message) => message.type === "refused" && message.code),
    ["NOT_SUPPORTED"],
  );
  assertEquals([waiting.state, waiting.map()?.state], ["registered", "stopped"]);
  assertEquals(waiting.exit(3).status()?.code, 3);
  const early = new Bench({ hasQuorum: true }).register();
  early.feed({ type: "quorumFailed", problem });
  const answer = early.ask("start");
  assertEquals([answer?.type, early.state], ["refused", "registered"]);
});

test("core server: stop() while start() waits for quorum aborts it, and start() may be called again", () => {
  const bench = new Bench({ hasQuorum: true, hasClusterMap: true }).start();
  const answers = bench.say({ type: "stop", id: bench.id() });
  assertEquals(answers.map(({ type }) => type), ["refused", "done"]);
  assertEquals([bench.state, bench.map()?.state], ["registered", "stopped"]);
  bench.feed(quorate(true));
  assertEquals(bench.state, "registered");
  assertEquals([bench.ask("start")?.type, bench.state], ["done", "started"]);
});

const clustered = { hasClusterMap: true, recoveryPolicy: "restart" } as const;

test("core server: the cluster map shows the state of the process", () => {
  const bench = new Bench({ ...clustered, hasQuorum: true });
  bench.launch();
  assertEquals(bench.map(), null);
  bench.hello();
  const keys = { recovery: "restart", pollPeriod: 100n } as const;
  assertEquals(bench.map(), { ...keys, state: "stopped" });
  bench.ask("start");
  assertEquals(bench.map()?.state, "waiting for quorum");
  bench.feed(quorate(true));
  assertEquals(bench.map()?.state, "running");
  bench.now += 12;
  bench.feed({ type: "heartbeat" });
  assertEquals(bench.map()?.lastUpdated, bench.now - 12, "at most eight times in a time interval");
  bench.now += 1;
  bench.feed({ type: "heartbeat" });
  assertEquals(bench.map(), { ...keys, state: "running", lastUpdated: bench.now });
  bench.ask("stop");
  assertEquals(bench.map()?.state, "stopped");
});

test("core server: heartbeats update last_updated at most every 10 ms, and at least every second", () => {
  for (const [timeInterval, moves] of [[20, 10], [4000, 500], [60_000, 1000]] as const) {
    const bench = new Bench({ ...clustered, timeInterval }).start();
    const began = bench.now;
    bench.now += moves - 1;
    bench.feed({ type: "heartbeat" });
    assertEquals(bench.map()?.lastUpdated, began);
    bench.now += 1;
    bench.feed({ type: "heartbeat" });
    assertEquals(bench.map()?.lastUpdated, bench.now);
  }
});

test("core server: with time interval 0, last_updated is updated every second while started", () => {
  const bench = new Bench({ ...clustered, timeInterval: 0 });
  assertEquals([bench.register().server.deadline, bench.map()?.lastUpdated], [
    undefined,
    undefined,
  ]);
  bench.ask("start");
  const began = bench.now;
  assertEquals(bench.pass(3500).filter(({ type }) => type === "map").length, 3);
  assertEquals([bench.map()?.lastUpdated, bench.map()?.state], [began + 3000, "running"]);
  assertEquals(bench.pass(0), []);
  bench.now += 60_000; // the server was stopped: one update is enough
  assertEquals(bench.feed({ type: "tick" }).length, 1);
  assertEquals(bench.events("stall"), []);
  bench.ask("stop");
  assertEquals(bench.server.deadline, undefined);
  assertEquals(
    new Bench({ timeInterval: 0 }).start().server.deadline,
    undefined,
    "no map, no tick",
  );
});

test("core server: the cluster map's keys are deleted after stop(), finalize() or an orderly stop", () => {
  for (const call of ["stop", "finalize"] as const) {
    const bench = new Bench(clustered).start();
    bench.ask(call);
    assertEquals(bench.map()?.state, "stopped");
    assertEquals(bench.exit(1).map(), null);
  }
  assertEquals(new Bench(clustered).register().exit(0).map(), null);
  const stopped = new Bench(clustered).start();
  stopped.feed(stop);
  assertEquals(stopped.exit(0).map(), null);
});

test("core server: the cluster map shows failed after a process that ended while started", () => {
  const quit = new Bench({ ...clustered, recoveryPolicy: "quit" }).start().exit(0);
  assertEquals([quit.map()?.state, quit.map()?.recovery], ["failed", "quit"]);
  const limit = new Bench({ ...clustered, restart: { ...settings.restart, intensity: 0 } });
  assertEquals(limit.start().exit(1).map()?.state, "failed");
  const warned = new Bench(clustered).start();
  warned.pass(T);
  assertEquals(warned.map()?.state, "failed");
  assertEquals(warned.exit(1).start().map()?.state, "running");
});

test("core server: markFailed() kills without a warning, and no instance follows", () => {
  for (const reach of ["register", "start"] as const) {
    const bench = new Bench(clustered)[reach]();
    assertEquals(bench.ask("markFailed")?.type, "done");
    assertEquals([bench.signals(), bench.events("warn")], [["SIGKILL"], []]);
    assertEquals([bench.map()?.state, bench.map()?.recovery], ["failed", "quit"]);
    bench.exit("SIGKILL");
    assertEquals(bench.events("recovery")[0]?.reason, "failed");
    assertEquals(bench.status(), { code: 137, signal: "SIGKILL", reason: "failed" });
    assertEquals(bench.map()?.state, "failed");
  }
  const answer = new Bench().start().ask("markFailed");
  assert(answer?.type === "refused" && answer.code === "INVALID_PARAM");
});

test("core server: an exit, a restart or a stop at the same time does not cancel markFailed()", () => {
  const meetings: readonly ((bench: Bench) => void)[] = [
    (bench) => {
      bench.feed({ type: "exit", code: 1, signal: null });
      bench.ask("markFailed");
    },
    (bench) => {
      bench.feed(restart);
      bench.ask("markFailed");
    },
    (bench) => {
      bench.ask("markFailed");
      bench.feed(stop);
    },
    (bench) => {
      bench.pass(T);
      bench.ask("markFailed");
    },
  ];
  for (const reach of ["register", "start"] as const) {
    for (const meet of meetings) {
      const bench = new Bench(clustered)[reach]();
      meet(bench);
      bench.exit("SIGKILL");
      assertEquals([bench.status()?.reason, bench.map()?.state], ["failed", "failed"]);
    }
  }
});
