// The state machine of the active process: connecting to the server, and handing the link over. In virtual time.

import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { callable } from "../../src/core/client/machine.ts";
import { ClientBench } from "../support/core_client_bench.ts";
import { test } from "../support/harness.ts";

const register = { type: "register", pid: 7, notice: "" } as const;
const calls = Object.keys(callable) as (keyof typeof callable)[];

/** The calls that are allowed now. */
function allowed({ client }: ClientBench): string[] {
  return calls.filter((call) => client.allows(call));
}

test("core client: while register() connects, the calls before it are allowed, except a second register()", () => {
  const bench = new ClientBench();
  const early = allowed(bench);
  assertEquals(bench.feed({ type: "connect" }), []);
  assertEquals(bench.state, "connecting");
  assertEquals(allowed(bench), early.filter((call) => call !== "register"));
  const call = bench.call({ type: "store", bytes: Uint8Array.of(1) });
  assertEquals([bench.settled.get(call), bench.sent()], ["resolved", []]);
  bench.register();
  assertEquals([bench.state, bench.client.data], ["registered", Uint8Array.of(1)]);
});

test("core client: a register() that cannot connect may be repeated", () => {
  const bench = new ClientBench();
  bench.feed({ type: "connect" });
  bench.feed({ type: "registerFailed" });
  assertEquals(bench.state, "initialized");
  assertEquals(bench.register().state, "registered");
});

test("core client: finalize() while register() connects is final", () => {
  for (const connects of [true, false]) {
    const bench = new ClientBench();
    bench.feed({ type: "connect" });
    const end = bench.call({ type: "finalize" });
    assertEquals([bench.settled.get(end), bench.state], ["resolved", "finalized"]);
    if (connects) {
      const call = bench.call(register);
      assertEquals(bench.settled.get(call), "INTERRUPT");
      assertEquals([bench.count("disconnect"), bench.sent()], [1, []]);
    } else bench.feed({ type: "registerFailed" });
    assertEquals(bench.state, "finalized");
  }
});

test("core client: a process that has become the server allows no call, unless that fails", () => {
  const bench = new ClientBench();
  const early = allowed(bench);
  bench.feed({ type: "serve" });
  assertEquals([bench.state, allowed(bench)], ["serving", []]);
  for (const call of calls) {
    const { code, message } = assertThrows(() => bench.client.checkCall(call)) as Error & {
      code: string;
    };
    assertEquals(code, "BAD_HANDLE");
    assertMatch(
      message,
      new RegExp(`^${call} is not allowed in the process that became the server`),
    );
  }
  bench.feed({ type: "registerFailed" });
  assertEquals([bench.state, allowed(bench)], ["initialized", early]);
});

test("core client: a call that the server's options do not allow is INVALID_PARAM", () => {
  for (
    const [call, options, allowing] of [
      ["markFailed", { hasClusterMap: false }, { hasClusterMap: true }],
      ["setHealthCheck", { timeInterval: 0 }, { timeInterval: 1 }],
    ] as const
  ) {
    const { client } = new ClientBench().register(options);
    const error = assertThrows(() => client.checkCall(call)) as Error & { code: string };
    assertEquals(error.code, "INVALID_PARAM");
    new ClientBench().register(allowing).client.checkCall(call);
  }
});

test("core client: the process says how its stack can be captured after register() and before each start()", () => {
  for (const captureStack of [true, false]) {
    const count = captureStack ? 1 : 0;
    const bench = new ClientBench().register({ captureStack });
    assertEquals(bench.count("sendStackAccess"), count);
    bench.call({ type: "start" });
    const [first] = bench.last;
    assertEquals(first?.type, captureStack ? "sendStackAccess" : "send");
  }
});

test("core client: a preload that hands its link over leaves it open, and ends", () => {
  const bench = new ClientBench().check();
  bench.call({ type: "stop" });
  const waiting = [...bench.calls].filter((id) => !bench.settled.has(id));
  assertEquals(waiting.length, 1);
  bench.feed({ type: "handOver" });
  assertEquals([bench.settled.get(waiting[0]!), bench.state], ["BAD_HANDLE", "finalized"]);
  assertEquals([bench.sent(), bench.client.deadline, bench.client.waiting], [[], undefined, false]);
  const program = new ClientBench();
  program.feed({ type: "connect" });
  program.call({ ...register, lastId: bench.client.lastId });
  assertEquals(program.ofType("hello")[0]?.id, bench.client.lastId + 1);
});
