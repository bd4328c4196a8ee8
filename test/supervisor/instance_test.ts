// One instance on a runtime in memory: the time at which its end is reported, and the evidence.
import { assertEquals } from "@std/assert";
import type { ServerInput } from "../../src/core/server/types.ts";
import { encodeClient } from "../../src/core/wire.ts";
import type { Child, Exit } from "../../src/runtime/runtime.ts";
import { Instance, type InstanceRuntime } from "../../src/supervisor/instance/instance.ts";
import type { Link, ServerTransport } from "../../transports/transport.ts";
import { emptyRuntime } from "../support/empty_runtime.ts";
import { test } from "../support/harness.ts";
import { Clock } from "../support/timers.ts";

/** Waits until all promises have resolved that need no timer. */
async function settled(): Promise<void> {
  for (let n = 0; n < 50; n++) await null;
}

/** A process whose link and output the test ends. */
async function start() {
  const clock = new Clock();
  const inputs: ServerInput[] = [];
  let exit!: (how: Exit) => void;
  let endOutput!: () => void;
  let link!: Parameters<Link["receive"]>[0] & object;
  const chunks = [new TextEncoder().encode("last words\n")];
  const outputEnd = new Promise<null>((resolve) => endOutput = () => resolve(null));
  const exited = new Promise<Exit>((resolve) => exit = resolve);
  const child: Child = {
    pid: 10,
    stream: null,
    exited,
    outputs: [{
      descriptor: 1,
      read: () => Promise.resolve(chunks.shift() ?? outputEnd),
      close() {},
    }],
    kill() {},
    release() {},
  };
  const runtime: InstanceRuntime = {
    ...emptyRuntime,
    ...clock.runtime,
    spawn: () => Promise.resolve(child),
  };
  const transport: ServerTransport = {
    name: "memory",
    open: () =>
      Promise.resolve({
        address: "here",
        accept: (_child, onLink) =>
          onLink({
            heartbeat() {},
            send() {},
            receive: (sink) => link = sink!,
            hold() {},
            close() {},
          }),
        close() {},
      }),
  };
  const command = { file: "program", flags: [], args: [], env: {} };
  new Instance({
    runtime,
    transport,
    command: () => Promise.resolve({ ...command, stdio: ["ignore", "tee", "ignore"] }),
    settings: { maxDataSize: 100, serverLost: "exit" },
  }, { input: (input) => inputs.push(input), fallback() {}, problem() {} });
  await settled();
  const types = async () => {
    await settled();
    return inputs.map(({ type }) => type);
  };
  return { clock, exit, endOutput, link, inputs, types };
}

test("instance: an exit is reported at once, and concluded when the link and the output have ended", async () => {
  const { clock, exit, endOutput, link, inputs, types } = await start();
  link.frame(encodeClient({ type: "note", text: "item 7" }));
  exit({ code: 3, signal: null });
  assertEquals(await types(), ["spawned", "exit"]);
  link.end("closed");
  assertEquals(await types(), ["spawned", "exit", "linkEnd"]);
  endOutput();
  assertEquals(await types(), ["spawned", "exit", "linkEnd", "concluded"]);
  const concluded = inputs.at(-1) as ServerInput & { type: "concluded" };
  assertEquals(concluded.evidence.note?.text, "item 7");
  assertEquals(concluded.evidence.output, ["last words"]);
  assertEquals(clock.timers, []);
});

test("instance: a child process that holds the link and the output open delays the conclusion once", async () => {
  const { clock, exit, link, types } = await start();
  const began = clock.time;
  exit({ code: null, signal: "SIGKILL" });
  assertEquals(await types(), ["spawned", "exit"]);
  clock.pass(began + 49);
  link.frame(encodeClient({ type: "stop", id: 1 }));
  assertEquals(await types(), ["spawned", "exit", "message"], "what it said before still counts");
  clock.pass(began + 50);
  assertEquals(await types(), ["spawned", "exit", "message", "concluded"]);
  assertEquals(clock.timers, []);
});
