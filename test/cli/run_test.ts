// `sam run`: it restarts unmodified programs, leaves the watch to programs that call `register()`, and returns the right exit
// codes.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { spawnSync } from "node:child_process";
import { closeSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { basename } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { loopbackPorts } from "../../src/runtime/procfs.ts";
import { loadRuntime } from "../../src/runtime/load.ts";
import { type Command, commandTest, page, runtimeName, samCommand } from "../support/command.ts";
import { test } from "../support/harness.ts";
import { freePorts } from "../support/ports.ts";
import { eventually } from "../support/processes.ts";
import { currentRuntime, quickFixture as fixture, sourceFixture } from "../support/runtimes.ts";

const serverArgs = ["--runtime", runtimeName, "--time-interval", "300", fixture("cli/server")];
const nthPortPattern = (nth: number) => new RegExp(`(?:port (\\d+)\\n[^]*){${nth}}`);

commandTest(
  "an unmodified web server recovers from an endless loop and a crash, and may exit",
  async (sam) => {
    const run = sam(["run", "--json", ...serverArgs]);
    await run.event("start");
    const [, first] = await run.text(nthPortPattern(1));
    assertEquals([await page(first!, "/sam"), await page(first!, "/flags")].join(""), "");
    assertEquals(await page(first!, "/hang"), undefined);
    const recovery = await run.event("recovery");
    assertEquals([recovery.reason, recovery.instanceId], ["timeout", 1]);
    await run.event("start", 2);
    const [, second] = await run.text(nthPortPattern(2));
    assertMatch(await page(second!, "/") ?? "", /^\d+$/);
    await page(second!, "/crash");
    assertEquals((await run.event("recovery", 2)).reason, "exit");
    const [, third] = await run.text(nthPortPattern(3));
    await page(third!, "/end");
    assertEquals(await run.exited, 0);
    assertEquals((await run.event("finish")).status.reason, "exit");
  },
);

commandTest(
  "a program that replaces timers and clocks is watched with the real ones",
  async (sam) => {
    const args = ["--runtime", runtimeName, "--time-interval", "300"];
    const run = sam(["run", "--json", ...args, fixture("cli/fakes")]);
    await run.event("start");
    const [, first] = await run.text(nthPortPattern(1));
    assertMatch(await page(first!, "/") ?? "", /^\d+$/);
    assertEquals(await page(first!, "/hang"), undefined);
    assertEquals((await run.event("recovery")).reason, "timeout", run.stderr);
    await run.event("start", 2);
    run.kill("SIGTERM");
    await run.exited;
  },
);

/** Returns `FILE:LINE` of the endless loop in the fixture, as stack traces show it. */
function lineOfTheLoop(): string {
  const file = fixture("cli/server");
  const lines = readFileSync(file, "utf8").split("\n");
  const at = lines.findIndex((line) => line.includes("for (;;)"));
  return `${basename(file)}:${at + 1}`;
}

commandTest(
  "the log has a line for each important event, and shows where the loop blocks; SIGINT ends everything",
  async (sam) => {
    // The capture of the stack has the time interval as its limit, so a busy machine needs a long one.
    const longInterval = ["--time-interval", "2s", "--metrics", "0"];
    const run = sam(["run", ...longInterval, "--runtime", runtimeName, fixture("cli/server")]);
    const [, first] = await run.text(nthPortPattern(1));
    await page(first!, "/crash");
    await run.text(
      /^sam: \S+ \(pid \d+\) ended with exit code 3; instance 2 starts now$/m,
      "stderr",
    );
    const [, second] = await run.text(nthPortPattern(2));
    const [, own] = await run.text(/status page is at http:\S+:(\d+)\//, "stderr");
    await eventually("start()", async () => (await page(own!, "/readyz"))?.startsWith("ready:"));
    await page(second!, "/hang");
    await run.text(
      runtimeName === "bun"
        ? /^sam: {3}no stack: Bun cannot capture the stack of a blocked event loop$/m
        : new RegExp(`^sam: {5}at answer \\(\\S*/${lineOfTheLoop()}:\\d+\\)$`, "m"),
      "stderr",
    );
    await run.text(nthPortPattern(3));
    run.kill("SIGINT");
    const code = await run.exited;
    assert([130, 0].includes(code as number), `${code} ${run.stderr}`);
  },
);

commandTest(
  "a program that blocks its event loop while it loads is not taken for unresponsive",
  async (sam) => {
    const run = sam([
      "run",
      "--json",
      "--runtime",
      runtimeName,
      "--time-interval",
      "400",
      fixture("cli/slow"),
    ]);
    await run.event("start");
    assertEquals(await run.exited, 0, run.stderr);
    assertEquals(run.events().filter(({ type }) => type === "warn"), []);
    await run.text(/loaded\ndone/);
  },
);

commandTest("a program whose event loop runs long tasks counts as started", async (sam) => {
  const limits = ["--time-interval", "800", "--startup-timeout", "1200"];
  const args = ["--runtime", runtimeName, ...limits, "--restart", "never"];
  const run = sam(["run", "--json", ...args, fixture("cli/blocks"), "in pieces", "450", "2500"]);
  await run.event("start");
  assertEquals(await run.exited, 0, run.stderr);
  assertEquals(run.events().filter(({ type }) => type === "warn"), []);
});

/** Returns the milliseconds between the warn signal to an instance and its kill. */
async function graceOf(run: Command, instance: number): Promise<number> {
  const [warn, kill] = [await run.event("warn", instance), await run.event("kill", instance)];
  return kill.at - warn.at;
}

commandTest(
  "a program with a blocked event loop has a short grace period, although it handles the warn signal",
  async (sam) => {
    const limits = ["--time-interval", "1s", "--restart-max-delay", "0"];
    const args = ["--runtime", runtimeName, ...limits];
    const run = sam(["run", "--json", ...args, fixture("cli/blocks"), "hangs", "0"]);
    // On a busy machine, the stack may come too late, and the CPU time may be too short to prove that the loop is blocked.
    for (let instance = 1; await graceOf(run, instance) >= 900; instance++) {
      assert(instance < 6, run.stderr);
    }
    run.kill("SIGTERM");
    await run.exited;
  },
);

commandTest(
  "a program whose event loop recovers after the warn signal has its whole grace period",
  async (sam, stage) => {
    const file = `${stage.directory}/turns`;
    const args = ["--runtime", runtimeName, "--time-interval", "2s", "--restart", "never"];
    const run = sam(["run", "--json", ...args, fixture("cli/blocks"), "hangs", "1000", file]);
    await run.event("warn");
    await sleep(150); // sam finds that the event loop is blocked
    writeFileSync(file, "");
    await run.text(/closed/);
    await run.exited;
    assertEquals(run.events().filter(({ type }) => type === "kill"), []);
  },
);

commandTest(
  "sam continues after the reader of standard error has closed it, and can be stopped",
  async (sam) => {
    const run = sam([
      "run",
      "--json",
      "--restart-max-delay",
      "100",
      "sh",
      "-c",
      "sleep 0.2; exit 1",
    ]);
    await run.event("spawn", 1);
    run.child.stderr!.destroy();
    const events = sam(["events", "--follow", "--json"]);
    await events.text(/"instanceId":4/);
    run.kill("SIGTERM");
    await Promise.all([run.exited, events.exited]);
  },
);

commandTest(
  "a program that never finishes loading is recovered after the startup timeout",
  async (sam) => {
    const run = sam([
      "run",
      "--json",
      "--restart",
      "never",
      "--startup-timeout",
      "400",
      "--runtime",
      runtimeName,
      fixture("cli/slow"),
      "for ever",
    ]);
    const recovery = await run.event("recovery");
    assertEquals(recovery.reason, "startup");
    assertEquals(await run.exited, 143);
  },
);

/** The built package, a second copy of the library beside the one that runs `sam` in this test. */
const otherCopy = sourceFixture("../../dist/mod").replace(/ts$/, "js");

for (const [whose, copy] of [["sam's", []], ["another", [otherCopy]]] as const) {
  commandTest(
    `a program that calls initialize() of ${whose} copy takes over from the preload, and its own data and checks work`,
    async (sam) => {
      const args = ["--runtime", runtimeName, "--time-interval", "300"];
      const run = sam(["run", "--json", ...args, fixture("cli/own"), ...copy]);
      assertEquals((await run.event("recovery")).reason, "unhealthy");
      await run.text(/instance 1, early data\ninstance 2, stored data\n/);
      assertEquals(await run.exited, 0, run.stderr);
      assertEquals(run.events().filter(({ type }) => type === "register").length, 4);
    },
  );
}

commandTest(
  "a spare of an unmodified program waits before it loads the program, and then takes over",
  async (sam) => {
    const run = sam(["run", "--json", "--standby", "1", ...serverArgs]);
    const { pid } = await run.event("spawn");
    const parked = await eventually(
      "a parked spare",
      () => run.events().find((event) => event.type === "spare" && event.state === "parked"),
    );
    process.kill(pid, "SIGKILL");
    await run.event("start", 2);
    const [, second] = await run.text(nthPortPattern(2));
    assertEquals(await page(second!, "/"), String((parked as { pid: number }).pid));
    run.kill("SIGTERM");
    await run.exited;
  },
);

commandTest(
  "sam exits with the exit code of a command, and restarts a failed one within the restart limit",
  async (sam) => {
    const ends = [["exit 0", 0], ["exit 7", 7], ["kill -9 $$", 137], [
      "kill -34 $$",
      162,
    ]] as const;
    for (const [line, code] of ends) {
      const run = sam([
        "run",
        "--restart-intensity",
        "1",
        "--quiet",
        "--",
        "sh",
        "-c",
        `echo on; ${line}`,
      ]);
      assertEquals(await run.exited, code, run.stderr);
      assertEquals(run.stdout, code === 0 ? "on\n" : "on\non\n");
      assertEquals(run.stderr, "");
    }
    assertEquals(await sam(["run", "--restart", "never", "sh", "-c", "exit 5"]).exited, 5);
    const always = sam(["run", "--restart", "always", "--restart-intensity", "1", "true"]);
    assertEquals([await always.exited, always.stderr.includes("reached its restart limit")], [
      1,
      true,
    ]);
  },
);

commandTest(
  "the exit code for a real-time signal is 128 + its number",
  async (sam) => {
    const limit = ["--restart-intensity", "1"];
    const run = sam(["run", "--json", ...limit, "sh", "-c", "kill -34 $$; exec sleep 60"]);
    const { reason, evidence, delay } = await run.event("recovery");
    assertEquals([reason, evidence.signal, evidence.exitCode, delay], ["signal", "SIG34", null, 0]);
    const { code, signal } = (await run.event("finish")).status;
    assertEquals([await run.exited, code, signal], [162, 162, "SIG34"]);
  },
);

commandTest(
  "`node`, `deno run`, `bun` and `bun run`, given as commands, are watched like modules",
  async (sam) => {
    const commands = { deno: ["deno run -A"], bun: ["bun", "bun run"] }[runtimeName] ??
      [runtimeName];
    for (const command of commands) {
      const words = [...command.split(" "), fixture("cli/server")];
      const run = sam(["run", "--json", "--time-interval", "300", ...words]);
      await run.event("start");
      const [, first] = await run.text(nthPortPattern(1));
      assertEquals(await page(first!, "/flags"), "");
      assertEquals(await page(first!, "/hang"), undefined);
      assertEquals((await run.event("recovery")).reason, "timeout");
      run.kill("SIGTERM");
      await run.exited;
    }
  },
);

commandTest(
  "a warning says that a time interval has no effect on a command, unless the command starts a program that uses SAM",
  async (sam) => {
    const unwatched =
      /^sam: cannot detect a hang of true, only its exit; the time interval of 300 ms has no effect unless the program calls/m;
    const interval = ["--time-interval", "300"];
    const plain = sam(["run", ...interval, "true"]);
    assertEquals(await plain.exited, 0);
    assertMatch(plain.stderr, unwatched);
    for (const withoutWarning of [["true"], [...interval, "--check-command", "true", "true"]]) {
      const run = sam(["run", ...withoutWarning]);
      assertEquals([await run.exited, run.stderr], [0, ""]);
    }
    const flags = runtimeName === "deno" ? ["run", "-A", "--no-config"] : [];
    const line = ["env", runtimeName, ...flags, fixture("cli/own")];
    const own = sam(["run", "--json", "--no-preload", ...interval, ...line]);
    assertMatch(
      (await own.event("fallback")).detail,
      /^cannot detect a hang of env, only its exit;/,
    );
    assertEquals((await own.event("recovery")).reason, "unhealthy");
    assertEquals(await own.exited, 0, own.stderr);
  },
);

const fastChecks = ["--check-period", "50", "--failure-threshold", "2", "--json"];

commandTest("checks by URL and by port: consecutive failures lead to a recovery", async (sam) => {
  let status = 204;
  const web = createServer((_request, response) => response.writeHead(status).end());
  const port = await new Promise<number>((resolve) =>
    web.listen(0, "127.0.0.1", () => resolve((web.address() as { port: number }).port))
  );
  try {
    const url = `http://127.0.0.1:${port}/`;
    const byUrl = sam(["run", ...fastChecks, "--check-http", url, "sleep", "60"]);
    const byPort = sam(["run", ...fastChecks, "--check-tcp", `127.0.0.1:${port}`, "sleep", "60"]);
    assertEquals((await byUrl.event("check")).healthy, true);
    assertEquals((await byPort.event("check")).healthy, true);
    status = 503;
    const { reason, evidence } = await byUrl.event("recovery");
    assertEquals([reason, evidence.detail], [
      "unhealthy",
      `${url} answered 503, 2 times in a row`,
    ]);
    byUrl.kill("SIGTERM");
    await byUrl.exited;
    assertEquals(byPort.events().filter(({ type }) => type === "recovery"), []);
    await new Promise((resolve) => {
      web.close(resolve);
      web.closeAllConnections();
    });
    assertEquals((await byPort.event("recovery")).reason, "unhealthy");
    byPort.kill("SIGTERM");
    await byPort.exited;
  } finally {
    web.close();
  }
});

commandTest(
  "a failing command check leads to a recovery; a program that never becomes healthy is ended after the startup timeout",
  async (sam, stage) => {
    const flag = `${stage.directory}/healthy`;
    const line = `touch ${flag}; sleep 60`;
    const shell = sam([
      "run",
      ...fastChecks,
      "--check-command",
      `test -e ${flag}`,
      "sh",
      "-c",
      line,
    ]);
    assertEquals((await shell.event("check")).healthy, true);
    rmSync(flag);
    const { reason, evidence } = await shell.event("recovery");
    assertEquals([reason, evidence.detail], [
      "unhealthy",
      `test -e ${flag} ended with exit code 1, 2 times in a row`,
    ]);
    shell.kill("SIGTERM");
    const limits = ["--startup-timeout", "200", "--restart", "never"];
    const late = sam([
      "run",
      ...fastChecks,
      ...limits,
      "--check-tcp",
      "127.0.0.1:1",
      "sleep",
      "60",
    ]);
    assertEquals((await late.event("recovery")).reason, "startup");
    assertEquals(await late.exited, 143);
  },
);

commandTest(
  "error messages name the mistake, and exit codes are those of sysexits or the shell",
  async (sam, stage) => {
    writeFileSync(`${stage.directory}/server.ts`, "");
    const wrong: readonly (readonly [
      words: readonly string[],
      code: number,
      text: string,
      variables?: Readonly<Record<string, string>>,
    ])[] = [
      ...(currentRuntime === "node20"
        ? [[["run", "server.ts"], 64, "server.ts: this version of Node cannot load"] as const]
        : []),
      [["rnu"], 64, 'unknown command "rnu"'],
      [["run", "missing.js"], 66, "missing.js does not exist"],
      [["run", "true"], 78, 'SAM_TRANSPORT is "tcp"', { SAM_TRANSPORT: "tcp" }],
      [["run", "true"], 78, 'SAM_ENV is "foo"', { SAM_ENV: "foo" }],
      [["run", "true"], 78, "SAM_CHECK_PERIOD needs a health check", { SAM_CHECK_PERIOD: "5" }],
      [["run", "no-such-command"], 127, "not installed, or not on PATH"],
    ];
    for (const [words, code, text, variables] of wrong) {
      const run = sam(words, variables, stage.directory);
      assertEquals(await run.exited, code, words.join(" ") + run.stderr);
      assertStringIncludes(run.stderr, text);
    }
  },
);

commandTest(
  "a flag takes precedence over its variable, and that over the file; the values of env are merged",
  async (sam, stage) => {
    const program = {
      program: "sh",
      args: ["-c", "echo $ONE $TWO $THREE"],
      env: { ONE: "file", TWO: "file", THREE: "file" },
      log: "text",
    };
    const file = `${stage.directory}/sam.config.json`;
    writeFileSync(file, JSON.stringify({ programs: { web: program } }));
    const one = sam(["run"], {}, stage.directory);
    assertEquals(await one.exited, 0, one.stderr);
    assertEquals([one.stdout, one.stderr], ["file file file\n", ""]);
    const two = sam(["run"], { SAM_ENV: "TWO=variable", SAM_LOG: "json" }, stage.directory);
    assertEquals(await two.exited, 0, two.stderr);
    assertEquals(two.stdout, "file variable file\n");
    assertStringIncludes(two.stderr, '"type":"spawn"');
    const flags = ["--env", "ONE=flag", "--env", "THREE=flag", "--log", "none"];
    const three = sam(
      ["run", ...flags],
      { SAM_ENV: "TWO=variable", SAM_LOG: "json" },
      stage.directory,
    );
    assertEquals(await three.exited, 0, three.stderr);
    assertEquals([three.stdout, three.stderr], ["flag variable flag\n", ""]);
  },
);

commandTest(
  "options that several programs of a server cannot combine are refused",
  async (sam, stage) => {
    const web = { program: "true" };
    const wrong: readonly (readonly [config: object, text: string])[] = [
      [
        { strategy: "one_for_all", programs: { web: { ...web, standby: 1 }, other: web } },
        "programs.web.standby is 1, but spares work only with the strategy one_for_one, and not with one_for_all.",
      ],
      [
        { programs: { web: { ...web, clusterMap: true }, other: { ...web, clusterMap: true } } },
        "programs.web and programs.other both have clusterMap",
      ],
    ];
    for (const [config, text] of wrong) {
      writeFileSync(`${stage.directory}/sam.config.json`, JSON.stringify(config));
      const run = sam(["run"], {}, stage.directory);
      assertEquals(await run.exited, 78, run.stderr);
      assertStringIncludes(run.stderr, `sam: sam.config.json: ${text}`);
    }
  },
);

test("a failed write to standard output is an error", () => {
  const [file, ...args] = [...samCommand(), "--help"];
  const full = openSync("/dev/full", "w");
  const { status, stderr } = spawnSync(file!, args, {
    stdio: ["ignore", full, "pipe"],
    encoding: "utf8",
  });
  closeSync(full);
  assertEquals(status, 74, stderr);
  assertStringIncludes(stderr, "sam: cannot write to standard output: ");
});

commandTest(
  "with --inspect in NODE_OPTIONS, the debugger can attach to the program, and not to sam",
  async (sam) => {
    const [port] = await freePorts(1);
    const env = { NODE_OPTIONS: `--inspect=127.0.0.1:${port}` };
    const run = sam(["run", "--json", fixture("cli/server")], env);
    const { pid } = await run.event("spawn");
    const runtime = await loadRuntime();
    await eventually("the program's inspector", () => loopbackPorts(runtime, pid)!.has(port!));
    assert(!loopbackPorts(runtime, run.child.pid!)!.has(port!));
    run.kill("SIGTERM");
    await run.exited;
  },
  { skip: runtimeName !== "node" && "a variable of Node's" },
);
