// The queue of messages of a group member: order, flow control, limits and withdrawal.
import { assertEquals, assertRejects } from "@std/assert";
import { Outbox } from "../../src/corosync/group_outbox.ts";
import { SamError } from "../../src/errors.ts";
import { test } from "../support/harness.ts";

/** Makes an outbox. Attempt n takes `taken[n]` messages, and fails if that is negative; later attempts take all. */
function outboxOf(taken: number[], maxBytes = 1000) {
  const got: number[] = [];
  let pauses = 0;
  const outbox = new Outbox({
    maxBytes,
    give: (messages) => {
      const count = taken.shift() ?? messages.length;
      if (count < 0) return Promise.reject(new SamError("LIBRARY", "broken"));
      got.push(...messages.slice(0, count).map(([first]) => first!));
      return Promise.resolve(Math.min(count, messages.length));
    },
    pause: () => {
      pauses++;
      return Promise.resolve();
    },
  });
  return { outbox, got, pauses: () => pauses };
}

const send = (outbox: Outbox, number: number, signal?: AbortSignal) =>
  outbox.send(Uint8Array.of(number), signal);

test("a refused message is sent again, before later messages", async () => {
  const { outbox, got, pauses } = outboxOf([0, 2, 0, 1]);
  const sent = [1, 2, 3, 4, 5].map((number) => send(outbox, number));
  await Promise.all(sent);
  await outbox.empty;
  assertEquals(got, [1, 2, 3, 4, 5]);
  assertEquals(pauses() > 1, true);
});

test("send() rejects with TRY_AGAIN while the queue is full, and works again afterwards", async () => {
  const { outbox, got } = outboxOf([0, 0], 3 * 65);
  const sent = [1, 2, 3].map((number) => send(outbox, number));
  assertEquals((await assertRejects(() => send(outbox, 4), SamError)).code, "TRY_AGAIN");
  await Promise.all(sent);
  await send(outbox, 5);
  assertEquals(got, [1, 2, 3, 5]);
});

test("a signal withdraws its message if that was not sent yet, and no other message", async () => {
  const { outbox, got } = outboxOf([0]);
  const abort = new AbortController();
  const first = send(outbox, 1);
  const second = send(outbox, 2, abort.signal);
  abort.abort();
  assertEquals((await assertRejects(() => second, SamError)).code, "INTERRUPT");
  await send(outbox, 3, abort.signal).catch(() => {});
  await first;
  await send(outbox, 4);
  assertEquals(got, [1, 4]);
});

test("an error, and the end of the queue, reject the messages that wait", async () => {
  const { outbox } = outboxOf([-1, 0]);
  assertEquals((await assertRejects(() => send(outbox, 1), SamError)).message, "broken");
  const waiting = send(outbox, 2);
  outbox.end(new SamError("BAD_HANDLE", "left"));
  assertEquals((await assertRejects(() => waiting, SamError)).code, "BAD_HANDLE");
});
