// The option `log`: the log of a program's own server, and of supervise().
import { assert, assertEquals, assertMatch } from "@std/assert";
import { execFile, spawn } from "node:child_process";
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { supervise, type SupervisorEvent } from "../../mod.ts";
import { Lines, logger } from "../../src/supervisor/log.ts";
import { loadRuntime } from "../../src/runtime/load.ts";
import { samCommand } from "../support/command.ts";
import { test } from "../support/harness.ts";
import { taggedProcesses } from "../support/leaks.ts";
import { eventually, killQuietly, processTest, type Stage } from "../support/processes.ts";
import { currentRuntime, runtimePath } from "../support/runtimes.ts";

const line = /^instance 1 \(pid \d+\) ended with exit code 3; instance 2 starts now$/;

for (const log of ["default", "none", "json", "function", "throws", "rejects"]) {
  processTest(`log: ${log}`, async (stage) => {
    const program = stage.run("supervisor/log", { args: [log] });
    assertEquals(await program.exited, { code: 0, signal: null }, program.stderr());
    const said = program.stderr().trimEnd().split("\n");
    const logged = stage.lines("logged");
    if (log === "default") assertMatch(said[0]!.replace(/^sam: /, ""), line);
    if (log === "none") assertEquals(said, [""]);
    if (log === "json") {
      const events = said.map((text) => JSON.parse(text));
      assertMatch(events[0].program, /supervisor\/log\.[jt]s$|^the program$/); // unknown on Deno
      const types = events.map(({ type }) => type);
      assertEquals([types[0], types.includes("register"), types.at(-1)], ["spawn", true, "finish"]);
      const { reason, evidence } = events.find(({ type }) => type === "recovery");
      assertEquals([reason, evidence.exitCode], ["exit", 3]);
    }
    if (log === "function") {
      assertEquals(said, [""]);
      assertEquals([...new Set(logged.map(({ pid }) => pid))], [program.pid]);
      assertMatch(logged.find(({ type }) => type === "recovery")!["lines"][0], line);
      assertEquals([logged[0]!["type"], logged.at(-1)!["type"]], ["spawn", "finish"]);
    }
    if (log === "throws" || log === "rejects") {
      const what = `sam: the log function failed: Error: no ${log === "throws" ? "paper" : "ink"}`;
      assertEquals([...new Set(said)], [what]);
    }
  });
}

processTest("log: supervise() logs only if asked", async () => {
  const program = { command: "sh", args: ["-c", "exit 3"] };
  const logged: SupervisorEvent[] = [];
  const lines: string[] = [];
  await supervise(program, {
    recoveryPolicy: "quit",
    log(event, more) {
      logged.push(event);
      lines.push(...more);
    },
  }).finished;
  assertEquals(logged.map(({ type }) => type), ["spawn", "exit", "recovery", "finish"]);
  const line = /^sh \(pid \d+\) ended with exit code 3; it is not restarted$/;
  assertEquals([lines.length, line.test(lines[0]!)], [1, true], lines[0]);

  const written: string[] = [];
  const runtime = await loadRuntime();
  const { writeOutput } = runtime;
  runtime.writeOutput = (_descriptor, bytes) =>
    Promise.resolve(void written.push(new TextDecoder().decode(bytes)));
  try {
    await supervise(program, { recoveryPolicy: "quit", log: "text" }).finished;
    const own = written.splice(0);
    await supervise(program, { recoveryPolicy: "quit" }).finished;
    assertEquals(own.length, 1);
    assertMatch(own[0]!, /^sam: sh \(pid \d+\) ended with exit code 3; it is not restarted\n$/);
    assertEquals(written, []);
    await supervise({ command: "/no/such" }, { recoveryPolicy: "quit", log: "text" }).finished;
    assert(String(written).startsWith("sam: /no/such: cannot start"), String(written));
  } finally {
    runtime.writeOutput = writeOutput;
  }
});

processTest("a server that cannot load its logger says so, and goes on", async (stage) => {
  const extension = import.meta.url.slice(import.meta.url.lastIndexOf("."));
  for (const part of ["src", "transports", `mod${extension}`]) {
    const from = fileURLToPath(new URL(`../../${part}`, import.meta.url));
    cpSync(from, `${stage.directory}/${part}`, { recursive: true });
  }
  rmSync(`${stage.directory}/src/supervisor/log${extension}`);
  writeFileSync(`${stage.directory}/package.json`, '{ "type": "module" }');
  const program = `${stage.directory}/program${extension}`;
  const options = '{ recoveryPolicy: "quit", timeInterval: 0, log: "text" }';
  writeFileSync(
    program,
    `import { supervise } from "./mod${extension}";
    const { finished } = supervise({ command: "sh", args: ["-c", "exit 3"] }, ${options});
    console.log((await finished).code);`,
  );
  const flags = currentRuntime === "deno" ? ["run", "-A", "--no-check"] : [];
  const { stdout, stderr } = await promisify(execFile)(
    runtimePath(currentRuntime),
    [...flags, program],
  );
  assertEquals(stdout, "3\n", stderr);
  assertMatch(stderr, /^sam: cannot log the events of sh: .+$/m);
});

test("log lines name the program and the process of the instance, and say what happened", () => {
  const lines: string[] = [];
  const log = logger("text", "web", { name: "web", prefix: "web: " }, (line) => lines.push(line));
  const evidence = { detail: "", exitCode: null, signal: "SIGTERM", heartbeatAge: null };
  const linesOf = (instanceId: number, ...events: readonly object[]) => {
    for (const event of events) log({ at: 0, instanceId, ...event } as unknown as SupervisorEvent);
    return lines.splice(0);
  };
  const recovery = (reason: string, more: object = {}, rest: object = { delay: 0 }) => {
    return { type: "recovery", reason, evidence: { ...evidence, ...more }, ...rest };
  };
  const warn = { type: "warn", reason: "timeout", detail: "no heartbeat for 500 ms" };
  assertEquals(
    linesOf(
      1,
      { type: "spawn", pid: 10 },
      { type: "register", pid: 11 },
      { type: "spare", state: "parked", pid: 12 },
      { ...warn, signal: "SIGTERM" },
      { type: "kill" },
      recovery("timeout", { heartbeatAge: 501.2 }),
    ),
    [
      "sam: web (pid 11) stopped responding: no heartbeat for 500 ms; sent SIGTERM",
      "sam: web (pid 11) was sent SIGKILL",
      "sam: web (pid 11) ended by SIGTERM after it stopped responding; instance 2 starts now",
      "sam:   last heartbeat 501 ms before the failure",
    ],
  );
  assertEquals(
    linesOf(
      2,
      { type: "spare", state: "promoted", pid: 12 },
      { ...warn, reason: "unhealthy", detail: "it said no\nat check", signal: "SIGKILL" },
      recovery("unhealthy", {}, { delay: 99.6, waitsFor: ["db", "mail"] }),
    ),
    [
      "sam: web (pid 12) is unhealthy: it said no",
      "sam: web (pid 12) ended by SIGTERM after it became unhealthy; " +
      "instance 3 starts in 100 ms at the earliest, and waits for db, mail",
    ],
  );
  const noProcess = { detail: "cannot start web", signal: null };
  assertEquals(
    linesOf(
      3,
      recovery("startup", noProcess, { delay: null }),
      { type: "failed", reason: "startup", evidence: { ...evidence, ...noProcess } },
      { type: "stopped" },
      { type: "fallback", side: "server", detail: "shared memory is slow" },
    ),
    [
      "sam: web could not be started: cannot start web; it is not restarted",
      "sam: web reached its restart limit (set by --restart-intensity or restart.intensity): " +
      "its last instance, number 3, could not be started: cannot start web",
      "sam: web was stopped; sam restart web starts it again",
      "sam: web: shared memory is slow",
    ],
  );
});

test("the buffer for unread lines is bounded, and a line counts the dropped ones", async () => {
  let take = () => {};
  let text = "";
  const runtime = {
    ...await loadRuntime(),
    writeOutput: (_descriptor: 1 | 2, bytes: Uint8Array) => {
      text += new TextDecoder().decode(bytes);
      return new Promise<void>((resolve) => take = resolve);
    },
  };
  const lines = new Lines(runtime);
  const line = "x".repeat(999);
  for (let number = 0; number < 1000; number++) lines.write(line);
  lines.write("short, and after the dropped lines");
  await eventually("the buffered lines", () => {
    take();
    return text.includes("dropped here");
  });
  const kept = text.split("\n").filter((each) => each === line).length;
  assert(kept > 200 && kept < 600, `${kept}`);
  assert(
    text.endsWith(
      `sam: ${1001 - kept} lines were dropped here: standard error was not read in time\n`,
    ),
  );
  lines.write("the reader is back");
  take();
  await eventually("the next line", () => text.endsWith("\nthe reader is back\n"));
  take();
  await lines.written();
});

test("lines are written after a write that failed", async () => {
  let fails = true;
  const written: string[] = [];
  const lines = new Lines({
    ...await loadRuntime(),
    writeOutput(_descriptor, bytes) {
      if (fails) return Promise.reject(new Error("EBADF"));
      return Promise.resolve(void written.push(new TextDecoder().decode(bytes)));
    },
  });
  lines.write("one");
  await lines.written();
  fails = false;
  lines.write("two");
  await lines.written();
  assertEquals(written, ["two\n"]);
});

/** Runs a command whose standard error is full, and is not read until `read()`. */
function runUnread(stage: Stage, kind: "pipe" | "socket", words: readonly string[]) {
  const [pid, go, rest] = ["pid", "go", "rest"].map((name) => `${stage.directory}/${name}`) as [
    string,
    string,
    string,
  ];
  const full = `timeout 0.3 cat /dev/zero >&2; echo $$ >${pid}; exec "$@"`;
  const piped = `sh -c '${full}' sh "$@" 2>&1 >/dev/null | ` +
    `{ until [ -e ${go} ]; do sleep 0.05; done; tr -d "\\0" >${rest}; }`;
  const child = spawn("sh", ["-c", kind === "pipe" ? piped : full, "sh", ...words], {
    stdio: ["ignore", "ignore", "pipe"],
    env: {
      ...process.env,
      XDG_RUNTIME_DIR: stage.directory,
      SAM_TEST_OUTPUT: `${stage.directory}/lines`,
    },
  });
  const closed = new Promise((resolve) => child.on("close", resolve));
  return {
    /** Sends the command SIGTERM. */
    end: () => process.kill(Number(readFileSync(pid, "utf8")), "SIGTERM"),
    /** Reads standard error to its end. */
    async read(): Promise<string> {
      let text = "";
      writeFileSync(go, "");
      child.stderr!.setEncoding("utf8").on("data", (more: string) => text += more);
      await closed;
      if (kind === "pipe") text += readFileSync(rest, "utf8");
      return text.replaceAll("\0", "");
    },
    /** Kills the remaining processes. */
    async [Symbol.asyncDispose]() {
      for (const pid of taggedProcesses()) killQuietly(pid);
      await closed;
    },
  };
}

for (const kind of ["pipe", "socket"] as const) {
  processTest(
    `sam run goes on while its standard error, a ${kind}, is not read, and writes all lines later`,
    async (stage) => {
      const runs = `${stage.directory}/runs`;
      const program = 'trap "echo term >>$0; exit 0" TERM; echo run >>"$0"; ' +
        '[ "$(wc -l <"$0")" -gt 1 ] || exit 1; while :; do sleep 0.05; done';
      const words = [...samCommand(), "run", "--stdio", "ignore", "sh", "-c", program, runs];
      const said = () => existsSync(runs) ? readFileSync(runs, "utf8") : "";
      await using unread = runUnread(stage, kind, words);
      await eventually("the next instance", () => said().split("run").length > 2);
      unread.end();
      await eventually("the program's end", () => said().includes("term"));
      assertMatch(
        await unread.read(),
        /^sam: sh \(pid \d+\) ended with exit code 1; instance 2 starts now\n$/,
      );
    },
  );

  for (const server of ["register", "supervise"]) {
    processTest(
      `a server made by ${server}() goes on while its standard error, a ${kind}, is not read, and counts the dropped lines`,
      async (stage) => {
        await using unread = runUnread(
          stage,
          kind,
          stage.commandOf("supervisor/log_unread", { args: [server] }),
        );
        await stage.line("started", 3); // after an exit, and a hang
        unread.end();
        await stage.line("term");
        const lines = (await unread.read()).trimEnd().split("\n");
        const missing = lines.map((line) =>
          Number(/^sam: (\d+) lines were dropped here/.exec(line)?.[1] ?? 0)
        );
        const at = missing.findIndex((count) => count > 0);
        assert(at > 0, `${lines.length} lines`);
        const types = lines.slice(0, at).map((line) => JSON.parse(line).type);
        assertEquals(types.slice(0, 5), ["spawn", "register", "start", "stop", "start"]);
        // About 4,000 lines came before the first instance ended: each was written or counted.
        assert(at + missing[at]! > 4000, `${at} lines, and ${missing[at]} are missing`);
      },
    );
  }
}

test("log: after a reload, the lines about the old instance have its process id", () => {
  const lines: string[] = [];
  const write = logger("text", "web", { name: "web" }, (line) => lines.push(line));
  const events = [
    { type: "spawn", pid: 11, instanceId: 1 },
    { type: "reload", reason: "requested", detail: "", instanceId: 1 },
    { type: "reloaded", pid: 12, replaced: 1, instanceId: 2 },
    { type: "kill", instanceId: 1 },
    { type: "register", pid: 12, instanceId: 2 },
    { type: "kill", instanceId: 2 },
  ] as const;
  for (const event of events) write({ ...event, at: 0 });
  assertEquals(lines.filter((line) => line.includes("SIGKILL")), [
    "sam: web (pid 11) was sent SIGKILL",
    "sam: web (pid 12) was sent SIGKILL",
  ]);
});
