// The configuration file, the control socket and the commands that use it. Some tests run in a real pseudo-terminal.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import type { ProgramStatus } from "../../src/cli/control/status.ts";
import { table } from "../../src/cli/ask/table.ts";
import type { Output } from "../../src/cli/host/host.ts";
import { type Command, commandTest, samCommand } from "../support/command.ts";
import { test } from "../support/harness.ts";
import { eventually } from "../support/processes.ts";
import { currentRuntime } from "../support/runtimes.ts";
import { terminal } from "../support/terminal.ts";

const config = {
  name: "shop",
  strategy: "rest_for_one",
  programs: {
    web: { program: "sleep", args: ["60"], after: ["store"], restart: { maxDelay: 50 } },
    store: {
      program: "sh",
      args: ["-c", "trap 'exit 7' USR1; while :; do sleep 0.05; done"],
      env: { A: "b" },
    },
  },
};

commandTest(
  "status, events, signal, restart and stop, by server and by program",
  async (sam, stage) => {
    writeFileSync(`${stage.directory}/sam.config.json`, JSON.stringify(config));
    const run = sam(["run", "--json"], {}, stage.directory);
    await run.event("spawn", 1, "web");
    const socket = `${stage.directory}/sam/shop.sock`;
    await eventually("the socket", () => existsSync(socket));
    assertEquals((statSync(socket).mode & 0o777).toString(8), "600");
    assertEquals((statSync(`${stage.directory}/sam`).mode & 0o777).toString(8), "700");

    const shown = sam(["status", "web", "--json"]);
    assertEquals(await shown.exited, 0, shown.stderr);
    const [server] = JSON.parse(shown.stdout);
    assertEquals([server.name, server.pid, server.programs.length], ["shop", run.child.pid, 1]);
    assertEquals(server.programs[0].pid, (await run.event("spawn", 1, "web")).pid);
    assert(server.programs[0].memory > 0);

    assertEquals(await sam(["signal", "usr1", "store"]).exited, 0);
    await run.event("spawn", 2, "web");
    const recovery = await run.event("recovery", 1, "store");
    assertEquals(recovery.evidence.exitCode, 7);
    const events = sam(["events", "shop/store"]);
    assertEquals(await events.exited, 0);
    assertStringIncludes(
      events.stdout,
      "instance 1 ended with exit code 7; instance 2 waits for web\n",
    );
    assertEquals(await sam(["restart", "web"]).exited, 0);
    await run.event("spawn", 3, "web");

    const piped = sam(["status", "--watch"]);
    const states =
      /^\S+Z shop\/store: \S+, pid \d+, restarts 1, last failure: instance 1 \(exit\)\n\S+Z shop\/web: ready, pid \d+, restarts 2\n/;
    await piped.text(states, "stdout");
    const objects = sam(["status", "shop", "--watch", "--json"]);
    await objects.text(/^\[\{"name":"shop",.*\n\[/, "stdout");
    objects.kill("SIGTERM");
    assertEquals(await sam(["restart", "web"]).exited, 0);
    await piped.text(/ shop\/web: .*restarts 3\n/, "stdout");

    const table = sam(["status"]);
    assertEquals(await table.exited, 0);
    assertMatch(
      table.stdout,
      /^NAME +STATE +PID[^]*\nstore +ready +\d+ +\d+ s +1 [^]*exit, \d+ s ago\nweb +ready/,
    );
    const taken = sam(["run", "--name", "shop", "--time-interval", "5000", "sleep", "1"]);
    assertEquals(await taken.exited, 64);
    assertStringIncludes(taken.stderr, "a SAM server named shop is already running.");
    assertStringIncludes(taken.stderr, "cannot detect a hang of sleep"); // the warning precedes the error

    const followed = sam(["events", "--follow", "--json"]);
    await followed.text(/"recovery"/);
    assertEquals(await sam(["stop", "web"]).exited, 0);
    await run.event("stopped", 1, "web");
    const half = sam(["status"]);
    assertEquals(await half.exited, 0);
    assertMatch(half.stdout, /\nstore +ready [^]*\nweb +stopped /);
    assertEquals(await sam(["restart"]).exited, 0); // restarts every program that was not stopped
    await run.event("spawn", 3, "store");
    assertEquals(await sam(["restart", "web"]).exited, 0);
    await run.event("spawn", 5, "web");
    assertEquals(await sam(["stop", "web"]).exited, 0);
    assertEquals(await sam(["stop"]).exited, 0);
    assertEquals(await piped.exited, 0);
    assertEquals([await run.exited, await followed.exited], [0, 0], run.stderr);
    assertStringIncludes(followed.stdout, '"reason":"stopped"');
    assertEquals(readdirSync(`${stage.directory}/sam`), []);
    const none = sam(["status"]);
    assertEquals([await none.exited, none.stderr.includes("no sam is running")], [69, true]);
  },
);

type Sam = Parameters<Parameters<typeof commandTest>[1]>[0];

/** Runs three programs, each of which depends on the one before it, and stops the middle one. */
async function withoutWorker(sam: Sam, directory: string): Promise<Command> {
  const sleeper = { program: "sleep", args: ["60"], restart: { maxDelay: 50 } };
  const programs = {
    store: sleeper,
    worker: { ...sleeper, after: ["store"] },
    web: { ...sleeper, after: ["worker"] },
  };
  const file = { name: "shop", strategy: "rest_for_one", programs };
  writeFileSync(`${directory}/sam.config.json`, JSON.stringify(file));
  const run = sam(["run", "--json"], {}, directory);
  await run.event("spawn", 1, "web");
  assertEquals(await sam(["stop", "worker"]).exited, 0);
  return run;
}

commandTest("sam restart starts a program that sam stop ended", async (sam, { directory }) => {
  const run = await withoutWorker(sam, directory);
  const restart = sam(["restart", "worker"]);
  assertEquals(await restart.exited, 0, restart.stderr);
  await run.event("spawn", 2, "worker");
  assertEquals(await sam(["stop"]).exited, 0);
  assertEquals(await run.exited, 0);
});

commandTest(
  "a program that sam stop ended does not delay its dependents",
  async (sam, { directory }) => {
    const run = await withoutWorker(sam, directory);
    process.kill((await run.event("spawn", 1, "store")).pid, "SIGKILL");
    await run.event("spawn", 2, "web");
    const workers = run.events().filter(({ type, program }) =>
      type === "spawn" && program === "worker"
    );
    assertEquals(workers.length, 1);
    assertEquals(await sam(["stop"]).exited, 0);
    assertEquals(await run.exited, 0);
  },
);

commandTest(
  "sam status shows the state as one word: ready if the check passes; a finished program has no heartbeat",
  async (sam, stage) => {
    const sick = `${stage.directory}/sick`;
    const check = { command: `test ! -e ${sick}`, period: 100, failureThreshold: 1000 };
    const programs = {
      checked: { program: "sleep", args: ["60"], check: { command: "true" } },
      ill: { program: "sleep", args: ["60"], check },
      never: { program: "sleep", args: ["60"], check: { command: "false" } },
      done: { program: "./done.mjs" },
      late: { program: "sleep", args: ["60"], after: ["checked", "never"] },
    };
    writeFileSync(`${stage.directory}/done.mjs`, "setTimeout(() => {}, 1000);");
    writeFileSync(`${stage.directory}/sam.config.json`, JSON.stringify({ name: "shop", programs }));
    const run = sam(["run", "--json"], {}, stage.directory);
    await run.event("start", 1, "done");
    await run.event("check", 1, "ill");
    writeFileSync(sick, "");
    await run.event("check", 2, "ill");
    await run.event("check", 1, "checked");
    await run.event("finish", 1, "done");

    const table = await output(sam(["status"]));
    assertMatch(table, /^checked +ready /m);
    assertMatch(table, /^ill +unhealthy /m);
    assertMatch(table, /^never +starting /m);
    assertMatch(table, /^late +waiting for never /m);
    const [head, done] = table.split("\n").filter((line) => /^(NAME|done) /.test(line));
    const column = head!.indexOf("HEARTBEAT");
    assertEquals([/^done +finished /.test(done!), done![column]], [true, "-"], table);
    const [{ programs: [first, second, , , last] }] = JSON.parse(
      await output(sam(["status", "--json"])),
    );
    assertEquals([first.state, first.ready, first.check], ["launched", true, "passing"]);
    assertEquals([second.state, second.ready, second.check], ["launched", false, "failing"]);
    assertEquals([last.state, last.waitsFor, "waitsFor" in first], ["pending", ["never"], false]);
    const lines = (await output(sam(["events", "shop/ill"]))).replaceAll(/^\S+ /gm, "").split("\n");
    assert(lines.includes("ill: instance 1 passed its health check"), lines.join("\n"));
    assert(
      lines.includes(
        `ill: instance 1 failed a health check: ${check.command} ended with exit code 1`,
      ),
      lines.join("\n"),
    );
    assertEquals(await sam(["stop"]).exited, 0);
    await run.exited;
  },
);

commandTest(
  "status --watch without a terminal prints a line with the time and the changed facts for each change",
  async (sam, stage) => {
    const sleeper = { program: "sleep", args: ["60"] };
    const programs = { calm: sleeper, web: sleeper };
    writeFileSync(`${stage.directory}/sam.config.json`, JSON.stringify({ name: "shop", programs }));
    const run = sam(["run", "--json"], {}, stage.directory);
    await run.event("spawn", 1, "web");
    const watch = sam(["status", "--watch"]);
    await watch.text(/ shop\/web: ready, pid \d+, restarts 0\n/);
    const { pid } = await run.event("spawn", 1, "web");
    process.kill(pid, "SIGKILL");
    const next = await run.event("spawn", 2, "web");
    await watch.text(new RegExp(` shop/web: .*pid ${next.pid}.*\n`));
    const lines = watch.stdout.split("\n").slice(0, -1);
    for (const line of lines) assert(Date.parse(line.split(" ", 1)[0]!) > 0, line);
    assertEquals(lines.filter((line) => line.includes(" shop/calm: ")).length, 1, watch.stdout);
    const changes = lines.filter((line) => line.includes(" shop/web: ")).slice(1).join("\n");
    assertMatch(changes, /restarts 1/);
    assertMatch(changes, /last failure: instance 1 \(signal\)/);
    assert(!changes.includes("restarts 0"), changes);
    assertEquals(await sam(["stop"]).exited, 0);
    await Promise.all([run.exited, watch.exited]);
    assertMatch(watch.stdout, / shop\/calm: no longer supervised\n/);
  },
);

async function output(command: Command): Promise<string> {
  assertEquals(await command.exited, 0, command.stderr);
  return command.stdout;
}

commandTest(
  "the socket of a killed server is removed, and a directory that other users can access is refused",
  async (sam, stage) => {
    const killed = sam(["run", "--json", "--name", "gone", "sleep", "5"]);
    await eventually("the socket", () => existsSync(`${stage.directory}/sam/gone.sock`));
    killed.kill("SIGKILL");
    await killed.exited;
    assertEquals(await sam(["status"]).exited, 69);
    assertEquals(readdirSync(`${stage.directory}/sam`), []);
    chmodSync(`${stage.directory}/sam`, 0o755);
    const run = sam(["run", "true"]);
    assertEquals(
      [
        await run.exited,
        run.stderr.includes("must be a directory that belongs to this user and has mode 0700"),
      ],
      [0, true],
      run.stderr,
    );
  },
);

commandTest(
  "a wrong configuration is refused with its key; one in TypeScript or in another directory works",
  async (sam, stage) => {
    const wrong = [
      [
        { programs: { web: { program: "true", timeInterval: -1 } } },
        "programs.web.timeInterval is -1; it must be an integer",
      ],
      [
        { programs: { web: { program: "true", restart: { maxDelay: -2 } } } },
        "programs.web.restart.maxDelay is -2; it must be an integer",
      ],
      [
        { programs: { web: { program: "true", timeintervall: 1 } } },
        'programs.web has the unknown key "timeintervall"',
      ],
      [
        { programs: { web: { program: "true", env: { PORT: 8080 } } } },
        "programs.web.env.PORT is 8080; it must be a string",
      ],
      [
        { programs: { web: { program: "true", quorum: "yes" } } },
        'programs.web.quorum is "yes"; it must be true, false, or an object with watch()',
      ],
      [
        { programs: { web: { program: "true", after: ["store"] } } },
        'programs.web.after names "store", which is not a program: use web',
      ],
      [
        { programs: { web: { program: "true", after: ["web"] } } },
        "programs.web.after is circular (web after web): remove one of these dependencies",
      ],
      [
        { programs: { web: { program: "./missing.js" } } },
        `programs.web.program: ${stage.directory}/./missing.js does not exist`,
        66,
      ],
    ] as const;
    for (const [value, text, code = 78] of wrong) {
      writeFileSync(`${stage.directory}/c.json`, JSON.stringify(value));
      const run = sam(["run", "--config", "c.json"], {}, stage.directory);
      assertEquals(await run.exited, code, run.stderr);
      assertStringIncludes(run.stderr, `sam: c.json: ${text}`);
    }
    writeFileSync(
      `${stage.directory}/c.mjs`,
      "export default { programs: { a: { program: 'sh', args: ['-c', 'test -e c.mjs && exit 4'], restart: 'never' } } };",
    );
    writeFileSync(`${stage.directory}/null.mjs`, "throw null;");
    const thrown = sam(["run", "--config", "null.mjs"], {}, stage.directory);
    assertEquals(
      [await thrown.exited, thrown.stderr],
      [78, "sam: cannot load null.mjs: null\n"],
    );
    const typed =
      "export default { programs: { a: { program: 'false', restart: 'never' } } as object };";
    writeFileSync(`${stage.directory}/sam.config.ts`, typed);
    const run = sam(["run"], {}, stage.directory);
    assertEquals(await run.exited, currentRuntime === "node20" ? 78 : 1, run.stderr);
    if (currentRuntime === "node20") {
      assertStringIncludes(run.stderr, "cannot load TypeScript: rename the file to .js or .json");
    }
    // Relative paths start at the directory of the file, also if SAM_CONFIG names the file.
    const config = { SAM_CONFIG: `${stage.directory}/c.mjs` };
    assertEquals(await sam(["run"], config).exited, 4);
    const named = sam(["run"], { ...config, SAM_NAME: "no name" });
    assertEquals(await named.exited, 78);
    assertStringIncludes(named.stderr, 'SAM_NAME is "no name"; it must be');
    assertEquals(await sam(["run", "--config", `${stage.directory}/c.mjs`]).exited, 4);
  },
);

commandTest("help is also shown after names and values", async (sam) => {
  for (const words of [["status", "web", "--help"], ["signal", "HUP", "-h"]]) {
    const asked = sam(words);
    assertEquals([await asked.exited, asked.stderr], [0, ""], words.join(" "));
    assertStringIncludes(asked.stdout, "sam status [NAME]");
  }
  const run = sam(["run", "--name", "x", "--help-all"]);
  assertEquals([await run.exited, run.stderr], [0, ""]);
  assertStringIncludes(run.stdout, "--restart-max-delay");
  const own = sam(["run", "--quiet", "echo", "--help"]);
  assertEquals(await own.exited, 0);
  assert(!own.stdout.includes("sam run"), own.stdout);
});

const quoted = () => samCommand().map((word) => `'${word}'`).join(" ");

commandTest(
  "on a terminal the table is redrawn in place, in color unless NO_COLOR is set, and one Ctrl-C stops everything",
  async (_sam, stage) => {
    const env = { XDG_RUNTIME_DIR: stage.directory };
    const run = terminal(`${quoted()} run --name one sleep 60`, env);
    await eventually("the socket", () => existsSync(`${stage.directory}/sam/one.sock`));
    const screen = spawnWatch(stage.directory, { NO_COLOR: "" });
    const plain = spawnWatch(stage.directory, { NO_COLOR: "1" });
    await eventually("a second drawing", () => screen.output.includes("\x1b[2A\x1b[J"));
    assertStringIncludes(screen.output, "\x1b[32mready");
    await eventually("a table without color", () => plain.output.includes("ready"));
    assert(!plain.output.includes("m\x1b[") && !plain.output.includes("\x1b[32m"), plain.output);
    run.keys("\x03");
    const code = await run.exited;
    assert(code === 130, `${code}: ${run.output}`);
    assert(!run.output.includes("instance 2"), run.output);
    assertEquals([await screen.exited, await plain.exited], [0, 0], screen.output + plain.output);
  },
);

commandTest("a table that is longer than the terminal is cut", async (sam, stage) => {
  const names = ["one", "two", "three", "four"];
  const programs = Object.fromEntries(
    names.map((name) => [name, { program: "sleep", args: ["60"] }]),
  );
  writeFileSync(`${stage.directory}/sam.config.json`, JSON.stringify({ name: "low", programs }));
  const run = sam(["run", "--json"], {}, stage.directory);
  await run.event("spawn", 1, "four");
  await eventually("the socket", () => existsSync(`${stage.directory}/sam/low.sock`));
  const screen = terminal(
    `${quoted()} status --watch`,
    { XDG_RUNTIME_DIR: stage.directory },
    5,
  );
  await eventually("a second drawing", () => screen.output.includes("\x1b[4A\x1b[J"));
  assertMatch(screen.output, /NAME.*\s+one.*\s+two.*\s+… 2 more\s/);
  assertEquals(await sam(["stop"]).exited, 0);
  await Promise.all([run.exited, screen.exited]);
});

function spawnWatch(directory: string, env: Record<string, string>) {
  return terminal(`${quoted()} status --watch`, { ...env, XDG_RUNTIME_DIR: directory });
}

commandTest("the completion of bash knows commands, flags and their values", async (sam, stage) => {
  const script = sam(["completion", "bash"]);
  assertEquals(await script.exited, 0, script.stderr);
  const completed = (...words: string[]) => {
    const list = words.map((word) => `'${word}'`).join(" ");
    const line =
      `${script.stdout}\nCOMP_WORDS=(sam ${list}); COMP_CWORD=${words.length}; _sam; echo "\${COMPREPLY[@]}"`;
    return new Promise<string>((resolve) => {
      const child = spawn("bash", ["-c", line], {
        env: { ...process.env, XDG_RUNTIME_DIR: stage.directory },
        stdio: ["ignore", "pipe", "inherit"],
      });
      let text = "";
      child.stdout.setEncoding("utf8").on("data", (more: string) => text += more);
      child.on("close", () => resolve(text.trim()));
    });
  };
  assertEquals(await completed("st"), "status stop");
  assertEquals(await completed("run", "--time"), "--time-interval");
  assertEquals(await completed("run", "--transport", ""), "unix pipe shm");
  assertEquals(await completed("run", "--no-p"), "--no-preload");
  assertEquals(await completed("signal", "SIGH"), "SIGHUP");
  assertEquals(await completed("signal", "HU"), "HUP");
  mkdirSync(`${stage.directory}/sam`);
  writeFileSync(`${stage.directory}/sam/here.sock`, "");
  assertEquals(await completed("signal", "SIGHUP", "h"), "here");
  assertEquals(await completed("stop", ""), "here");
});

const hasFish = spawnSync("fish", ["--version"]).status === 0;
commandTest("the completion of fish knows commands, flags and their values", async (sam, stage) => {
  const script = sam(["completion", "fish"]);
  assertEquals(await script.exited, 0, script.stderr);
  const completed = (line: string) => {
    const code = `${script.stdout}\ncomplete --do-complete '${line}'`;
    const env: Record<string, string | undefined> = {
      ...process.env,
      HOME: stage.directory,
      TMPDIR: stage.directory,
    };
    delete env["XDG_RUNTIME_DIR"];
    const { stdout } = spawnSync("fish", ["--no-config", "--command", code], { env });
    return String(stdout).trim().split("\n").sort().join(" ");
  };
  assertEquals(completed("sam st"), "status stop");
  assertEquals(completed("sam run --time"), "--time-interval");
  assertEquals(completed("sam run --transport "), "pipe shm unix");
  assertEquals(completed("sam run --no-p"), "--no-preload");
  assertEquals(completed("sam signal SIGH"), "SIGHUP");
  assert(completed("sam signal HU").split(" ").includes("HUP"), completed("sam signal HU"));
  const directory = `${stage.directory}/sam-${process.getuid!()}`; // the directory without XDG_RUNTIME_DIR
  mkdirSync(directory);
  writeFileSync(`${directory}/here.sock`, "");
  assertEquals(completed("sam signal SIGHUP h"), "here");
}, { skip: hasFish ? false : "fish is not installed" });

const hasZsh = spawnSync("zsh", ["--version"]).status === 0;
commandTest("the completion of zsh works when the keys are typed", async (sam, stage) => {
  const script = sam(["completion", "zsh"]);
  assertEquals(await script.exited, 0, script.stderr);
  writeFileSync(
    `${stage.directory}/.zshrc`,
    `autoload -U compinit && compinit -u -D\n${script.stdout}\nPS1='ready '\n`,
  );
  const zsh = terminal("zsh -d -i", { ZDOTDIR: stage.directory });
  await eventually("a prompt", () => zsh.output.includes("ready "));
  zsh.keys("sam com\t");
  await eventually("a command", () => zsh.output.includes("completion"));
  zsh.keys("\x15sam run --time-\t");
  await eventually("a flag", () => zsh.output.includes("--time-interval"));
  for (const [typed, name] of [["HU", "HUP"], ["SIGWI", "SIGWINCH"]]) {
    zsh.keys(`\x15sam signal ${typed}\t`);
    await eventually(name!, () => zsh.output.includes(name!));
  }
  zsh.keys("\x15exit\r");
  await zsh.exited;
}, { skip: hasZsh ? false : "zsh is not installed" });

test("a table for a narrow terminal still shows the last recovery", () => {
  const program = {
    name: "a-long-name",
    state: "started",
    pid: 1234567,
    uptime: 7_200_000,
    restarts: 12,
    heartbeatAge: 1234,
    slack: { min: 4999 },
    memory: 128 * 2 ** 20,
    lastRecovery: { reason: "timeout", at: Date.now() - 12_000 },
    members: [{ pid: 71, heartbeatAge: 12.4 }, { pid: 72, heartbeatAge: null }],
  } as unknown as ProgramStatus;
  const server = { name: "web", pid: 1, strategy: "one_for_one", programs: [program] } as const;
  const at = (columns: number) =>
    table([server], { isTerminal: true, columns } as Output)
      .split("\x1b").map((part, index) => index === 0 ? part : part.replace(/^\[\d*m/, "")).join(
        "",
      );
  for (const columns of [60, 80, 100, 200]) {
    const lines = at(columns).split("\n");
    assertStringIncludes(lines[1]!, "timeout, 12 s ago", `${columns}`);
    assert(lines.every((line) => line.length < columns), lines.join("\n"));
  }
  assertStringIncludes(at(200), "SLACK");
  const workers = at(200).split("\n").slice(2, 4).map((text) => text.trim().split(/ +/));
  assertEquals(workers, [["worker", "ready", "71", "12", "ms"], ["worker", "starting", "72", "-"]]);
  assert(!at(80).includes("SLACK") && at(80).includes("PID"), at(80));
});
