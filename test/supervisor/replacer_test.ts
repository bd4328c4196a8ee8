// `--max-memory` and `--max-age`: real programs that use too much memory, or are too old, are replaced.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { writeFileSync } from "node:fs";
import { get } from "node:http";
import { join } from "node:path";
import { type Command, commandTest, page, runtimeName, samCommand } from "../support/command.ts";
import { freePorts } from "../support/ports.ts";
import { newest, quickFixture, runtimePath } from "../support/runtimes.ts";
import { eventually, type Stage } from "../support/processes.ts";

/** The variables with which a program writes its lines for the test. */
function output(stage: Stage): Record<string, string> {
  return stage.program("supervisor/leak").env as Record<string, string>;
}

/** The types of the events so far, without those of the start. */
function history(run: Command): readonly string[] {
  const shown = ["spawn", "reload", "reloaded", "reloadFailed", "stopping", "exit", "recovery"];
  return run.events().filter(({ type }) => shown.includes(type))
    .map(({ type, instanceId }) => `${type} ${instanceId}`);
}

/** Makes a request on a new connection every 10 ms, until `end()`. */
class Clients {
  readonly answers: Promise<string>[] = [];
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(port: number) {
    this.#timer = setInterval(() => this.answers.push(request(port)), 10);
  }

  /** Resolves to the failures and to the different answers. */
  async end() {
    clearInterval(this.#timer);
    const answers = await Promise.all(this.answers);
    const failures = answers.filter((answer) => !/^\d+$/.test(answer));
    return { failures, pids: new Set(answers.filter((answer) => /^\d+$/.test(answer))) };
  }
}

/** Resolves to the body of the answer, or to the error. */
function request(port: number): Promise<string> {
  return new Promise((resolve) => {
    const fail = (error: Error) => resolve(`failed: ${error.message}`);
    get({ port, host: "127.0.0.1", agent: false }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text) => body += text).on("end", () => resolve(body))
        .on("error", fail);
    }).on("error", fail);
  });
}

/** Stops `sam` with all processes. */
async function stop(run: Command): Promise<void> {
  run.kill("SIGTERM");
  await run.exited;
}

commandTest(
  "a program that leaks behind held sockets is replaced, and no request fails",
  async (sam, stage) => {
    const [port] = await freePorts(1) as [number];
    const leak = [quickFixture("supervisor/leak"), String(port), "20", "600"];
    const flags = ["--listen", String(port), "--max-memory", "250MiB"];
    const run = sam(["run", "--json", "--runtime", runtimeName, ...flags, ...leak], output(stage));
    const first = await stage.line("listening");
    const clients = new Clients(port);
    const reload = await run.event("reload");
    assertEquals(reload.reason, "memory");
    assertMatch(reload.detail, /^uses \d+ MiB, more than 250 MiB$/);
    const { replaced } = await run.event("reloaded");
    await run.event("exit");
    const second = await stage.line("listening", 2);
    await eventually(
      "an answer of the new instance",
      async () => await request(port) === String(second.pid),
    );
    const { failures, pids } = await clients.end();
    assertEquals([replaced, history(run)], [
      1,
      ["spawn 1", "reload 1", "reloaded 2", "stopping 1", "exit 1"],
    ]);
    // A listening socket of Bun is closed with its process, and the connections that wait in it are lost.
    if (runtimeName !== "bun") assertEquals(failures, []);
    assertEquals(pids, new Set([String(first.pid), String(second.pid)]));
    await stop(run);
  },
  { leg: newest },
);

for (const watched of [true, false]) {
  commandTest(
    `a program that listens by itself is replaced ${watched ? "by a spare" : "by a restart"}`,
    async (sam, stage) => {
      const [port, metrics] = await freePorts(2) as [number, number];
      const leak = [quickFixture("supervisor/leak"), String(port), "0", "0"];
      const flags = [
        ...["--check-tcp", `127.0.0.1:${port}`, "--metrics", String(metrics)],
        ...["--min-ready", "100", "--max-memory", "10MiB"],
      ];
      const program = watched
        ? ["--runtime", runtimeName, ...leak]
        : ["--no-preload", "--", ...stage.commandOf("supervisor/leak", { args: leak.slice(1) })];
      const run = sam(["run", "--json", ...flags, ...program], output(stage));
      const { detail } = await run.event("reload");
      assertMatch(detail, /^uses \d+ MiB, more than 10 MiB$/);
      await run.event("reloaded");
      await stage.line("listening", 2);
      const promoted = run.events().filter((event) =>
        event.type === "spare" && event.state === "promoted"
      );
      assertEquals([promoted.length, history(run)], [watched ? 1 : 0, [
        "spawn 1",
        "reload 1",
        "stopping 1",
        "exit 1",
        ...(watched ? [] : ["spawn 2"]),
        "reloaded 2",
      ]]);
      const text = await page(metrics, "/metrics");
      assertStringIncludes(text!, `reason="memory"} 1\n`);
      assert(!text!.includes('reason="requested"'), text);
      await stop(run);
    },
    { leg: newest },
  );
}

commandTest("an instance is replaced at its age, and the commands show it", async (sam) => {
  const [metrics] = await freePorts(1) as [number];
  const flags = ["--name", "job", "--max-age", "1s", "--min-ready", "0"];
  const run = sam(["run", ...flags, "--metrics", String(metrics), "sleep", "600"]);
  await run.text(
    /^sam: job \(pid \d+\) has run for \d+ s \(limit 1 s ± 10 %\); replacing it$/m,
    "stderr",
  );
  await run.text(
    /^sam: job was reloaded: the new process \(pid \d+\) has replaced instance 1$/m,
    "stderr",
  );
  const status = sam(["status"]);
  assertEquals(await status.exited, 0);
  assertMatch(status.stdout, /\njob +ready .* 1 .* age, \d+ s ago\n$/);
  const json = sam(["status", "--json"]);
  await json.exited;
  const [{ programs: [{ lastReplacement, lastRecovery }] }] = JSON.parse(json.stdout);
  assertEquals([lastReplacement.reason, lastReplacement.instanceId, lastRecovery], [
    "age",
    1,
    null,
  ]);
  const events = sam(["events"]);
  await events.exited;
  assertMatch(events.stdout, /Z instance 1 has run for .*; replacing it\n/);
  assertStringIncludes((await page(metrics, "/metrics"))!, 'reason="age"} 1\n');
  assertStringIncludes((await page(metrics, "/"))!, "<b>1</b><span>age</span>");
  await stop(run);
}, { leg: "node26" });

commandTest(
  "a memory limit below what the program needs is given up at the restart limit",
  async (sam) => {
    const flags = ["--max-memory", "100KiB", "--restart-intensity", "1", "--min-ready", "0"];
    const run = sam(["run", "--json", ...flags, "sleep", "600"]);
    await run.event("reloaded");
    const { detail, instanceId } = await run.event("fallback");
    assertMatch(
      detail,
      /^sleep uses \d\.\d MiB, more than 0\.1 MiB; it goes on running\. .* replacing it 1 times in a row did not help\. Raise --max-memory\.$/,
    );
    assertEquals([instanceId, history(run)], [2, [
      "spawn 1",
      "reload 1",
      "reloaded 2",
      "stopping 1",
      "exit 1",
    ]]);
    await stop(run);
  },
  { leg: "node26" },
);

commandTest(
  "if the replacement is broken, the old instance stays and is not replaced again at once",
  async (sam, { directory }) => {
    const mark = join(directory, "mark");
    const line = `test -e ${mark} && exit 3; : > ${mark}; exec sleep 600`;
    const run = sam(["run", "--json", "--max-memory", "100KiB", "--name", "web", "sh", "-c", line]);
    const { kept, detail } = await run.event("reloadFailed");
    assertEquals([kept, detail], [true, "ended with exit code 3"]);
    await new Promise((resolve) => setTimeout(resolve, 5000)); // two looks
    assertEquals(history(run), ["spawn 1", "reload 1", "reloadFailed 1"]);
    await stop(run);
  },
  { leg: "node26" },
);

commandTest("the memory of the processes below the program counts, too", async (sam) => {
  const node = `${runtimePath("node24")} -e 'setInterval(() => {}, 1000)'; true`;
  const run = sam(["run", "--json", "--max-memory", "20MiB", "sh", "-c", node]);
  assertMatch((await run.event("reload")).detail, /^uses \d\d+ MiB, more than 20 MiB$/);
  await stop(run);
}, { leg: "node26" });

commandTest("sam run refuses a wrong limit, and names the flag or the key", async (sam, stage) => {
  for (
    const [flag, value, rest] of [
      ["--max-memory", "0", "it must be an integer of at least 1 (bytes)"],
      ["--max-memory", "1.5", "it must be an integer of at least 1 (bytes)"],
      ["--max-memory", "5 apples", "a number of bytes, or a number with a unit: KiB, MiB, GiB"],
      ["--max-age", "-1h", "it must be an integer of at least 1 (milliseconds)"],
    ] as const
  ) {
    const run = sam(["run", `${flag}=${value}`, "true"]);
    assertEquals(await run.exited, 64, value);
    assertStringIncludes(run.stderr, flag);
    assertStringIncludes(run.stderr, rest);
  }
  const config = join(stage.directory, "sam.config.json");
  const web = { program: "true", maxMemory: "512MiB" };
  writeFileSync(config, JSON.stringify({ programs: { web } }));
  const run = sam(["run", "--config", config]);
  assertEquals(await run.exited, 78);
  assertStringIncludes(run.stderr, 'programs.web.maxMemory is "512MiB"; it must be an integer');
}, { leg: "node26" });

commandTest(
  "a memory limit without /proc is refused at the start",
  async (_sam, stage) => {
    const [file, ...words] = samCommand();
    const some = ["read", "write", "net", "env", "run", "ffi"].map((name) => `--allow-${name}`);
    const flags = words.flatMap((word) => word === "-A" ? some : [word]);
    const run = stage.runCommand(file, {
      args: [...flags, "run", "--max-memory", "1GiB", "sleep", "60"],
      env: { XDG_RUNTIME_DIR: stage.directory },
    });
    assertEquals((await run.exited).code, 69);
    assertStringIncludes(
      run.stderr(),
      "cannot watch the memory of sleep: /proc is not readable. Run sam on Linux, on Deno with -A, or leave out maxMemory",
    );
  },
  { skip: runtimeName !== "deno" && "only Deno has permissions" },
);
