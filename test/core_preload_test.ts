// A program that a preload has registered ahead of it, the ends that are failures, and a check from outside.
import { assertEquals } from "@std/assert";
import { restartDefaults } from "../src/core/restart.ts";
import { Bench, T } from "./support/core_bench.ts";
import { test } from "./support/harness.ts";

const on = (rule: "failure" | "always") => ({ ...restartDefaults, jitter: 0, on: rule });
const preloaded = { preloaded: true, restart: on("failure") };

test("core server: under on-failure exit code 0 is the end, started or not, and all else a recovery", () => {
  for (const reach of ["launch", "register", "start"] as const) {
    const done = new Bench(preloaded);
    done[reach]().exit(0);
    assertEquals(done.status(), { code: 0, signal: null, reason: "exit" }, reach);
    const failed = new Bench(preloaded);
    failed[reach]().exit(3);
    assertEquals([failed.state, failed.server.instanceId], ["spawning", 2], reach);
  }
});

test("core server: under always every end is a recovery, of a command too", () => {
  for (const some of [{ preloaded: true }, { startedAtSpawn: true }]) {
    const bench = new Bench({ ...some, restart: on("always") });
    bench.launch().exit(0);
    assertEquals([bench.state, bench.server.instanceId], ["spawning", 2]);
  }
  const command = new Bench({ startedAtSpawn: true, restart: on("failure") });
  command.launch().exit(0);
  assertEquals(command.status()?.reason, "exit");
});

test("core server: a program's own register() takes over from the preload's, and SAM's rules hold from there", () => {
  const bench = new Bench(preloaded);
  bench.start();
  assertEquals(bench.hello().type, "welcome");
  assertEquals([bench.state, bench.server.deadline], ["registered", undefined]);
  assertEquals(bench.hello().type, "refused");
  bench.pass(10 * T);
  assertEquals(bench.state, "registered");
  bench.ask("start");
  bench.exit(0);
  assertEquals([bench.state, bench.server.instanceId], ["spawning", 2]);
  bench.start(); // the preload's, in the second instance
  bench.hello();
  bench.exit(5);
  assertEquals(bench.events("recovery")[0]?.reason, "startup");
  const stopped = new Bench(preloaded);
  stopped.register();
  stopped.hello();
  stopped.exit(5);
  assertEquals(stopped.status(), { code: 5, signal: null, reason: "exit" });
});

test("core server: data that was set before register() is the first instance's, preload or not", () => {
  const bench = new Bench(preloaded);
  bench.register();
  const isFirst = () => (bench.hello() as { first?: boolean }).first;
  assertEquals(isFirst(), true);
  bench.ask("start");
  bench.exit(1);
  bench.register();
  assertEquals(isFirst(), false);
});

test("core server: a check from outside recovers a program that is registered or not, once, and never a finalized one", () => {
  const unhealthy = { type: "unhealthy", reason: "unhealthy", detail: "no answer" } as const;
  for (const reach of ["launch", "register", "start"] as const) {
    const bench = new Bench({ startedAtSpawn: reach === "launch" });
    bench[reach]().feed(unhealthy);
    assertEquals(bench.state, "warned", reach);
    bench.feed(unhealthy);
    assertEquals(bench.last, [], reach);
    bench.exit(0);
    assertEquals([bench.state, bench.server.instanceId], ["spawning", 2], reach);
    assertEquals(bench.events("recovery")[0]?.reason, "unhealthy");
  }
  const finalized = new Bench();
  finalized.start().ask("finalize");
  finalized.feed(unhealthy);
  assertEquals(finalized.state, "finalized");
});

test("core server: given up after a warning, exit code 0 is no success; under libsam's rule the status is the program's", () => {
  const quit = { recoveryPolicy: "quit", startedAtSpawn: true } as const;
  const failure = { restart: on("failure") };
  for (
    const [reach, some, code] of [["launch", failure, 1], ["start", failure, 0], [
      "launch",
      {},
      0,
    ]] as const
  ) {
    const bench = new Bench({ ...quit, ...some });
    bench[reach]().feed({ type: "unhealthy", reason: "unhealthy", detail: "500" });
    assertEquals(bench.exit(0).status(), { code, signal: null, reason: "quit" }, reach);
  }
  const own = new Bench({ ...quit, restart: on("failure") }).start().exit(0);
  assertEquals(own.status()?.code, 0, "nobody asked it to end");
  assertEquals(new Bench({ ...quit, restart: on("always") }).launch().exit(0).status()?.code, 1);
});
