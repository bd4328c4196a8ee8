// The state machine of the active process: notes as messages, and their rate limit. In virtual time.

import { assert, assertEquals } from "@std/assert";
import { ClientBench } from "../support/core_client_bench.ts";
import { test } from "../support/harness.ts";

/** Calls note() with each text, and returns the texts that are sent at once. */
function note(bench: ClientBench, ...texts: string[]): string[] {
  return texts.flatMap((text) => {
    bench.feed({ type: "note", text });
    return bench.ofType("note").map((message) => message.text);
  });
}

const texts = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, n) => `${from + n}`);

test("core client: fifty notes are sent at once, and the last of all further ones 50 ms later", () => {
  const bench = new ClientBench().register();
  assertEquals(note(bench, ...texts(0, 60)), texts(0, 50));
  bench.pass(49);
  assertEquals(bench.ofType("note"), []);
  bench.pass(1);
  assertEquals(bench.ofType("note"), [{ type: "note", text: "59" }]);
  assertEquals(bench.client.deadline, undefined);
});

test("core client: after a burst, one note per millisecond is sent", () => {
  const bench = new ClientBench().register();
  note(bench, ...texts(0, 51));
  bench.pass(1);
  assertEquals(note(bench, "a", "b"), ["a"]);
  bench.pass(60);
  assertEquals(bench.ofType("note"), [{ type: "note", text: "b" }]);
  bench.pass(10_000);
  assertEquals(note(bench, ...texts(0, 60)).length, 50, "a long pause is one burst");
});

test("core client: a note that is sent replaces the one that was held back", () => {
  const bench = new ClientBench().register();
  note(bench, ...texts(0, 51));
  bench.pass(2);
  assertEquals(note(bench, "later"), ["later"]);
  assertEquals(bench.client.deadline, undefined);
});

test("core client: without a server a note does nothing, and the end of the link discards the one that was held back", () => {
  const bench = new ClientBench();
  assertEquals(note(bench, "early"), []);
  bench.register({ exitWhenLost: false });
  note(bench, ...texts(0, 60));
  assert(bench.client.deadline !== undefined);
  bench.feed({ type: "linkEnd", detail: "gone" });
  assertEquals([bench.client.deadline, note(bench, "late")], [undefined, []]);
});
