// Every state of the active process × every call × every input: nothing throws, and every call is settled.

import { assert, assertEquals } from "@std/assert";
import { callable } from "../../src/core/client/machine.ts";
import { answerMs } from "../../src/core/client/requests.ts";
import type { ClientInput, ClientState } from "../../src/core/client/types.ts";
import { type Asked, ClientBench, T, welcome } from "../support/core_client_bench.ts";
import { test } from "../support/harness.ts";

const register = { type: "register", pid: 7, notice: "" } as const;
const linkEnd = { type: "linkEnd", detail: "gone" } as const;

test("core client: no input throws in any state, and every call is settled in the end", () => {
  const reaches: Readonly<Record<ClientState, (bench: ClientBench) => unknown>> = {
    initialized: () => {},
    serving: (b) => b.feed({ type: "serve" }),
    connecting: (b) => b.feed({ type: "connect" }),
    registering: (b) => b.call(register),
    registered: (b) => b.register(),
    starting: (b) => b.register().call({ type: "start" }),
    started: (b) => b.check(),
    stopping: (b) => b.check().call({ type: "stop" }),
    finalizing: (b) => b.check().call({ type: "finalize" }),
    finalized: (b) => (b.call({ type: "finalize" }), b.answerAll()),
  };
  const asks: readonly [keyof typeof callable, Asked][] = [
    ["register", register],
    ["start", { type: "start" }],
    ["stop", { type: "stop" }],
    ["setWarnSignal", { type: "setWarnSignal", signal: "SIGHUP" }],
    ["data.store", { type: "store", bytes: Uint8Array.of(1, 2) }],
    ["markFailed", { type: "markFailed" }],
    ["finalize", { type: "finalize" }],
  ];
  const inputs: readonly ClientInput[] = [
    { type: "tick" },
    linkEnd,
    { type: "registerFailed" },
    { type: "handOver" },
    { type: "note", text: "here" },
    { type: "storedInLink", id: 0 },
    { type: "notStoredInLink", id: 0 },
    { type: "checked", healthy: true, detail: "" },
    { type: "checked", healthy: false, detail: "bad" },
    ...[0, 1, 2, 3, 4, 2 ** 32 - 1].flatMap((id): ClientInput[] => [
      { type: "message", message: { type: "done", id } },
      { type: "message", message: { ...welcome, id } },
      { type: "message", message: { type: "chunk", id, bytes: Uint8Array.of(1) } },
      { type: "message", message: { type: "refused", id, code: "NOPE", message: "" } },
    ]),
    { type: "message", message: { type: "warn", reason: "stop", detail: "", drain: "" } },
  ];
  for (const [state, reach] of Object.entries(reaches)) {
    const fresh = () => {
      const bench = new ClientBench();
      reach(bench);
      assertEquals(bench.state, state);
      return bench;
    };
    const spurious = fresh();
    const { deadline } = spurious.client;
    assertEquals(spurious.feed({ type: "tick" }), []);
    assertEquals([spurious.state, spurious.client.deadline], [state, deadline]);
    for (const [call, asked] of asks) {
      if (!callable[call].includes(state as ClientState)) continue;
      for (const input of inputs) {
        for (const early of [true, false]) {
          const bench = fresh();
          if (early) bench.feed(input);
          if (callable[call].includes(bench.client.state)) bench.call(asked);
          if (!early) bench.feed(input);
          assert(bench.state in reaches);
          bench.now += T;
          bench.pass(2 * answerMs);
          for (const id of bench.calls) assert(bench.settled.has(id), `${state} ${call} ${id}`);
          bench.feed(linkEnd);
          bench.feed({ type: "registerFailed" });
          assert(!bench.state.endsWith("ing"), `${state} ${call} ${input.type}`);
          assertEquals(bench.client.deadline, undefined);
        }
      }
    }
  }
});
