// The parser of the command line, the conversion of texts to values, and the detection of PROGRAM. Starts no process.
import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { SamError, type SupervisorEvent } from "../../mod.ts";
import {
  flagOf,
  optionFlags,
  parseText,
  programFlags,
  valueOf,
  variableOf,
} from "../../src/cli/command_line/flags.ts";
import { Settings } from "../../src/cli/command_line/settings.ts";
import { type CommandError, exitCodes } from "../../src/cli/command_line/exit.ts";
import { help, runHelp } from "../../src/cli/command_line/help.ts";
import { checkConfig } from "../../src/cli/run/check_config.ts";
import { buildProgram } from "../../src/cli/run/programs.ts";
import { detectProgram } from "../../src/cli/run/detect_program.ts";
import { findHelpFlag, type Option, parseWords } from "../../src/cli/command_line/words.ts";
import { optionNames } from "../../src/api/options.ts";
import { checkNames } from "../../src/api/supervise_options.ts";
import { restartDefaults } from "../support/core_bench.ts";
import type { RuntimeName } from "../../src/runtime/runtime.ts";
import { report } from "../../src/supervisor/report.ts";
import { readFileSync } from "node:fs";
import { test } from "../support/harness.ts";
import { noFiles } from "../support/no_files.ts";
import { sourceFixture } from "../support/runtimes.ts";

const options: readonly Option[] = [
  { flag: "--time-interval", takesValue: true },
  { flag: "--config", short: "-c", takesValue: true },
  { flag: "--preload", takesValue: false },
];

test("options end at PROGRAM, and the words after it belong to the program", () => {
  const parsed = (...words: string[]) => {
    const { given, operands } = parseWords(words, options, true);
    return [given.map((each) => each.join("=")), operands];
  };
  assertEquals(parsed("--time-interval", "5", "a.js", "--time-interval", "6"), [
    ["--time-interval=5"],
    ["a.js", "--time-interval", "6"],
  ]);
  assertEquals(parsed("--time-interval=5", "--", "-x"), [["--time-interval=5"], ["-x"]]);
  assertEquals(parsed("-c", "f", "--no-preload", "--preload", "x", "--"), [
    ["--config=f", "--preload=false", "--preload="],
    ["x", "--"],
  ]);
  const message = (...words: string[]) =>
    (assertThrows(() => parseWords(words, options, true)) as Error).message;
  assertEquals(
    message("--time-intervall"),
    "unknown option --time-intervall. Did you mean --time-interval?",
  );
  assertEquals(message("--time"), "unknown option --time. Did you mean --time-interval?");
  assertEquals(message("--xyz"), "unknown option --xyz. See sam --help.");
  assertEquals(message("--config"), "--config needs a value");
  assertEquals(message("--no-preload=no"), '--no-preload takes no value, but was given "no"');
});

test("--help works anywhere among the options, but not as a value or after PROGRAM", () => {
  const asked = (stops: boolean, ...words: string[]) => findHelpFlag(words, options, stops);
  assertEquals(asked(true, "--config", "x", "--help"), "--help");
  assertEquals(asked(true, "-c", "x", "--no-preload", "--help-all"), "--help-all");
  assertEquals(asked(true, "--config=x", "-h"), "-h");
  assertEquals(asked(true, "a.js", "--help"), undefined);
  assertEquals(asked(true, "--config", "--help", "a.js"), undefined);
  assertEquals(asked(true, "--", "--help"), undefined);
  assertEquals(asked(false, "web", "--preload", "-h"), "-h");
  assertEquals(asked(false, "web", "--", "-h"), undefined);
});

test("texts become values, and a wrong text is refused with the name of its source", () => {
  const values = [
    ["ms", "500", 500],
    ["ms", "500ms", 500],
    ["ms", "2.5s", 2500],
    ["ms", "2.01s", 2010],
    ["ms", "0.0001s", 0.1],
    ["ms", "2m", 120_000],
    ["ms", "-1", -1],
    ["bytes", "64MiB", 64 * 1024 ** 2],
    ["bytes", "10", 10],
    ["number", "Infinity", Infinity],
    ["number", "0.2", 0.2],
    ["switch", "no", false],
    ["switch", "", true],
    ["variables", "A=b=c", { A: "b=c" }],
  ] as const;
  for (const [kind, text, value] of values) assertEquals(parseText("x", kind, text), value, text);
  for (
    const [kind, text] of [
      ["ms", "soon"],
      ["ms", "5 d"],
      ["bytes", "5s"],
      ["number", "1e9"],
      [
        "switch",
        "perhaps",
      ],
      ["variables", "A"],
      ["variables", "=b"],
    ] as const
  ) {
    const error = assertThrows(() => parseText("--here", kind, text)) as SamError;
    assertEquals([error.code, error.message.startsWith(`--here is "${text}"; it must be `)], [
      "INVALID_PARAM",
      true,
    ]);
  }
});

test("every option of a server has a flag, a variable and a key", () => {
  const keys = optionFlags.map(({ key }) => key);
  // `restart` has a row for each of its parts. `--restart` sets `recoveryPolicy` and `restart.on`.
  const others = ["restart", "recoveryPolicy"];
  for (const name of optionNames) {
    assert(
      others.includes(name) || keys.includes(name),
      `src/cli/command_line/flags.ts has no row for the option ${name}`,
    );
  }
  for (const key of Object.keys(restartDefaults)) {
    assert(key === "on" || keys.includes(`restart.${key}`), key);
  }
  for (const key of checkNames) assert(keys.includes(`check.${key}`), key);
  /** A text of each kind, and its value. */
  const samples: Readonly<Record<string, readonly [text: string, value: unknown]>> = {
    ms: ["7s", 7000],
    bytes: ["1MiB", 1024 ** 2],
    number: ["1", 1],
    switch: ["", true],
    list: ["8080", [{ text: "8080", host: null, port: 8080 }]],
  };
  const texts: Readonly<Record<string, string>> = {
    "check.http": "http://h/",
    "check.tcp": "h:1",
    "check.command": "true",
  };
  for (const row of optionFlags) {
    const { key, kind } = row;
    const own = typeof kind === "string" ? texts[key] : kind.at(-1);
    const [text, value] = own === undefined ? samples[kind as string]! : [own, own];
    const isProgress = key.startsWith("check.progress");
    const parts = isProgress
      ? { "check.progress": 2000 }
      : /^check\./.test(key) && texts[key] === undefined
      ? { "check.tcp": "h:1" }
      : {};
    const values = [parseText(flagOf(row), kind, text)];
    if (kind === "switch") values.push(false);
    for (const given of values) {
      const all = { ...parts, [key]: given };
      const { options } = isProgress ? build(all, "node", ["x.js"]) : build(all);
      const [outer, inner] = key.split(".") as [string, string?];
      const { check, settings, ...rest } = options;
      const known: Readonly<Record<string, unknown>> = {
        ...settings,
        ...rest,
        check: check
          ? { ...check, [check.kind]: check.target }
          : { progress: settings.progressLimit, progressAction: options.progressAction },
      };
      const found = inner
        ? (known[outer] as Readonly<Record<string, unknown>>)[inner]
        : known[outer];
      const expected = given === false ? false : value;
      assertEquals(kind === "switch" ? Boolean(found) : found, expected, key);
    }
  }
  const rows = [...programFlags, ...optionFlags];
  assertEquals(new Set(rows.map(flagOf)).size, rows.length);
  assertEquals(flagOf({ key: "restart.maxDelay" }), "--restart-max-delay");
  assertEquals(variableOf({ key: "check.failureThreshold" }), "SAM_FAILURE_THRESHOLD");
});

/** Builds a program from options. `source` names the flag or variable that sets an option. */
function build(
  given: Readonly<Record<string, unknown>>,
  program = "true",
  args: string[] = [],
  source: (row: { key: string }) => string = flagOf,
) {
  const settings = new Settings();
  for (const [key, value] of Object.entries(given)) settings.add(key, value, source({ key }));
  const files = {
    exists: (path: string) => !path.includes("missing"),
    firstLine: () => "",
    mainOf: () => undefined,
    readText: () => "",
    readVariables: () => ({}),
  };
  return buildProgram({ name: "p", program, args, after: [] }, settings, {
    cwd: "/d",
    runtime: "node",
    cores: 2,
    files,
  });
}

test("by default the event loop of a module is watched, and only the exit of a command", () => {
  const module = build({}, "x.js").options.settings;
  assertEquals(
    [module.timeInterval, module.startupTimeout, module.recoveryPolicy, module.restart.on],
    [5000, 60_000, "restart", "failure"],
  );
  assertEquals(build({}, "x.js").program.preload, true);
  const command = build({}).options.settings;
  assertEquals([command.timeInterval, command.startupTimeout], [0, 0]);
  assertEquals(build({}, "deno", ["run", "x.ts"]).program.preload, true);
  assertEquals(build({}, "deno", ["task", "x"]).program.preload, false);
  assertEquals(build({ "check.tcp": "h:1" }).options.settings.startupTimeout, 60_000);
  const never = build({ restart: "never" }).options.settings;
  assertEquals([never.recoveryPolicy, never.restart.on], ["quit", "failure"]);
  assertEquals(build({ restart: "always" }).options.settings.restart.on, "always");
});

test("a command line of Bun that runs a file is watched, and the preload flag is where Bun accepts it", async () => {
  const lines: readonly (readonly [words: string, flagAt?: number])[] = [
    ["index.js", 0],
    ["--silent ./server", 0],
    ["--port 3000 index.ts run", 0],
    ["-e 1+1", 0],
    ["run index.js", 1],
    ["--silent run ./server start", 2],
    ["run --cwd /d src/index.mjs", 1],
    ["--cwd=/d run index.js", 2],
    ["--preload=./x.js run start"],
    ["run start"],
    ["start"],
    ["run -F ./part start"],
    ["--silent run x"],
    ["run"],
    ["test"],
    ["test x.test.js"],
    ["x cowsay"],
    [""],
  ];
  for (const [words, at] of lines) {
    const { program } = build({}, "/b/bun", words.split(" "));
    assertEquals(program.preload, at !== undefined, words);
    const { args } = await program.command({
      name: "node",
      executable: "node",
      defaultFlags: () => Promise.resolve([]),
      exists: () => true,
    });
    assertEquals(args.indexOf("--preload"), at ?? -1, words);
  }
  for (const words of ["--run start", "--run=start", "--no-warnings --import ./x.js --run start"]) {
    assertEquals(build({}, "node", words.split(" ")).program.preload, false, words);
  }
  assertEquals(build({}, "node", ["server.js", "--run"]).program.preload, true);
  for (
    const [command, words] of [
      ["node", "--report-directory /d --watch x.js"],
      ["node", "--watch-path /d x.js"],
      ["deno", "run --config c.json --watch=a,b x.ts"],
      ["bun", "--hot x.ts"],
      ["bun", "run --watch x.ts"],
    ] as const
  ) {
    const { program, advice, options } = build({}, command, words.split(" "));
    const { preload, restarts } = program;
    assertEquals([preload, restarts, options.settings.timeInterval], [false, true, 0], words);
    assertMatch(advice!, /^leave out --watch/);
  }
  assertEquals(build({}, "node", ["x.js", "--watch"]).program.preload, true);
  const watched = build({ runtimeFlags: ["--watch"] }, "x.js");
  assertEquals([watched.program.preload, watched.options.settings.timeInterval], [false, 0]);
  assertThrows(
    () => build({ preload: true }, "bun", ["--hot", "x.ts"]),
    SamError,
    "--preload: cannot watch the event loop of bun with --watch or --hot",
  );
  for (
    const [command, words] of [["bun", "run start"], ["npm", "start"], ["sh", "-c x"]] as const
  ) {
    const { program, options } = build({}, command, words.split(" "));
    assertEquals([program.preload, program.wrapper], [false, true], command);
    const { timeInterval, startupTimeout } = options.settings;
    assertEquals([timeInterval, startupTimeout], [5000, 60_000], command);
  }
  assertEquals(build({ standby: 1 }, "npm", ["start"]).program.wrapper, false);
  assertEquals(build({ preload: true }, "make", ["serve"]).program.wrapper, true);
});

test("the switches quorum and clusterMap stand for those of Corosync", () => {
  const { quorum, clusterMap, settings } = build({ quorum: true, clusterMap: false }).options;
  assertEquals([typeof quorum?.watch, clusterMap, settings.hasQuorum], [
    "function",
    undefined,
    true,
  ]);
});

test("an error message names an option as its user wrote it", () => {
  const message = (given: Readonly<Record<string, unknown>>, program?: string) =>
    (assertThrows(() => build(given, program)) as Error).message;
  assert(message({ timeInterval: -5 }).startsWith("--time-interval is -5; it must be an integer"));
  assert(
    message({ "restart.maxDelay": -2 }).startsWith(
      "--restart-max-delay is -2; it must be an integer",
    ),
  );
  assert(message({ "check.http": "x" }).startsWith('--check-http is "x"; it must be a URL'));
  assert(message({ "check.period": 0, "check.tcp": "h:1" }).startsWith("--check-period is 0"));
  assertEquals(
    message({ "check.period": 5 }),
    "--check-period needs a health check: add one of --check-http, --check-tcp, --check-command",
  );
  assertEquals(
    message({ "check.tcp": "h:1", "check.http": "http://h" }),
    "--check-http and --check-tcp cannot be combined: remove one of them",
  );
  assertEquals(
    message({ "check.progress": 2000 }),
    "--check-progress has no effect, because SAM cannot count the requests of true: remove it, or run a JavaScript program " +
      "that SAM watches",
  );
  assertEquals(
    message({ "check.progressAction": "restart" }),
    "--check-progress-action needs --check-progress",
  );
  assert(message({ "check.progress": 999 }).startsWith("--check-progress is 999; it must be"));
  assertEquals(
    message({ quorum: 5 }),
    "--quorum is 5; it must be true, false, or an object with watch()",
  );
  assertEquals(
    message({ preload: true, runtimeFlags: ["--watch"] }, "x.js"),
    "--preload: cannot watch the event loop of x.js with --watch or --hot",
  );
  assertEquals(message({}, "missing.js"), "/d/missing.js does not exist");
});

test("a mistake in a flag has the exit code for usage, any other mistake that for configuration", () => {
  const mistakes: readonly Readonly<Record<string, unknown>>[] = [
    { "check.period": 5 },
    { "check.tcp": "h:0" },
    { "check.tcp": "h:1", "check.http": "http://h" },
    { "check.progress": 2000 },
    { "check.progressAction": "restart" },
    { "restart.maxDelay": -1 },
    { preload: true, standby: 1 },
  ];
  for (const given of mistakes) {
    for (const [source, code] of [[flagOf, 64], [variableOf, 78]] as const) {
      const error = assertThrows(() => build(given, "true", [], source)) as CommandError;
      assertEquals(error.exitCode, code, error.message);
    }
  }
  const mixed = ({ key }: { key: string }) =>
    key === "check.tcp" ? variableOf({ key }) : flagOf({ key });
  const both = { "check.tcp": "h:1", "check.http": "http://h" };
  assertEquals((assertThrows(() => build(both, "true", [], mixed)) as CommandError).exitCode, 64);
});

test("the runtime of a module is detected by its first line, then by the nearest files", () => {
  const found = (program: string, files: Readonly<Record<string, string>>) =>
    detectProgram(program, "/a/b", {
      exists: (path) => path in files,
      firstLine: (path) => files[path] ?? "",
      mainOf: () => undefined,
      readText: () => "",
      readVariables: () => ({}),
    });
  assertEquals(found("x.js", {}), { isModule: true });
  assertEquals(found("x.ts", { "/a/deno.lock": "" }), { isModule: true, runtime: "deno" });
  assertEquals(found("x.ts", { "/a/deno.lock": "", "/a/b/package.json": "" }).runtime, "deno");
  assertEquals(found("x.ts", { "/a/b/bun.lock": "", "/a/b/package.json": "" }).runtime, "bun");
  assertEquals(
    found("x.ts", { "/a/b/package-lock.json": "", "/a/b/deno.json": "" }).runtime,
    "node",
  );
  assertEquals(found("x.ts", { "/a/b/x.ts": "#!/usr/bin/env -S deno run --allow-net" }), {
    isModule: true,
    runtime: "deno",
    flags: ["run", "--allow-net"],
  });
  assertEquals(found("./x", { "/a/b/./x": "#!/usr/bin/env node" }), {
    isModule: true,
    runtime: "node",
  });
  assertEquals(found("./x", { "/a/b/./x": "#!/bin/sh" }), { isModule: false });
  assertEquals(found("/x.mts", { "/bunfig.toml": "" }).runtime, "bun");
  assertEquals([found("nginx", {}), found("jsr:@x/y", {})], [{ isModule: false }, {
    isModule: true,
    runtime: "deno",
  }]);
});

test("the help fits a screen of 24 lines and 80 columns", () => {
  for (const text of [help, runHelp(false)]) {
    const lines = text.split("\n");
    assert(lines.length <= 24, `${lines.length} lines`);
    for (const line of lines) assert(line.length <= 80, line);
  }
  for (const line of runHelp(true).split("\n")) assert(line.length <= 80, line);
});

test("docs/events.md lists every event, and which of them the log reports", () => {
  const types = {
    spawn: true,
    spawnFailed: true,
    register: true,
    waiting: true,
    start: true,
    stop: true,
    finalize: true,
    check: true,
    stall: true,
    starved: true,
    warn: true,
    kill: true,
    exit: true,
    recovery: true,
    failed: true,
    observed: true,
    stopping: true,
    stopped: true,
    spare: true,
    reload: true,
    reloaded: true,
    reloadFailed: true,
    member: true,
    quorum: true,
    fallback: true,
    problem: true,
    finish: true,
    status: true,
    lost: true,
  } satisfies Record<SupervisorEvent["type"], true>;
  const path = sourceFixture("../../docs/events").replace(/ts$/, "md");
  const [, table] = readFileSync(path, "utf8").split("## All events");
  const rows = [...table!.matchAll(/^\| `(\w+)` +\| (yes)? /gm)];
  assertEquals(rows.map(([, type]) => type).sort(), Object.keys(types).sort());
  const evidence = { detail: "", exitCode: 1, signal: null, heartbeatAge: null };
  const error = new SamError("LIBRARY", "x");
  const status = { code: 1, signal: null, reason: "spawn", error };
  for (const [, type, isReported] of rows) {
    const event = {
      type,
      at: 0,
      instanceId: 1,
      reason: "exit",
      detail: "x",
      evidence,
      error,
      status,
    };
    assertEquals(
      report(event as unknown as SupervisorEvent).length > 0,
      isReported === "yes",
      type,
    );
  }
});

test("docs/cli.md lists every option and every exit code", () => {
  const path = sourceFixture("../../docs/cli").replace(/ts$/, "md");
  const squeezed = (text: string) => text.replace(/[ -]+/g, " ");
  const docs = squeezed(readFileSync(path, "utf8"));
  for (const row of [...programFlags, ...optionFlags]) {
    const name = row.kind === "switch" ? flagOf(row).replace("--", "--[no-]") : flagOf(row);
    const flag = `${name} ${valueOf(row)}`.trim().replaceAll("|", "\\|");
    const line = `| \`${flag}\` | \`${variableOf(row)}\` | \`${row.key}\` | ${
      row.help.replaceAll("|", "\\|")
    } |`;
    assert(docs.includes(squeezed(line)), `docs/cli.md lacks ${line}`);
  }
  for (const [code, when] of Object.values(exitCodes)) {
    assert(
      docs.includes(squeezed(`| ${code} | ${when} |`)),
      `docs/cli.md lacks | ${code} | ${when} |`,
    );
  }
});

test("in a configuration, restart is a word, or an object with that word as policy", () => {
  const context = { cwd: "/d", runtime: "node", files: noFiles, cores: 2 } as const;
  const checked = (program: object, settings = new Settings()) => {
    const config = { programs: { a: { program: "true", ...program } } };
    const { programs } = checkConfig("f", config, [], () => settings, context);
    const { recoveryPolicy, restart } = programs[0]!.options.settings;
    return [recoveryPolicy, restart.on, restart.intensity];
  };
  assertEquals(checked({}), ["restart", "failure", 10]);
  assertEquals(checked({ restart: "always" }), ["restart", "always", 10]);
  assertEquals(checked({ restart: { intensity: 5 } }), ["restart", "failure", 5]);
  const both = { restart: { policy: "always", intensity: 5 } };
  assertEquals(checked(both), ["restart", "always", 5]);
  const open = { restart: { policy: undefined, intensity: undefined } };
  assertEquals(checked(open), ["restart", "failure", 10]);
  const flags = new Settings();
  flags.add("restart", "never", "--restart");
  assertEquals(checked(both, flags), ["quit", "failure", 5]);
  const message = (program: object) => (assertThrows(() => checked(program)) as Error).message;
  for (
    const [program, text] of [
      [
        { restart: "sometimes" },
        'f: programs.a.restart is "sometimes"; it must be one of "always"',
      ],
      [{ restart: { policy: 1 } }, "f: programs.a.restart.policy is 1; it must be one of"],
      [
        { restart: { on: "always" } },
        'f: programs.a.restart has the unknown key "on"; the known keys are intensity',
      ],
      [{ recoveryPolicy: "quit" }, 'f: programs.a has the unknown key "recoveryPolicy"'],
      [{ args: null }, "f: programs.a.args is null; it must be an array of strings"],
      [{ after: null }, "f: programs.a.after is null; it must be an array of strings"],
      [
        { restart: { maxDelay: -1 } },
        "f: programs.a.restart.maxDelay is -1; it must be an integer",
      ],
    ] as const
  ) {
    assertEquals(message(program).slice(0, text.length), text);
  }
});

test("TypeScript is refused if Node cannot load it and no loader is named", () => {
  const on = (
    runtime: RuntimeName,
    program: string,
    given: Readonly<Record<string, unknown>> = {},
  ) => {
    const settings = new Settings();
    for (const [key, value] of Object.entries(given)) settings.add(key, value, flagOf({ key }));
    const files = {
      exists: (path: string) => path.startsWith("/d/x."),
      firstLine: () => "",
      mainOf: () => undefined,
      readText: () => "",
      readVariables: () => ({}),
    };
    const context = { cwd: "/d", runtime, withoutTypes: true, files, cores: 2 };
    return buildProgram({ name: "p", program, args: [], after: [] }, settings, context).program
      .name;
  };
  const text =
    "x.ts: this version of Node cannot load TypeScript. Use Node 22.18 or later, add --runtime deno";
  assertStringIncludes((assertThrows(() => on("node", "x.ts")) as Error).message, text);
  assertEquals(on("node", "x.js", { runtime: "node" }), "x.js");
  assertEquals(on("node", "x.ts", { runtimeFlags: ["--import=tsx"] }), "x.ts");
  assertEquals(on("node", "x.ts", { runtime: "deno" }), "x.ts");
});
