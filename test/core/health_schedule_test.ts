// The state machine of the active process: the schedule of the health check and of the event-loop heartbeats.
// In virtual time.

import { assert, assertEquals } from "@std/assert";
import { answerMs } from "../../src/core/client/requests.ts";
import { ClientBench, T } from "../support/core_client_bench.ts";
import { test } from "../support/harness.ts";

const healthy = { type: "checked", healthy: true, detail: "" } as const;

/** Passes time in steps of 1 ms, and returns each effect with its time. */
function watch(bench: ClientBench, ms: number, type: "check" | "confirm"): number[] {
  const times: number[] = [];
  for (let n = 0; n < ms; n++) {
    bench.pass(1);
    for (let count = bench.count(type); count > 0; count--) times.push(bench.now);
    if (type === "check" && bench.count("check") > 0) bench.feed(healthy);
  }
  return times;
}

test("core client: the health check is first called at start(), then each time interval", () => {
  const bench = new ClientBench().check();
  const began = bench.now;
  assertEquals([bench.count("check"), bench.ofType("checkBegin").length], [1, 1]);
  bench.feed(healthy);
  assertEquals(bench.ofType("checkEnd"), [{ type: "checkEnd", healthy: true, detail: "" }]);
  assertEquals(watch(bench, 3 * T, "check"), [began + T, began + 2 * T, began + 3 * T]);
});

test("core client: a slow check is followed at once, and calls never overlap", () => {
  const bench = new ClientBench().check();
  const began = bench.now;
  bench.pass(T / 2);
  bench.feed(healthy);
  assertEquals(watch(bench, T, "check"), [began + T], "counted from the begin of the call");
  bench.pass(T / 2 - 1);
  bench.pass(1);
  assertEquals(bench.count("check"), 1);
  bench.pass(5 * T);
  assertEquals(bench.count("check"), 0, "not during a call");
  bench.feed(healthy);
  bench.pass(0);
  assertEquals(bench.count("check"), 1);
});

test("core client: event-loop heartbeats are sent every quarter of the time interval, at most every ms", () => {
  for (const [timeInterval, every] of [[100, 25], [8, 2], [4, 1], [2, 1], [1, 1]] as const) {
    const bench = new ClientBench();
    bench.register({ timeInterval }).feed({ type: "useHealthCheck", on: true });
    bench.call({ type: "start" });
    bench.answerAll();
    const times = watch(bench, 4 * every, "confirm");
    const expected = [1, 2, 3, 4].map((n) => bench.now - 4 * every + n * every);
    assertEquals(times, expected, `every ${every} ms of ${timeInterval}`);
  }
});

test("core client: event-loop heartbeats go on while a check is pending", () => {
  const bench = new ClientBench().check();
  assertEquals(watch(bench, T, "confirm").length, 4);
});

test("core client: without a health check nothing is sent by itself", () => {
  for (const off of [false, true]) {
    const bench = new ClientBench().register();
    if (off) {
      bench.feed({ type: "useHealthCheck", on: true });
      bench.feed({ type: "useHealthCheck", on: false });
    }
    bench.call({ type: "start" });
    bench.answerAll();
    assertEquals([bench.count("check"), bench.client.deadline], [0, undefined]);
    assertEquals(bench.client.hadHealthCheck, off);
  }
});

test("core client: stop() and finalize() end checks and event-loop heartbeats, and the pending answer is ignored", () => {
  for (const type of ["stop", "finalize"] as const) {
    const bench = new ClientBench().check();
    bench.call({ type });
    bench.answerAll();
    assertEquals(bench.client.deadline, undefined);
    assertEquals(bench.feed(healthy), []);
  }
});

test("core client: a check that outlives stop() counts for the next start(), without a second call", () => {
  const bench = new ClientBench().check();
  bench.call({ type: "stop" });
  bench.answerAll();
  bench.pass(10);
  bench.call({ type: "start" });
  bench.answerAll();
  assertEquals([bench.count("check"), bench.ofType("checkBegin").length], [0, 1]);
  bench.feed({ type: "checked", healthy: false, detail: "full" });
  assertEquals(bench.ofType("checkEnd"), [{ type: "checkEnd", healthy: false, detail: "full" }]);
});

test("core client: a stop() that failed leaves the schedule unchanged", () => {
  const bench = new ClientBench().check();
  bench.feed(healthy);
  const call = bench.call({ type: "stop" });
  bench.pass(answerMs);
  assertEquals([bench.settled.get(call), bench.state], ["TIMEOUT", "started"]);
  assertEquals(watch(bench, T, "confirm").length, 4);
  bench.pass(T);
  assert(bench.client.deadline !== undefined);
});

test("core client: the schedule ends with the link", () => {
  const bench = new ClientBench().check();
  bench.feed({ type: "linkEnd", detail: "" });
  assertEquals(bench.client.deadline, undefined);
  assertEquals(bench.feed(healthy), []);
});

test("core client: a late tick sends one event-loop heartbeat and calls the check once", () => {
  const bench = new ClientBench().check();
  bench.feed(healthy);
  bench.now += 10 * T;
  bench.feed({ type: "tick" });
  assertEquals([bench.count("confirm"), bench.count("check")], [1, 1]);
  assert(bench.client.deadline! > bench.now);
});

test("core client: no two requests have the same id, and none has 0", () => {
  const bench = new ClientBench().register();
  const ids = new Set<number>();
  for (let n = 0; n < 100; n++) {
    bench.call({ type: "setWarnSignal", signal: "SIGHUP" });
    ids.add((bench.answer() as { id: number }).id);
  }
  assertEquals([ids.size, ids.has(0)], [100, false]);
});
