// The state machine of the active process: the stored data. In virtual time.

import { assert, assertEquals } from "@std/assert";
import { chunkBytes } from "../../src/core/wire.ts";
import { ClientBench, welcome } from "../support/core_client_bench.ts";
import { test } from "../support/harness.ts";

const register = { type: "register", pid: 7, notice: "slow" } as const;
const bytes = (...values: number[]) => Uint8Array.from(values);
const store = (...values: number[]) => ({ type: "store", bytes: bytes(...values) }) as const;
const linkEnd = { type: "linkEnd", detail: "gone" } as const;

test("core client: a later instance gets the data of its predecessor, not its own", () => {
  for (const size of [0, 1, chunkBytes, 3 * chunkBytes + 5]) {
    const data = Uint8Array.from({ length: size }, (_, at) => at * 7);
    const bench = new ClientBench();
    bench.call(store(1, 2, 3));
    bench.call({ type: "setWarnSignal", signal: "SIGHUP" });
    const call = bench.call(register);
    bench.answerAll(data, { first: false, instanceId: 2 });
    assertEquals(bench.settled.get(call), "resolved");
    assertEquals(bench.client.data, data);
  }
});

test("core client: data is sent in parts, each after the acknowledgment of the one before", () => {
  const bench = new ClientBench().start();
  const data = Uint8Array.from({ length: 2 * chunkBytes + 1 }, (_, at) => at % 251);
  const call = bench.call({ type: "store", bytes: data });
  const got = new Uint8Array(data.length);
  for (const [n, length] of [chunkBytes, chunkBytes, 1].entries()) {
    const [part, more] = bench.ofType("store");
    assertEquals(more, undefined);
    assertEquals([part!.total, part!.offset, part!.bytes.length], [
      data.length,
      n * chunkBytes,
      length,
    ]);
    got.set(part!.bytes, part!.offset);
    assertEquals(bench.settled.has(call), false);
    assertEquals(bench.client.data.length, 0, "unchanged before the acknowledgment");
    bench.answer();
  }
  assertEquals([got, bench.client.data], [data, data]);
  assertEquals(bench.settled.get(call), "resolved");
});

test("core client: stores run in the order of their calls, also after a failed one", () => {
  const bench = new ClientBench().start();
  const calls = [bench.call(store(1)), bench.call(store(2)), bench.call(store())];
  assertEquals(bench.unanswered.length, 1);
  bench.answer();
  assertEquals([bench.client.data, bench.unanswered.length], [bytes(1), 1]);
  bench.refuse("NO_MEMORY");
  assertEquals([bench.client.data, bench.unanswered.length], [bytes(1), 1]);
  bench.answer();
  assertEquals(bench.client.data, bytes());
  assertEquals(calls.map((id) => bench.settled.get(id)), ["resolved", "NO_MEMORY", "resolved"]);
});

test("core client: if the link can store data, a store sends no message", () => {
  const bench = new ClientBench().register({}, true);
  for (const stored of [bytes(1), bytes(4, 2), bytes(2, 4), bytes()]) {
    const call = bench.call({ type: "store", bytes: stored });
    assertEquals(bench.last, [{ type: "storeInLink", id: call, bytes: stored }]);
    bench.feed({ type: "storedInLink", id: call });
    assertEquals([bench.settled.get(call), bench.client.data], ["resolved", stored]);
  }
  const sent = bench.unanswered.length;
  bench.call(store(1, 2));
  assertEquals(bench.last.map(({ type }) => type), ["storeInLink"]);
  assertEquals([bench.unanswered.length, bench.client.waiting], [sent, false]);
  bench.feed(linkEnd);
  const late = bench.call(store(3));
  assertEquals(bench.settled.get(late), "LIBRARY");
});

test("core client: stores that waited for register() reach the link one after the other", () => {
  const bench = new ClientBench();
  bench.call({ ...register, linkStoresData: true });
  const calls = [bench.call(store(1)), bench.call(store(2)), bench.call(store(3))];
  bench.answer(welcome);
  const inLink = () =>
    bench.last.flatMap((effect) => effect.type === "storeInLink" ? [effect.id] : []);
  assertEquals(inLink(), [calls[0]]);
  bench.feed({ type: "storedInLink", id: calls[0]! });
  assertEquals(inLink(), [calls[1]]);
  bench.feed({ type: "notStoredInLink", id: calls[1]! });
  assertEquals([inLink(), bench.ofType("store").length], [[], 1]);
  bench.answerAll();
  assertEquals(calls.map((id) => bench.settled.get(id)), ["resolved", "resolved", "resolved"]);
  assertEquals(bench.client.data, bytes(3));
});

test("core client: a link that ends before it has stored the data rejects the store", () => {
  const bench = new ClientBench().register({ exitWhenLost: false }, true);
  const call = bench.call(store(1));
  bench.feed(linkEnd);
  assertEquals([bench.settled.get(call), bench.client.data], ["LIBRARY", bytes()]);
  assertEquals(bench.feed({ type: "notStoredInLink", id: call }), []);
});

test("core client: a store copies the bytes, and is rejected above the server's maxDataSize", () => {
  for (const linkStoresData of [true, false]) {
    const bench = new ClientBench().register({ maxDataSize: 2 }, linkStoresData);
    const finish = (id: number) =>
      linkStoresData ? void bench.feed({ type: "storedInLink", id }) : bench.answerAll();
    for (const start of [1, 5]) {
      const given = bytes(start, 2);
      finish(bench.call({ type: "store", bytes: given }));
      given[0] = 9;
      assertEquals(bench.client.data, bytes(start, 2));
    }
    const tooBig = bench.call(store(1, 2, 3));
    assertEquals([bench.settled.get(tooBig), bench.client.data], ["TOO_BIG", bytes(5, 2)]);
  }
});

test("core client: data for which the link has no room is sent by messages, and so is all later data", () => {
  const bench = new ClientBench().register({}, true);
  const first = bench.call(store(1, 2));
  bench.feed({ type: "notStoredInLink", id: first });
  assertEquals(bench.settled.get(first), undefined);
  const second = bench.call(store(3));
  for (const [call, stored] of [[first, bytes(1, 2)], [second, bytes(3)]] as const) {
    const [request] = bench.unanswered;
    assert(request?.type === "store");
    assertEquals(request.bytes, stored);
    bench.answer();
    assertEquals([bench.settled.get(call), bench.client.data], ["resolved", stored]);
  }
});
