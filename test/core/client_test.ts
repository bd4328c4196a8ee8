// The state machine of the active process: calls and states, requests and their deadlines, the end of the server.
// In virtual time.

import { assert, assertEquals, assertMatch } from "@std/assert";
import { callable } from "../../src/core/client/machine.ts";
import { answerMs } from "../../src/core/client/requests.ts";
import type { ClientState } from "../../src/core/client/types.ts";
import { chunkBytes, protocolVersion } from "../../src/core/wire.ts";
import { type Asked, ClientBench, welcome } from "../support/core_client_bench.ts";
import { test } from "../support/harness.ts";

const register = { type: "register", pid: 7, notice: "slow" } as const;
const bytes = (...values: number[]) => Uint8Array.from(values);
const store = (...values: number[]) => ({ type: "store", bytes: bytes(...values) }) as const;
const linkEnd = { type: "linkEnd", detail: "gone" } as const;

test("core client: the states in which each call is allowed", () => {
  // i = initialized, r = registered, s = started; never after finalize().
  const allowed: Readonly<Record<keyof typeof callable, string>> = {
    "register": "i",
    "setHealthCheck": "r",
    "start": "r",
    "stop": "s",
    "heartbeat": "s",
    "setWarnSignal": "irs",
    "data.size": "irs",
    "data.store": "irs",
    "data.restore": "irs",
    "note": "irs",
    "markFailed": "rs",
    "finalize": "irs",
  };
  assertEquals(Object.keys(callable).sort(), Object.keys(allowed).sort());
  for (const [call, where] of Object.entries(allowed)) {
    const states: readonly ClientState[] = callable[call as keyof typeof callable];
    const settled = { i: "initialized", r: "registered", s: "started" } as const;
    for (const [letter, state] of Object.entries(settled)) {
      assertEquals(states.includes(state), where.includes(letter), `${call} while ${state}`);
    }
    assert(!states.includes("finalizing") && !states.includes("finalized"), call);
    const between = states.some((state) => state.endsWith("ing"));
    assertEquals(between, where === "irs" || call === "heartbeat", `${call} while another waits`);
  }
});

test("core client: register() sends a hello with the version, and adopts the server's options", () => {
  const bench = new ClientBench();
  const call = bench.call(register);
  assertEquals(bench.state, "registering");
  const [hello] = bench.ofType("hello");
  assertEquals([hello?.version, hello?.pid, hello?.notice], [protocolVersion, 7, "slow"]);
  bench.answer({
    ...welcome,
    instanceId: 5,
    timeInterval: 70,
    maxDataSize: 9,
    hasClusterMap: true,
  });
  const { client } = bench;
  const { timeInterval, maxDataSize, hasClusterMap } = client.options;
  assertEquals([client.state, client.instanceId, timeInterval], ["registered", 5, 70]);
  assertEquals([maxDataSize, hasClusterMap], [9, true]);
  assertEquals(bench.settled.get(call), "resolved");
  assertEquals(client.deadline, undefined);
});

test("core client: the calls change the state", () => {
  const bench = new ClientBench().register();
  const walk = [["start", "starting", "started"], ["stop", "stopping", "registered"], [
    "start",
    "starting",
    "started",
  ], ["finalize", "finalizing", "finalized"]] as const;
  for (const [type, during, after] of walk) {
    const call = bench.call({ type });
    assertEquals([bench.state, bench.settled.has(call)], [during, false]);
    bench.answerAll();
    assertEquals([bench.state, bench.settled.get(call)], [after, "resolved"]);
  }
  assertEquals(bench.count("disconnect"), 1);
  assertEquals(bench.client.waiting, false);
});

test("core client: a refused call is rejected with the server's code, and changes nothing", () => {
  for (const code of ["BAD_HANDLE", "TOO_BIG", "INVALID_PARAM", "INTERRUPT", "NO_MEMORY"]) {
    const bench = new ClientBench().register();
    const call = bench.call({ type: "start" });
    bench.refuse(code);
    assertEquals([bench.settled.get(call), bench.state], [code, "registered"]);
  }
  const unknown = new ClientBench().start();
  const call = unknown.call({ type: "stop" });
  unknown.refuse("toString");
  assertEquals([unknown.settled.get(call), unknown.state], ["LIBRARY", "started"]);
});

test("core client: a call without an answer is a TIMEOUT after 10 s", () => {
  const calls: readonly [Asked, "register" | "start", string][] = [
    [{ type: "start" }, "register", "registered"],
    [{ type: "markFailed" }, "register", "registered"],
    [{ type: "setWarnSignal", signal: "SIGHUP" }, "register", "registered"],
    [store(1), "register", "registered"],
    [{ type: "stop" }, "start", "started"],
    [{ type: "finalize" }, "start", "finalized"],
  ];
  for (const [asked, reach, after] of calls) {
    const bench = new ClientBench()[reach]();
    const call = bench.call(asked);
    bench.pass(answerMs - 1);
    assertEquals([bench.settled.has(call), bench.client.waiting], [false, true]);
    bench.pass(1);
    assertEquals([bench.settled.get(call), bench.state], ["TIMEOUT", after], asked.type);
    bench.answerAll();
    assertEquals(bench.settled.get(call), "TIMEOUT", "a late answer is ignored");
    assertEquals([bench.state, bench.client.waiting], [after, false]);
  }
});

test("core client: each request of register() has its own time limit", () => {
  const bench = new ClientBench();
  const call = bench.call(register);
  bench.pass(answerMs - 1);
  bench.answer({ ...welcome, first: false, dataSize: chunkBytes + 1 });
  bench.pass(answerMs - 1);
  bench.answer({ type: "chunk", bytes: new Uint8Array(chunkBytes) });
  bench.pass(answerMs - 1);
  bench.answer({ type: "chunk", bytes: bytes(1) });
  assertEquals(bench.settled.get(call), "resolved");
});

test("core client: a start() that is aborted revokes what the server grants meanwhile", () => {
  for (const granted of [true, false]) {
    const bench = new ClientBench().register({ hasQuorum: true });
    const call = bench.call({ type: "start" });
    bench.feed({ type: "interruptStart", id: call });
    assertEquals(bench.ofType("stop").length, 1);
    bench.feed({ type: "interruptStart", id: call });
    assertEquals(bench.sent(), [], "once");
    if (granted) bench.answer();
    else bench.refuse("INTERRUPT");
    assertEquals([bench.settled.has(call), bench.client.deadline], [false, bench.now + answerMs]);
    bench.answer();
    assertEquals([bench.settled.get(call), bench.state], ["INTERRUPT", "registered"]);
    const again = bench.call({ type: "start" });
    bench.answer();
    bench.feed({ type: "interruptStart", id: again });
    assertEquals([bench.settled.get(again), bench.state, bench.sent()], [
      "resolved",
      "started",
      [],
    ]);
  }
  const lost = new ClientBench().register({ hasQuorum: true });
  const call = lost.call({ type: "start" });
  lost.feed({ type: "interruptStart", id: call });
  lost.feed({ type: "linkEnd", detail: "gone" });
  assertEquals(lost.settled.get(call), "LIBRARY");
});

test("core client: start() has no time limit if the server has a quorum source", () => {
  const bench = new ClientBench().register({ hasQuorum: true });
  const call = bench.call({ type: "start" });
  assertEquals(bench.client.deadline, undefined);
  bench.pass(1e9);
  bench.answer();
  assertEquals([bench.settled.get(call), bench.state], ["resolved", "started"]);
});

test("core client: a register() that fails goes back to initialized, and may be repeated", () => {
  const failures: readonly [string, (bench: ClientBench) => void][] = [
    ["MESSAGE_ERROR", (b) => b.refuse("MESSAGE_ERROR")],
    ["MESSAGE_ERROR", (b) => b.answer()],
    ["MESSAGE_ERROR", (b) => b.answer({ ...welcome, version: 2 })],
    ["MESSAGE_ERROR", (b) => b.feed(linkEnd)],
    ["TIMEOUT", (b) => b.pass(answerMs)],
    ["NO_MEMORY", (b) => b.answer({ ...welcome, first: false, dataSize: 2 ** 52 })],
    ["NO_MEMORY", (b) => b.answer({ ...welcome, first: false, dataSize: NaN })],
    ["NO_MEMORY", (b) => b.answer({ ...welcome, first: false, dataSize: -1 })],
    ["MESSAGE_ERROR", (b) => {
      b.answer({ ...welcome, first: false, dataSize: 2 });
      b.answer({ type: "chunk", bytes: bytes() });
    }],
    ["MESSAGE_ERROR", (b) => {
      b.answer({ ...welcome, first: false, dataSize: 2 });
      b.answer({ type: "chunk", bytes: bytes(1, 2, 3) });
    }],
    ["TIMEOUT", (b) => {
      b.answer({ ...welcome, first: false, dataSize: 2 });
      b.pass(answerMs);
    }],
  ];
  for (const [code, fail] of failures) {
    const bench = new ClientBench();
    bench.call(store(1, 2, 3));
    const call = bench.call(register);
    fail(bench);
    assertEquals([bench.settled.get(call), bench.state], [code, "initialized"]);
    assertEquals([bench.count("disconnect"), bench.count("exit"), bench.abort()], [
      1,
      0,
      undefined,
    ]);
    assertEquals([bench.client.deadline, bench.client.data], [undefined, bytes(1, 2, 3)]);
    bench.unanswered.length = 0;
    assertEquals(bench.register().state, "registered");
  }
});

test("core client: the first instance sends the server what was set before register()", () => {
  const bench = new ClientBench();
  const early = [
    bench.call(store(1)),
    bench.call(store(4, 2)),
    bench.call({ type: "setWarnSignal", signal: "SIGHUP" }),
  ];
  assertEquals(early.map((id) => bench.settled.get(id)), ["resolved", "resolved", "resolved"]);
  const call = bench.call(register);
  bench.answer({ ...welcome });
  assertEquals(bench.ofType("setWarnSignal").map(({ signal }) => signal), ["SIGHUP"]);
  bench.answer();
  assertEquals(bench.ofType("store").map((part) => part.bytes), [bytes(4, 2)]);
  assertEquals(bench.settled.has(call), false);
  bench.answer();
  assertEquals(bench.settled.get(call), "resolved");
  assertEquals(bench.client.data, bytes(4, 2));
});

test("core client: calls that are made while register() waits run after it", () => {
  for (const first of [true, false]) {
    const bench = new ClientBench();
    if (first) bench.call(store(9, 9, 9));
    const call = bench.call(register);
    const late = [bench.call(store(1)), bench.call({ type: "setWarnSignal", signal: "SIGHUP" })];
    assertEquals(bench.sent(), []);
    bench.answerAll(bytes(5, 5), { first });
    assertEquals([call, ...late].map((id) => bench.settled.get(id)), [
      "resolved",
      "resolved",
      "resolved",
    ]);
    assertEquals(bench.client.data, bytes(1));
  }
  const failed = new ClientBench();
  failed.call(register);
  const call = failed.call(store(1));
  failed.refuse();
  assertEquals([failed.settled.get(call), failed.client.data], ["resolved", bytes(1)]);
});

test("core client: the end of the server rejects the waiting calls, aborts the signal, and ends the process unless serverLost is continue", () => {
  for (const exitWhenLost of [true, false]) {
    const bench = new ClientBench().register({ exitWhenLost });
    const calls = [
      { type: "start" } as const,
      store(1),
      store(2),
      { type: "setWarnSignal", signal: "SIGHUP" } as const,
    ].map((asked) => bench.call(asked));
    bench.feed(linkEnd);
    for (const call of calls) assertEquals(bench.settled.get(call), "LIBRARY");
    assertEquals([bench.abort()?.code, bench.count("exit")], ["LIBRARY", exitWhenLost ? 1 : 0]);
    assertMatch(bench.abort()!.message, /gone/);
    assertEquals([bench.state, bench.client.deadline], ["registered", undefined]);
    assertEquals(bench.feed(linkEnd), []);
    const late = [
      { type: "start" } as const,
      store(3),
      { type: "setWarnSignal", signal: "SIGHUP" } as const,
    ].map((asked) => bench.call(asked));
    for (const call of late) assertEquals(bench.settled.get(call), "LIBRARY");
    assertEquals([bench.state, bench.client.data], ["registered", bytes()]);
    const end = bench.call({ type: "finalize" });
    assertEquals([bench.settled.get(end), bench.state], ["resolved", "finalized"]);
  }
});

test("core client: finalize() rejects the waiting calls, and resolves", () => {
  const bench = new ClientBench().register({ hasQuorum: true });
  const calls = [bench.call({ type: "start" }), bench.call(store(1)), bench.call(store(2))];
  const end = bench.call({ type: "finalize" });
  const [, , request] = bench.unanswered;
  assertEquals(request?.type, "finalize");
  bench.unanswered.splice(0, 2);
  bench.answer();
  for (const call of calls) assertEquals(bench.settled.get(call), "BAD_HANDLE");
  assertEquals([bench.settled.get(end), bench.state], ["resolved", "finalized"]);
  const never = new ClientBench();
  assertEquals(never.settled.get(never.call({ type: "finalize" })), "resolved");
  assertEquals(never.state, "finalized");
});

test("core client: finalize() resolves if the link ends meanwhile, but no waiting store does", () => {
  const bench = new ClientBench().start();
  const calls = [bench.call(store(1)), bench.call(store(2))];
  const end = bench.call({ type: "finalize" });
  bench.feed(linkEnd);
  assertEquals(calls.map((id) => bench.settled.get(id)), ["LIBRARY", "LIBRARY"]);
  assertEquals([bench.settled.get(end), bench.state], ["resolved", "finalized"]);
  assertEquals([bench.count("exit"), bench.abort(), bench.client.data], [0, undefined, bytes()]);
});

test("core client: finalize() while register() waits is final", () => {
  for (const dataSize of [0, 3]) {
    const bench = new ClientBench();
    bench.call(store(1, 2));
    const call = bench.call(register);
    const late = bench.call(store(7));
    const end = bench.call({ type: "finalize" });
    const states = new Set<string>();
    bench.answer({ ...welcome, first: dataSize === 0, dataSize });
    states.add(bench.state);
    bench.answer();
    assertEquals([...states, bench.state], ["finalizing", "finalized"]);
    assertEquals(bench.settled.get(end), "resolved");
    assert(bench.settled.has(call) && bench.settled.has(late));
    while (bench.unanswered.length > 0) bench.refuse();
    assertEquals(bench.state, "finalized");
  }
});

test("core client: a warning aborts the signal, and every call still works", () => {
  const bench = new ClientBench().start();
  bench.feed({
    type: "message",
    message: { type: "warn", reason: "timeout", detail: "no heartbeat", drain: "" },
  });
  assertEquals(bench.abort()?.code, "INTERRUPT");
  assertMatch(bench.abort()!.message, /timeout: no heartbeat/);
  const calls = [bench.call(store(1)), bench.call({ type: "stop" })];
  bench.answerAll();
  assertEquals(calls.map((id) => bench.settled.get(id)), ["resolved", "resolved"]);
});
