// The state machine of the server: the workers of node:cluster, each with a deadline of its own. In virtual time.

import { assert, assertEquals } from "@std/assert";
import { maxMembers } from "../../src/core/server/members.ts";
import type {
  MemberEffect,
  MemberInput,
  ProcessEvidence,
  ServerEffect,
  ServerSettings,
} from "../../src/core/server/types.ts";
import { type ClientMessage, protocolVersion } from "../../src/core/wire.ts";
import { Bench, T } from "../support/core_bench.ts";
import { test } from "../support/harness.ts";

/** The key of a worker. */
const keyOf = (number: number) => number.toString(16).padStart(48, "0");
const first = keyOf(1);

/** A server with workers. Its instance sends a heartbeat whenever a worker does. */
class Cluster extends Bench {
  constructor(settings: Partial<ServerSettings> = {}) {
    super(settings);
    this.start();
  }

  announce(key: string, hasEnded = false): readonly ServerEffect[] {
    this.say({ type: "member", key, hasEnded });
    return this.last;
  }

  member(input: MemberInput, key: string = first): this {
    this.feed({ type: "member", key, input });
    return this;
  }

  tell(message: Exclude<ClientMessage, { type: "note" }>, key: string = first): this {
    return this.member({ type: "message", message }, key);
  }

  /** Registers a worker, without a start. */
  admit(key: string = first, pid = 70): this {
    this.announce(key);
    return this.tell({ type: "hello", version: protocolVersion, id: 1, pid, notice: "" }, key);
  }

  begin(key: string = first, pid = 70): this {
    this.admit(key, pid).tell({ type: "stackAccess", how: "signal 0" }, key);
    return this.tell({ type: "start", id: 2 }, key);
  }

  beat(key: string = first): this {
    this.feed({ type: "heartbeat" });
    return this.member({ type: "heartbeat" }, key);
  }

  /** Lets time pass with heartbeats of the instance only, and with punctual ticks for the worker. */
  wait(ms: number, key: string = first): readonly ServerEffect[] {
    const from = this.log.length;
    const end = this.now + ms;
    for (;;) {
      const due = this.server.members.get(key)?.deadline ?? Infinity;
      const next = Math.min(due, this.now + T / 4, end);
      this.now = Math.max(this.now, next);
      this.feed({ type: "heartbeat" });
      if (due <= this.now) this.member({ type: "tick" }, key);
      if (this.now >= end) return this.last = this.log.slice(from);
    }
  }

  /** The effects on workers in the last call, without their messages. */
  acts(key: string = first): MemberEffect[] {
    return this.of("member").filter((effect) => effect.key === key).map(({ effect }) => effect)
      .filter(({ type }) => type !== "send");
  }

  examined(evidence: ProcessEvidence = {}, key: string = first): this {
    return this.member({ type: "examined", evidence, isBlocked: true }, key);
  }

  get pids(): (number | null)[] {
    return this.server.members.registered.map(({ pid }) => pid);
  }
}

test("core members: a worker is announced, connects, registers and is watched from its start()", () => {
  const bench = new Cluster();
  bench.announce(first);
  assertEquals(bench.acts(), [{ type: "admit" }]);
  assertEquals(bench.pids, []);
  bench.tell({ type: "hello", version: protocolVersion, id: 5, pid: 70, notice: "" });
  const [welcome] = bench.of("member").map(({ effect }) => effect);
  assert(welcome?.type === "send" && welcome.message.type === "welcome");
  const { id, timeInterval, exitWhenLost, captureStack } = welcome.message;
  assertEquals([id, timeInterval, exitWhenLost, captureStack], [5, T, false, true]);
  assertEquals(bench.pids, [70]);
  assertEquals(bench.server.members.get(first)?.lastHeartbeat, null);
  assertEquals(bench.wait(10 * T).filter(({ type }) => type === "member"), []);
  bench.tell({ type: "start", id: 6 });
  assertEquals(bench.of("member").map(({ effect }) => effect), [
    { type: "send", message: { type: "done", id: 6 } },
  ]);
  assertEquals(bench.server.members.get(first)?.deadline, bench.now + T);
});

test("core members: a hung worker is examined and killed, and nothing else is", () => {
  const bench = new Cluster().begin().begin(keyOf(2), 71);
  bench.wait(T / 2);
  bench.member({ type: "heartbeat" }, keyOf(2));
  bench.wait(T / 2);
  assertEquals(bench.acts(), [{ type: "examine", stackMs: T, stackAccess: "signal 0" }]);
  assertEquals(bench.acts(keyOf(2)), []);
  bench.now += 10;
  bench.examined({ stack: "at hang" });
  assertEquals(bench.acts(), [{ type: "signal", signal: "SIGKILL" }]);
  const evidence = {
    detail: `no heartbeat for ${T} ms`,
    exitCode: null,
    signal: "SIGKILL" as const,
    heartbeatAge: T,
    stack: "at hang",
  };
  assertEquals(bench.events("member"), [{ type: "member", pid: 70, reason: "timeout", evidence }]);
  assertEquals([bench.state, bench.signals()], ["started", []]);
  // A heartbeat after the failure does not call the kill off, and there is no second one.
  bench.member({ type: "heartbeat" });
  assertEquals(bench.wait(5 * T).filter(({ type }) => type === "member"), []);
  bench.member({ type: "linkEnd" });
  assertEquals(bench.acts(), [{ type: "cleanUp" }]);
  assertEquals(bench.pids, [71]);
});

test("core members: heartbeats and healthy answers of a worker move its deadline, and not that of the instance", () => {
  const bench = new Cluster().begin();
  const { deadline } = bench.server;
  for (let round = 0; round < 20; round++) {
    bench.now += T / 4;
    if (bench.now < deadline!) bench.member({ type: "heartbeat" });
    assertEquals(bench.server.deadline, deadline);
  }
  const other = new Cluster().begin();
  for (let round = 0; round < 20; round++) {
    other.wait(T * 0.9);
    other.tell({ type: "checkBegin" });
    other.tell({ type: "checkEnd", healthy: true, detail: "" });
  }
  assertEquals(other.events("member"), []);
  assertEquals(other.pids, [70]);
  other.tell({ type: "checkBegin" });
  other.wait(T / 2);
  other.member({ type: "heartbeat" });
  other.wait(T / 2);
  assertEquals(other.acts().map(({ type }) => type), ["examine"]);
});

test("core members: with observe, the failure of a worker is reported once, and nothing is killed", () => {
  const bench = new Cluster({ observe: true, captureStack: false }).begin();
  bench.wait(T);
  assertEquals(bench.acts(), [{ type: "examine", stackMs: 0, stackAccess: "signal 0" }]);
  bench.examined();
  assertEquals(bench.acts(), []);
  assertEquals(bench.events("member")[0]?.evidence.signal, null);
  assertEquals(bench.wait(5 * T).filter(({ type }) => type === "member"), []);
  bench.member({ type: "heartbeat" });
  bench.wait(T);
  assertEquals(bench.acts().map(({ type }) => type), ["examine"]);
});

test("core members: a stall of the server does not count against a worker", () => {
  const bench = new Cluster().begin();
  bench.wait(T * 0.7);
  bench.now += 20 * T; // the server is stopped
  bench.feed({ type: "heartbeat" });
  bench.member({ type: "tick" });
  assertEquals(bench.acts(), []);
  assert(bench.server.members.get(first)!.deadline! > bench.now);
  assertEquals(bench.events("stall"), []); // the instance reports it
});

test("core members: a worker without CPU time gets more time", () => {
  const bench = new Cluster().begin();
  bench.wait(T - 1);
  const { doubtAt, responseDueAt } = bench.server.members.get(first)!;
  assertEquals([doubtAt, responseDueAt], [bench.now + 1 - T / 4, bench.now + 1]);
  for (let round = 0; round < 20; round++) {
    bench.now = bench.server.members.get(first)!.responseDueAt;
    bench.member({ type: "starved", waitMs: T / 16 });
    assertEquals(bench.server.members.get(first)!.responseDueAt, bench.now + T / 16);
    bench.feed({ type: "heartbeat" });
  }
  assertEquals(bench.events("member"), []);
});

test("core members: while the instance is not watched or is being ended, no worker is killed", () => {
  const stopped = new Cluster().begin();
  stopped.ask("stop");
  stopped.wait(10 * T);
  assertEquals(stopped.acts(), []);
  stopped.ask("start");
  stopped.wait(T * 0.9);
  assertEquals(stopped.acts(), []);
  stopped.wait(T);
  assertEquals(stopped.acts().map(({ type }) => type), ["examine"]);

  // The program calls stop() while the worker is being examined.
  stopped.ask("stop");
  stopped.examined();
  assertEquals([stopped.acts(), stopped.events("member")], [[], []]);
  stopped.ask("start");
  stopped.wait(2.1 * T);
  assertEquals(stopped.acts().map(({ type }) => type), ["examine"]);

  const ending = new Cluster().begin();
  ending.feed({ type: "shutdown", signal: "SIGTERM" });
  ending.wait(5 * T);
  assertEquals(ending.acts(), []);

  const hung = new Cluster().begin();
  hung.now += T;
  hung.feed({ type: "tick" });
  assertEquals(hung.state, "warned");
  hung.member({ type: "tick" });
  assertEquals(hung.acts(), []);
});

test("core members: the next instance has none of the workers of the last one", () => {
  const bench = new Cluster().begin();
  bench.exit(1);
  assertEquals([bench.state, bench.pids], ["spawning", []]);
  bench.member({ type: "tick" });
  bench.member({ type: "heartbeat" });
  assertEquals(bench.last, []);
  // A late message of the last instance starts nothing.
  assertEquals(bench.announce(keyOf(3)), []);
  bench.start().begin();
  assertEquals(bench.pids, [70]);
});

test("core members: an announced worker that never connects, or has ended, is forgotten", () => {
  const bench = new Cluster();
  bench.announce(first);
  bench.wait(59_999);
  assertEquals(bench.acts(), []);
  bench.wait(1);
  assertEquals(bench.acts(), [{ type: "cleanUp" }]);
  bench.announce(keyOf(2));
  assertEquals(bench.announce(keyOf(2), true), [
    { type: "member", key: keyOf(2), effect: { type: "cleanUp" } },
  ]);
  assertEquals(bench.announce(keyOf(2), true), []);
  bench.begin();
  bench.announce(first, true);
  assertEquals(bench.acts(), [{ type: "cleanUp" }]);
});

test("core members: a key is valid once, and only in its exact form", () => {
  const bench = new Cluster();
  for (
    const key of ["", "ab", first.slice(1), `${first}0`, `../${first.slice(3)}`, "X".repeat(48)]
  ) {
    assertEquals(bench.announce(key), [], key);
  }
  bench.begin();
  assertEquals(bench.announce(first), []);
  assertEquals(bench.pids, [70]);
  // A second hello, and one of another version, end the connection.
  bench.tell({ type: "hello", version: protocolVersion, id: 9, pid: 99, notice: "" });
  assertEquals(bench.acts(), [{ type: "cleanUp" }]);
  bench.announce(keyOf(2));
  bench.tell({ type: "hello", version: 0, id: 9, pid: 99, notice: "" }, keyOf(2));
  assertEquals(bench.acts(keyOf(2)), [{ type: "cleanUp" }]);
  assertEquals(bench.pids, []);
});

test("core members: only so many workers are watched, and that is said once", () => {
  const bench = new Cluster();
  for (let number = 0; number < maxMembers; number++) bench.announce(keyOf(number));
  const refusal = (key: string): ServerEffect => ({
    type: "member",
    key,
    effect: { type: "refuse" },
  });
  assertEquals(bench.announce(keyOf(1000)), [refusal(keyOf(1000))]);
  assertEquals(bench.announce(keyOf(1001)), []);
  bench.announce(keyOf(7), true);
  assertEquals(bench.announce(keyOf(1002)).length, 1);
  assertEquals(bench.acts(keyOf(1002)), [{ type: "admit" }]);
});

test("core members: with time interval 0, no worker is watched", () => {
  const bench = new Cluster({ timeInterval: 0 });
  assertEquals(bench.announce(first), []);
});

test("core members: if a program below a wrapper ends, and the wrapper goes on, no worker is watched any more", () => {
  const bench = new Cluster().begin().begin(keyOf(2), 71);
  bench.say({ type: "belowWrapper" });
  bench.feed({ type: "linkEnd" });
  assertEquals(bench.state, "launched");
  for (const key of [first, keyOf(2)]) assertEquals(bench.acts(key), [{ type: "cleanUp" }]);
  assertEquals(bench.pids, []);
  assertEquals(bench.announce(keyOf(3)), []);
  bench.member({ type: "tick" });
  assertEquals(bench.last, []);
});
