// supervise() as its user sees it: the events and their readers, the status, the ways to end.
import { assert, assertEquals, assertGreaterOrEqual, assertLess, assertRejects } from "@std/assert";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { SamError, supervise, type SuperviseOptions, type SupervisorEvent } from "../../mod.ts";
import { EventLog } from "../../src/supervisor/event_log.ts";
import { test } from "../support/harness.ts";
import { processTest, type Stage, type Watched } from "../support/processes.ts";

const quit = { timeInterval: 20_000, recoveryPolicy: "quit" } as const;
const restart: SuperviseOptions = {
  timeInterval: 20_000,
  recoveryPolicy: "restart",
  restart: { maxDelay: 0 },
};
/** Delays longer than a test: a command that ends does not restart. */
const patient: SuperviseOptions = {
  recoveryPolicy: "restart",
  restart: { initialDelay: 600_000, maxDelay: 600_000 },
};
const forever = { command: "sleep", args: ["600"] } as const;

function typesOf(events: readonly SupervisorEvent[]): string[] {
  return events.map(({ type }) => type);
}

async function collect(events: AsyncIterable<SupervisorEvent>): Promise<SupervisorEvent[]> {
  const all: SupervisorEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

/** Starts a program and waits until it is registered, started and healthy. */
async function up(stage: Stage, mode: string, options = restart): Promise<Watched> {
  const watched = stage.supervise("api/instance", options, { args: [mode] });
  await stage.line("started");
  return watched;
}

async function assertCode(code: string, action: () => Promise<unknown>): Promise<void> {
  assertEquals((await assertRejects(action, SamError)).code, code);
}

// Events.

processTest("events: first a status, then all events in order, then finish", async (stage) => {
  const watched = stage.supervise("api/instance", {
    ...restart,
    restart: { intensity: 1, maxDelay: 0 },
  }, { args: ["crash"] });
  const before = Date.now();
  const status = await watched.finished();
  const { events } = watched;
  const life = ["spawn", "register", "start", "exit", "recovery"];
  assertEquals(typesOf(events), ["status", ...life, ...life, "failed", "finish"]);
  assertEquals(events.map(({ instanceId }) => instanceId), [1, 1, 1, 1, 1, 1, ...Array(7).fill(2)]);
  const times = events.map(({ at }) => at);
  assertEquals(times, times.toSorted((a, b) => a - b));
  assertLess(Math.abs(times[0]! - before), 60_000);
  const exits = watched.all("exit").map(({ code, signal }) => [code, signal]);
  assertEquals(exits, [[7, null], [7, null]]);
  assertEquals(watched.all("recovery").map(({ reason, delay }) => [reason, delay]), [
    ["exit", 0],
    ["exit", null],
  ]);
  const pids = watched.all("spawn").map(({ pid }) => pid);
  assertEquals(pids, watched.all("register").map(({ pid }) => pid));
  assertEquals(pids, stage.lines("registered").map(({ pid }) => pid));
  assertEquals(watched.all("finish").map((event) => event.status), [status]);
  assertEquals(status, { code: 7, signal: null, reason: "restart-limit" });
});

processTest(
  "several readers get the same events; a late reader begins with the status",
  async (stage) => {
    const { supervisor } = stage.supervise(forever, patient);
    const early = [collect(supervisor.events()), collect(supervisor.events())];
    const watcher = supervisor.events();
    for await (const event of watcher) if (event.type === "spawn") break;
    const late = collect(supervisor.events());
    await supervisor.stop();
    const [first, second, last] = await Promise.all([...early, late]);
    assertEquals(typesOf(first!), ["status", "spawn", "stopping", "exit", "finish"]);
    assertEquals(first!.slice(1), second!.slice(1));
    assertEquals(typesOf(last!), ["status", "stopping", "exit", "finish"]);
    assertEquals(last!.slice(1), first!.slice(2));
    const [event] = last!;
    assert(event?.type === "status");
    assertEquals(event.status.state, "launched");
    const [spawn] = first!.filter((each) => each.type === "spawn");
    assertEquals(event.status.pid, spawn!.pid);
  },
);

processTest("a reader after the end gets the last status and finish", async (stage) => {
  const watched = stage.supervise({ command: "true" }, { recoveryPolicy: "quit" });
  await watched.finished();
  for (let times = 0; times < 2; times++) {
    const events = await collect(watched.supervisor.events());
    assertEquals(typesOf(events), ["status", "finish"]);
    assert(events[0]?.type === "status");
    assertEquals(events[0].status.state, "finished");
    assertEquals(events[1], { ...watched.events.at(-1)!, at: events[1]!.at });
  }
});

processTest("a slow reader loses the oldest events, and an event tells how many", async (stage) => {
  const command = join(stage.directory, "once");
  writeFileSync(command, '#!/bin/sh\nrm "$0"\n', { mode: 0o755 });
  // The stage does not watch, so no reader takes events. One instance starts, 600 do not: 3 + 600 * 2 events, failed, finish.
  const supervisor = supervise({ command }, {
    recoveryPolicy: "restart",
    restart: { intensity: 600, maxDelay: 0 },
  });
  const slow = supervisor.events();
  const quick = collect(supervisor.events());
  assertEquals((await supervisor.finished).reason, "restart-limit");
  const missed = await collect(slow);
  const all = await quick;
  assertEquals(all.length, 1 + 3 + 2 * 600 + 2);
  const [lost] = missed;
  assert(lost?.type === "lost");
  assertEquals(lost.count, all.length - 1024);
  assertEquals(missed.slice(1), all.slice(lost.count));
  assertEquals([lost.at, lost.instanceId], [missed[1]!.at, missed[1]!.instanceId]);
}, { leg: "node26" });

processTest("a reader that leaves is done, and the other readers go on", async (stage) => {
  const { supervisor } = stage.supervise(forever, patient);
  const leaving = supervisor.events();
  const staying = collect(supervisor.events());
  assertEquals((await leaving.next()).value?.type, "status");
  while ((await leaving.next()).value?.type !== "spawn");
  const waiting = leaving.next();
  assertEquals(await leaving.return!(), { done: true, value: undefined });
  assertEquals(await waiting, { done: true, value: undefined });
  assertEquals(await leaving.next(), { done: true, value: undefined });
  await supervisor.stop();
  assertEquals(await leaving.next(), { done: true, value: undefined });
  assertEquals(typesOf(await staying), ["status", "spawn", "stopping", "exit", "finish"]);
});

processTest("an error in the body of a reader's loop does not end supervision", async (stage) => {
  const { supervisor } = stage.supervise(forever, patient);
  await assertRejects(
    async () => {
      for await (const event of supervisor.events()) {
        if (event.type === "spawn") throw new Error("the reader's own");
      }
    },
    Error,
    "the reader's own",
  );
  assertEquals(supervisor.status.state, "launched");
  assertEquals((await supervisor.stop()).reason, "stopped");
});

test("a reader may call next() several times before an event comes", async () => {
  const log = new EventLog();
  const reader = log.read([]);
  const asked = [reader.next(), reader.next(), reader.next()];
  const event = (at: number) => ({ type: "stall", lateMs: 0, at, instanceId: 1 }) as const;
  log.push(event(1));
  log.push(event(2));
  log.close();
  const results = await Promise.all(asked);
  assertEquals(results.map(({ value }) => value?.at ?? "end"), [1, 2, "end"]);
  assertEquals(await log.read([]).next(), { done: true, value: undefined });
  assert(reader[Symbol.asyncIterator]() === reader);
});

test("each lost event counts only the events since the last one", async () => {
  const log = new EventLog();
  const reader = log.read([]);
  const push = (count: number) => {
    for (let at = 0; at < count; at++) log.push({ type: "stall", lateMs: 0, at, instanceId: 1 });
  };
  push(1024 + 5);
  const first = (await reader.next()).value;
  assertEquals([first.type, first.count, first.at], ["lost", 5, 5]);
  assertEquals((await reader.next()).value.at, 5);
  push(1);
  assertEquals((await reader.next()).value.at, 6);
  push(3);
  assertEquals((await reader.next()).value, { type: "lost", count: 2, at: 9, instanceId: 1 });
});

// The status.

processTest("the status follows the program through its life", async (stage) => {
  const watched = stage.supervise("api/instance", { ...restart, transport: "pipe" }, {
    args: ["keeper"],
  });
  const { supervisor } = watched;
  assertEquals(supervisor.status, {
    state: "idle",
    pid: null,
    ready: false,
    check: null,
    spawnedAt: null,
    instanceId: 1,
    restarts: 0,
    lastRecovery: null,
    heartbeatAge: null,
    dataSize: 0,
    slack: supervisor.status.slack,
    watched: null,
    members: [],
    spare: null,
    transport: "pipe",
  });
  const { pid } = await stage.line("started");
  const { heartbeatAge, spawnedAt, slack: _slack, ...rest } = supervisor.status;
  assert(spawnedAt !== null && spawnedAt <= Date.now());
  assertEquals(rest, {
    state: "started",
    pid,
    ready: true,
    check: null,
    instanceId: 1,
    restarts: 0,
    lastRecovery: null,
    dataSize: 3,
    watched: null,
    members: [],
    spare: null,
    transport: "pipe",
  });
  assertGreaterOrEqual(heartbeatAge!, 0);
  assertLess(heartbeatAge!, 20_000);

  const before = Date.now();
  process.kill(pid, "SIGKILL");
  const next = await stage.line("started", 2);
  const { state, instanceId, restarts, lastRecovery } = supervisor.status;
  assertEquals([state, instanceId, restarts], ["started", 2, 1]);
  assertEquals(supervisor.status.pid, next.pid);
  assert(lastRecovery);
  assertGreaterOrEqual(lastRecovery.at, before);
  assertEquals([lastRecovery.reason, lastRecovery.instanceId], ["signal", 1]);
  const { exitCode, signal, heartbeatAge: age } = lastRecovery.evidence;
  assertEquals([exitCode, signal], [null, "SIGKILL"]);
  assertGreaterOrEqual(age!, 0);

  await supervisor.stop();
  const last = supervisor.status;
  assertEquals([last.state, last.pid, last.instanceId, last.dataSize], ["finished", null, 2, 3]);
  assertEquals(last.heartbeatAge, null); // no more heartbeats are expected
});

processTest("an unresponsive program: warn, exit, recovery, with the evidence", async (stage) => {
  const watched = stage.supervise("api/instance", { ...quit, timeInterval: 300 }, {
    args: ["silent"],
  });
  assertEquals(await watched.finished(), { code: 143, signal: "SIGTERM", reason: "quit" });
  assertEquals(typesOf(watched.events).slice(-5), ["start", "warn", "exit", "recovery", "finish"]);
  const [warn] = watched.all("warn");
  assertEquals([warn!.reason, warn!.signal], ["timeout", "SIGTERM"]);
  const { reason, evidence } = watched.supervisor.status.lastRecovery!;
  assertEquals(reason, "timeout");
  assertEquals([evidence.exitCode, evidence.signal], [null, "SIGTERM"]);
  assertEquals(evidence.detail, warn!.detail);
  assert(evidence.detail.includes("300 ms"), evidence.detail);
  assertGreaterOrEqual(evidence.heartbeatAge!, 300);
});

// The ends.

processTest("stop() warns and waits: the program's own status, or its signal", async (stage) => {
  const obedient = await up(stage, "obedient");
  assertEquals(await obedient.supervisor.stop(), { code: 3, signal: null, reason: "stopped" });
  await obedient.ended;
  assertEquals(typesOf(obedient.events).slice(-3), ["stopping", "exit", "finish"]);
  assertEquals(stage.lines("warned").length, 1);

  const plain = stage.supervise(forever, patient);
  await plain.event("spawn");
  const expected = { code: 143, signal: "SIGTERM", reason: "stopped" } as const;
  assertEquals(await plain.supervisor.stop(), expected);
  assertEquals(await plain.supervisor.stop(), expected);
  assertEquals(await plain.finished(), expected);
});

processTest("stop() kills after stopTimeout", async (stage) => {
  const { supervisor, ended, events } = await up(stage, "stubborn", {
    ...restart,
    stopTimeout: 300,
  });
  assertEquals(await supervisor.stop(), { code: 137, signal: "SIGKILL", reason: "stopped" });
  await ended;
  assertEquals(typesOf(events).slice(-4), ["stopping", "kill", "exit", "finish"]);
  assertEquals(stage.lines("warned").length, 1);
});

processTest("stop() a second time kills at once", async (stage) => {
  const { supervisor, ended, events } = await up(stage, "stubborn", {
    ...restart,
    stopTimeout: 600_000,
  });
  const first = supervisor.stop();
  await stage.line("warned");
  assertEquals(supervisor.status.state, "stopping");
  const expected = { code: 137, signal: "SIGKILL", reason: "stopped" } as const;
  assertEquals(await supervisor.stop(), expected);
  assertEquals(await first, expected);
  await ended;
  assertEquals(typesOf(events).slice(-4), ["stopping", "kill", "exit", "finish"]);
});

processTest("stop() with the warn signal SIGKILL is a kill", async (stage) => {
  const { supervisor, ended, events } = await up(stage, "stubborn", {
    ...restart,
    warnSignal: "SIGKILL",
  });
  assertEquals((await supervisor.stop()).signal, "SIGKILL");
  await ended;
  assertEquals(typesOf(events).slice(-4), ["stopping", "kill", "exit", "finish"]);
  assertEquals(stage.lines("warned").length, 0);
});

processTest("stop() at once, before there is a process", async (stage) => {
  const { supervisor, ended, events } = stage.supervise(forever, patient);
  assertEquals(await supervisor.stop(), { code: 0, signal: null, reason: "stopped" });
  await ended;
  assertEquals(typesOf(events), ["status", "finish"]);
});

processTest("stop() in backoff ends with code 0", async (stage) => {
  const watched = stage.supervise({ command: "false" }, patient);
  assertEquals((await watched.event("recovery")).delay, 600_000);
  assertEquals(watched.supervisor.status.state, "backoff");
  assertEquals(watched.supervisor.status.pid, null);
  assertEquals(await watched.supervisor.stop(), { code: 0, signal: null, reason: "stopped" });
});

processTest("asyncDispose stops and waits", async (stage) => {
  const { supervisor } = await up(stage, "obedient");
  await supervisor[Symbol.asyncDispose]();
  assertEquals(supervisor.status.state, "finished");
  assertEquals((await supervisor.finished).code, 3);
  await supervisor[Symbol.asyncDispose]();
});

processTest(
  "finished: an exit before start() is an exit, with the program's status",
  async (stage) => {
    const watched = stage.supervise("api/instance", restart, { args: ["early"] });
    assertEquals(await watched.finished(), { code: 6, signal: null, reason: "exit" });
    assertEquals(typesOf(watched.events), ["status", "spawn", "register", "exit", "finish"]);
  },
);

processTest(
  "restart limit: the exit code of the last instance, or 1 if that was 0",
  async (stage) => {
    const options = { recoveryPolicy: "restart", restart: { intensity: 2, maxDelay: 10 } } as const;
    const ends = [
      { script: "exit 0", code: 1, signal: null },
      { script: "exit 9", code: 9, signal: null },
      { script: "kill -KILL $$", code: 137, signal: "SIGKILL" },
    ] as const;
    for (const { script, code, signal } of ends) {
      const watched = stage.supervise({ command: "sh", args: ["-c", script] }, options);
      assertEquals(await watched.finished(), { code, signal, reason: "restart-limit" });
      assertEquals(watched.all("spawn").length, 3);
      assertEquals(watched.all("recovery").map(({ delay }) => delay === null), [
        false,
        false,
        true,
      ]);
      assertEquals(watched.supervisor.status.restarts, 2);
    }
  },
);

// restart().

processTest(
  "restart(): the instance id rises, data and warn signal stay, and it does not count as a recovery",
  async (stage) => {
    const watched = await up(stage, "keeper", { ...restart, restart: { intensity: 0 } });
    const { supervisor } = watched;
    for (const instance of [2, 3]) {
      const { pid } = supervisor.status;
      await supervisor.restart();
      assertEquals(supervisor.status.instanceId, instance);
      assert(supervisor.status.pid !== pid);
      await stage.line("started", instance);
    }
    assertEquals(stage.lines("registered").map(({ instance, data }) => [instance, data]), [
      [1, []],
      [2, [1, 2, 3]],
      [3, [1, 2, 3]],
    ]);
    assertEquals(stage.lines("warned").length, 2);
    assertEquals([supervisor.status.restarts, supervisor.status.lastRecovery], [2, null]);
    assertEquals(await supervisor.stop(), { code: 0, signal: null, reason: "stopped" });
    await watched.ended;
    const cycle = ["spawn", "register", "start", "stopping", "exit"];
    assertEquals(typesOf(watched.events), ["status", ...cycle, ...cycle, ...cycle, "finish"]);
    assertEquals(
      watched.all("stopping").map(({ signal }) => signal),
      ["SIGHUP", "SIGHUP", "SIGHUP"],
    );
  },
);

processTest(
  "restart() kills a program that does not end; two calls at once are one restart",
  async (stage) => {
    const { supervisor, events } = await up(stage, "stubborn", { ...restart, stopTimeout: 200 });
    await Promise.all([supervisor.restart(), supervisor.restart()]);
    assertEquals([supervisor.status.instanceId, supervisor.status.restarts], [2, 1]);
    await stage.line("started", 2);
    assertEquals(typesOf(events).filter((type) => type === "kill").length, 1);
  },
);

processTest("restart() starts the next instance under the policy quit, too", async (stage) => {
  const { supervisor } = await up(stage, "obedient", quit);
  await supervisor.restart();
  await stage.line("started", 2);
  assertEquals((await supervisor.stop()).reason, "stopped");
});

processTest("restart() in backoff ends the wait", async (stage) => {
  const watched = stage.supervise({ command: "false" }, patient);
  await watched.event("recovery");
  await watched.supervisor.restart();
  assertEquals(watched.supervisor.status.instanceId, 2);
  await watched.event("recovery", 2);
});

processTest(
  "restart() rejects after the end of supervision, and if supervision ends instead of the restart",
  async (stage) => {
    const watched = await up(stage, "stubborn", { ...restart, stopTimeout: 600_000 });
    const { supervisor } = watched;
    const stopped = supervisor.stop();
    const restarted = assertCode("INTERRUPT", () => supervisor.restart());
    void supervisor.stop();
    await restarted;
    assertEquals((await stopped).reason, "stopped");
    await assertCode("BAD_HANDLE", () => supervisor.restart());

    const never = stage.supervise({ command: join(stage.directory, "missing") }, patient);
    await assertCode("INTERRUPT", () => never.supervisor.restart());
    assertEquals((await never.finished()).reason, "spawn");
  },
);
