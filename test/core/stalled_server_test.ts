// A server that is stopped for longer than a call waits, and then reads the call. Both state machines, in virtual time.
import { assertEquals } from "@std/assert";
import { answerMs } from "../../src/core/client/requests.ts";
import { Bench } from "../support/core_bench.ts";
import { ClientBench } from "../support/core_client_bench.ts";
import { test } from "../support/harness.ts";

for (
  const [call, reach, before] of [["start", "register", false], ["stop", "start", true]] as const
) {
  test(`core: a ${call}() that was rejected with TIMEOUT has no effect when the server continues`, () => {
    const [client, server] = [new ClientBench()[reach](), new Bench()[reach]()];
    const areStarted = () => [client, server].map(({ state }) => state === "started");
    const timedOut = client.call({ type: call });
    client.pass(answerMs);
    assertEquals([client.settled.get(timedOut), client.client.waiting], ["TIMEOUT", false]);
    for (const message of client.unanswered.splice(0)) server.say(message);
    assertEquals(areStarted(), [before, before]);
    client.call({ type: call });
    server.say(client.unanswered[0]!);
    client.answer();
    assertEquals(areStarted(), [!before, !before]);
  });
}
