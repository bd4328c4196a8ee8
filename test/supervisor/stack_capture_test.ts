// The evidence about a failed instance: its stack, its last note, its output, and the log lines about them.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { assert, assertEquals, assertMatch } from "@std/assert";
import type { SuperviseOptions } from "../../mod.ts";
import { report } from "../../src/supervisor/report.ts";
import { loadRuntime } from "../../src/runtime/load.ts";
import { takeStack } from "../../src/supervisor/instance/stack_capture.ts";
import { test } from "../support/harness.ts";
import {
  eventually,
  processTest,
  type Stage,
  transports,
  type Watched,
} from "../support/processes.ts";
import {
  currentRuntime,
  fixtureFor,
  quickFixture,
  type RuntimeName,
  runtimePath,
} from "../support/runtimes.ts";

const isNode = currentRuntime.startsWith("node");
const restart = { recoveryPolicy: "restart" } as const;
const program = "supervisor/hangs";

/** Returns the evidence about the first instance, which must be the same in the event and in the status. */
async function evidenceOf(watched: Watched) {
  const { reason, evidence } = await watched.event("recovery");
  assertEquals(watched.supervisor.status.lastRecovery?.evidence, evidence);
  return { reason, ...evidence };
}

/** Returns the evidence about the first instance whose stack came in time: on a busy machine it may be late. */
async function evidenceInTime(watched: Watched) {
  for (let instance = 1;; instance++) {
    const { reason, evidence } = await watched.event("recovery", instance);
    if (instance === 4 || !evidence.noStack?.includes("(waited ")) return { reason, ...evidence };
  }
}

/** True if a stack names a line of the loop in `blockedHere`, which has two lines in compiled code. */
function isInLoop(stack: string, runtime: RuntimeName): boolean {
  const file = fixtureFor(runtime, program);
  const lines = readFileSync(file, "utf8").split("\n");
  const [from, to] = ["for (const end", "hypot"].map((part) =>
    lines.findIndex((text) => text.includes(part)) + 1
  ) as [number, number];
  return [from, to].some((line) => stack.includes(`at blockedHere (file://${file}:${line}:`));
}

/** Runs the program as this runtime starts it fastest. */
function run(stage: Stage, options: SuperviseOptions, args: readonly string[]): Watched {
  return stage.supervise(
    { ...stage.program(program, { args }), module: quickFixture(program) },
    options,
  );
}

function blocked(stage: Stage, runtime: RuntimeName): Watched {
  const flags = runtime === "deno" ? ["-A", "--no-config", "--inspect=127.0.0.1:0"] : [];
  return stage.supervise(program, { ...restart, timeInterval: 2000 }, {
    runtime,
    flags,
    args: ["blocked"],
  });
}

processTest(
  "the stack of a blocked loop names the function and the line, on any runtime of the server",
  async (stage) => {
    const own = isNode ? currentRuntime : "node24";
    const runs = ([own, "deno", "bun"] as const).map(async (runtime) => {
      const found = await evidenceInTime(blocked(stage, runtime));
      assertEquals(found.reason, "timeout");
      assertEquals(found.processState?.state, "running");
      assert(found.processState!.memoryBytes > 1e6 && found.processState!.cpuMs > 0);
      assert(found.heartbeatAge! > 1000, String(found.heartbeatAge));
      assertEquals(found.note?.text, "before the loop");
      assert(found.note!.age > 1000, String(found.note!.age));
      if (runtime === "bun") return assertMatch(found.noStack!, /Bun/);
      assert(isInLoop(found.stack ?? "", runtime), `${runtime}: ${JSON.stringify(found)}`);
      assertEquals(found.noStack, undefined);
    });
    await Promise.all(runs);
  },
);

processTest(
  "a loop before start() has a stack, too; a command gets no noStack",
  async (stage) => {
    const options = { ...restart, timeInterval: 2000, startupTimeout: 2000 } as const;
    const flags = currentRuntime === "deno" ? ["-A", "--no-config", "--inspect=127.0.0.1:0"] : [];
    const [module, command] = await Promise.all([
      evidenceInTime(
        stage.supervise(program, options, { runtime: currentRuntime, flags, args: ["starting"] }),
      ),
      evidenceOf(
        stage.supervise({ command: "sleep", args: ["60"] }, {
          ...options,
          check: { command: "false" },
        }),
      ),
    ]);
    assertEquals([module.reason, command.reason], ["startup", "startup"]);
    if (currentRuntime === "bun") assertMatch(module.noStack!, /Bun/);
    else assert(isInLoop(module.stack ?? "", currentRuntime), JSON.stringify(module));
    assertEquals([command.stack, command.noStack], [undefined, undefined]);
  },
);

processTest(
  "an end at V8's heap limit is reported, for certain only if the server reads standard error",
  async (stage) => {
    const detailOf = async (runtime: RuntimeName, stdio: "tee" | "ignore") => {
      const limit = "--max-old-space-size=32";
      const flags = runtime === "deno" ? ["--no-config", `--v8-flags=${limit}`] : [limit];
      const heap = { ...stage.program("supervisor/heap", { runtime, flags }), stdio };
      const failed = stage.supervise(heap, {
        timeInterval: 0,
        recoveryPolicy: "quit",
        restart: { on: "failure" },
      });
      const event = await failed.event("recovery");
      assertEquals(event.reason, "signal");
      const [line] = report(event);
      assert(line!.includes(` (${event.evidence.detail}); `), line);
      return event.evidence.detail;
    };
    for (const runtime of [isNode ? currentRuntime : "node24", "deno"] as const) {
      const details = [await detailOf(runtime, "tee"), await detailOf(runtime, "ignore")];
      const certain = "JavaScript heap out of memory";
      assertEquals(details, [
        certain,
        `probably ${certain}: see the program's standard error, or set stdio to "tee" to have it in the report`,
      ]);
    }
  },
);

processTest(
  "another end by the same signal is not reported as one at the heap limit",
  async (stage) => {
    const [node, deno] = [isNode ? currentRuntime : "node24", "deno"] as const;
    const ends = [
      [{ command: "sh", args: ["-c", "kill -ABRT $$"] }, "SIGABRT"],
      [{ command: runtimePath(node), args: ["-e", "process.abort()"], stdio: "tee" }, "SIGABRT"],
      [{ command: runtimePath(deno), args: ["eval", "Deno.exit(133)"] }, null],
    ] as const;
    for (const [command, signal] of ends) {
      const { evidence } = await stage.supervise(command, restart).event("recovery");
      assertEquals([evidence.signal, evidence.detail], [signal, ""]);
    }
  },
);

const noStacks: readonly (readonly [how: string, options: object, why: RegExp | undefined])[] = [
  ["blocked", { captureStack: false }, undefined],
  ["failing check", {}, undefined],
  ["stopped", {}, /stopped by a signal/],
  ["idle", {}, /event loop was waiting for events/],
  ["native", {}, /did not|native code/],
  ["blocked, listening", {}, /has a SIGUSR1 handler/],
];
/** A named pipe: reading it blocks until something is written. */
async function fifoIn(stage: Stage): Promise<string> {
  const fifo = `${stage.directory}/pipe`;
  await stage.supervise({ command: "mkfifo", args: [fifo] }, { recoveryPolicy: "quit" }).finished();
  return fifo;
}

for (const [how, options, why] of noStacks) {
  const what = how + (why ? "" : Object.keys(options));
  processTest(
    `without a stack, the evidence has the reason, and the end is not delayed: ${what}`,
    async (stage) => {
      const fifo = await fifoIn(stage);
      const watched = run(stage, { ...restart, timeInterval: 300, ...options }, [how, fifo]);
      const { stack, noStack } = await evidenceOf(watched);
      assertEquals(stack, undefined);
      if (why) assertMatch(noStack!, isNode ? why : /Bun|--inspect/);
      else assertEquals(noStack, undefined);
      assertEquals(stage.lines("SIGUSR1"), []);
    },
  );
}

processTest(
  "SIGKILL without a warning waits for the stack, too, but no longer than a short time interval",
  async (stage) => {
    const options = { ...restart, warnSignal: "SIGKILL" } as const;
    const [killed, short] = await Promise.all([
      evidenceInTime(run(stage, { ...options, timeInterval: 2000 }, ["blocked"])),
      evidenceOf(run(stage, { ...options, timeInterval: 20 }, ["blocked"])),
    ]);
    assertEquals([killed.signal, short.signal], ["SIGKILL", "SIGKILL"]);
    if (isNode) assert(killed.stack?.includes("blockedHere"), JSON.stringify(killed));
    else assert(killed.noStack !== undefined);
    assert((short.stack ?? short.noStack) !== undefined);
  },
);

processTest("the evidence of a failed health check has the stack of its error", async (stage) => {
  const watched = run(stage, { ...restart, timeInterval: 1000 }, ["failing check"]);
  const { reason, detail } = await evidenceOf(watched);
  assertEquals(reason, "unhealthy");
  assertMatch(detail, /^the health check failed: Error: no disk\n.*failingCheck/s);
});

processTest("a program that is its own server has its log on standard error", async (stage) => {
  const flags = currentRuntime === "deno"
    ? ["run", "-A", "--no-config", "--inspect=127.0.0.1:0"]
    : [];
  const server = stage.run(program, { args: ["blocked"], flags, script: quickFixture(program) });
  const found = currentRuntime === "bun"
    ? /^sam: {3}no stack: Bun/m
    : /^sam: {5}at blockedHere \(|^sam: {3}no stack: .* \(waited \d+ ms\)$/m;
  await eventually("the stack", () => found.test(server.stderr()));
  server.kill("SIGTERM");
  await server.exited;
  const stderr = server.stderr();
  // The inspector that the server opens prints nothing. On Deno, the user's own inspector does.
  assertEquals(/Debugger listening/.test(stderr), currentRuntime === "deno", stderr);
  assertMatch(
    stderr,
    /^sam: instance 1 \(pid \d+\) stopped responding: no heartbeat for 1000 ms; sent SIGTERM$/m,
  );
  assertMatch(
    stderr,
    /^sam: instance 1 \(pid \d+\) ended by SIG(TERM|KILL) after it stopped responding; instance 2 starts now$/m,
  );
  assertMatch(stderr, /^sam: {3}last heartbeat \d+ ms before the failure$/m);
  assertMatch(
    stderr,
    /^sam: {3}process: running, [\d.]+ s of CPU time, [\d.]+ MiB, \d+ threads$/m,
  );
});

for (const transport of transports) {
  processTest(
    `the last note survives a crash in a loop that never yields, ${transport}`,
    async (stage) => {
      const failWith = (behavior: string) =>
        evidenceOf(run(stage, { ...restart, timeInterval: 1000, transport }, [behavior]));
      const { reason, note } = await failWith("notes");
      assertEquals([reason, note?.text], ["signal", "item 39\n→ é"]);
      const [{ codes }] = stage.lines("codes") as unknown as [{ codes: string[] }];
      assertEquals(codes, ["INVALID_PARAM", "INVALID_PARAM", "TOO_BIG", "TOO_BIG", "none", "none"]);
      const many = await failWith("many notes");
      if (transport === "shm") assertEquals(many.note?.text, "item 9999");
      else assertMatch(many.note!.text, /^item \d+$/);
    },
  );
}

processTest(
  "observe: a hang is reported, no stack is taken, and no process gets a signal",
  async (stage) => {
    const watched = run(stage, { ...restart, timeInterval: 1000, observe: true }, ["pauses"]);
    const { reason, evidence } = await watched.event("observed");
    assertEquals([reason, evidence.exitCode], ["timeout", null]);
    assertEquals(evidence.processState?.state, "running");
    assertEquals(evidence.note?.text, "before the pauses");
    assertEquals((await watched.finished()).reason, "exit");
    assertEquals(stage.lines("goes on").map(({ url }) => url), [null, null]);
    const observed = watched.all("observed");
    assertEquals(observed.length, 2);
    for (const { evidence } of observed) {
      assertEquals([evidence.stack, evidence.noStack], [undefined, undefined]);
    }
    for (const type of ["warn", "kill", "recovery"] as const) assertEquals(watched.all(type), []);
    const { slack } = watched.supervisor.status;
    assert(
      slack.count > 0 && slack.min! < 0 && slack.buckets.at(-1)!.count >= 1,
      JSON.stringify(slack),
    );
  },
);

processTest(
  "an inspector that was opened for a stack is closed when the event loop turns again",
  async (stage) => {
    const watched = run(stage, { ...restart, timeInterval: 2500 }, ["turns again"]);
    const { reason, evidence } = await watched.event("recovery");
    assertEquals(reason, "timeout");
    if (evidence.stack) assertMatch(evidence.stack, /at block /);
    // On a busy machine, the stack or the program may be too late.
    if (evidence.noStack?.includes("(waited ") || evidence.signal === "SIGKILL") return;
    assertEquals(stage.lines("inspector").map(({ url }) => url), [null]);
  },
);

processTest(
  "the last lines of the output are evidence, and all output is passed on",
  async (stage) => {
    const script = 'for n in $(seq 60); do echo "line $n"; done; printf "last words" >&2; exit 7';
    const server = stage.run("supervisor/tee", { args: [script] });
    assertEquals(await server.exited, { code: 7, signal: null });
    const { output } = await stage.line("recovery");
    assertEquals(output.length, 50);
    assert(output.includes("line 60") && output.includes("last words"), output.join());
    assertEquals(server.stderr(), "last words");
  },
);

processTest(
  "a reader that pauses for more than a second at the end still gets all output",
  async (stage) => {
    const [got, ended] = [`${stage.directory}/got`, `${stage.directory}/ended`];
    const program = `head -c 138000 /dev/zero; : >${ended}`;
    const server = stage.commandOf("supervisor/tee", { args: [program] });
    const late = `"$@" | { until [ -e ${ended} ]; do sleep 0.05; done; sleep 1.7; wc -c >${got}; }`;
    await stage.runCommand("sh", { args: ["-c", late, "sh", ...server] }).exited;
    assertEquals(Number(readFileSync(got, "utf8")), 138_000);
  },
);

processTest(
  "the kept output is bounded, and one stream alone can be teed",
  async (stage) => {
    const script = "head -c 3000000 /dev/zero | tr '\\0' x >&2; echo out; exit 3";
    const server = stage.run("supervisor/tee", { args: [script, "error"] });
    assertEquals((await server.exited).code, 3);
    const { output } = await stage.line("recovery");
    assert(output.length === 1 && output[0] === "x".repeat(8192), `${output[0].length}`);
    assertEquals(server.stderr().length, 3_000_000);
  },
);

test("noStack of a process that has ended names its end, and not a permission", async () => {
  const { pid } = spawnSync("true");
  const target = { pid, access: "signal 0", words: [] };
  const { found } = takeStack(await loadRuntime(), target, 10_000);
  assertEquals(await found, { noStack: `process ${pid} has ended` });
});
