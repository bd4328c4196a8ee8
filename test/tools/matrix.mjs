// Runs a suite (test/**/*_test.ts or test/cluster/*_test.ts) on six runtimes, and checks that all of them ran the same
// tests. The suite `package` is a set of scripts that run once each: the installed package, README and docs, the status
// page in a browser, containers, real servers under load, wrappers such as `npm start`, a program that waits for PostgreSQL.
//
//   npm test                                      all of test/, and the package
//   npm test -- --quick                           Node 24, without the tests that also run in full on another runtime
//   npm run test:cluster                          all of test/cluster/: needs root, installs Corosync with apt
//   npm test -- --suite main,cluster --short      two suites, with fewer tests on the older versions of Node
//   npm test -- --only node20,deno --file cli/run,start   two legs, test/cli/run_test.ts and test/*/start_test.ts
//   npm test -- --jobs 1                          one leg at a time (default 2)
//   npm test -- --jsr                             Deno takes @std/assert from jsr.io, not from this folder
//
// A line tells every half minute how far each leg is. Each leg's output is in .build/logs/. The last line is `N passed, N failed`. The line before it lists what was skipped.

import { spawn } from "node:child_process";
import { createWriteStream, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { installPackages } from "../support/apt.mjs";
import { enterLab, prepareLab } from "../support/lab.mjs";
import { build, install, offlineDenoConfig, root, run, runtimesDir } from "../support/setup.mjs";

const legLimitMs = 20 * 60_000;
const silenceLimitMs = 3 * 60_000;
const progressMs = 30_000;
const logs = join(root, ".build/logs");

const { values: options } = parseArgs({
  options: {
    suite: { type: "string", multiple: true },
    only: { type: "string", multiple: true },
    file: { type: "string", multiple: true },
    jobs: { type: "string", default: "2" },
    jsr: { type: "boolean", default: false },
    short: { type: "boolean", default: false },
    quick: { type: "boolean", default: false },
  },
});
if (options.quick) Object.assign(options, { short: true, only: options.only ?? ["node24"] });

/** Lines that Node, Deno and Bun print when a test has ended. */
const passedLine = /^\s*✔ |^\(pass\) | \.\.\. ok \(/;
const failedLine = /^\s*✖ |^\(fail\) | \.\.\. FAILED \(/;
/** Failures that are not failures of a test. Each counts as one. */
const faults = [];
const list = (values) => (values ?? []).flatMap((value) => value.split(","));

/** Commands that some tests compare with. Tests are skipped where a command cannot be installed. */
const tools = {
  "/usr/bin/promtool": "prometheus",
  "/usr/bin/zsh": "zsh",
  "/usr/bin/fish": "fish",
  "/bin/busybox": "busybox",
};
const scripts = ["consumers", "docs", "page", "containers", "servers", "wrappers", "postgres"];
/**
 * A suite is a list of folders in test/. `prepare` resolves to the reason why it cannot run here,
 * or undefined. `enter` gives the command that runs its legs in their own place.
 */
const suites = {
  package: {},
  main: {
    folders: roomsOfTests(),
    prepare: async () => void await installPackages(tools),
    enter: (command) => command,
  },
  cluster: { folders: ["cluster"], prepare: prepareLab, enter: enterLab },
};
const isPart = options.only !== undefined || options.file !== undefined;
const suiteNames = options.suite ? list(options.suite) : isPart ? ["main"] : ["main", "package"];

await install(root);
await install(runtimesDir);
const complaints = await build();
if (complaints !== "") {
  console.log(complaints);
  faults.push("the compiler complains, see above");
}

const { newest, runtimeNames, runtimePath } = await import(
  "../../.build/test/support/runtimes.js"
);
// With --short the newest versions run the most tests. They come first, so that none of them runs
// alone at the end.
const legNames = options.only ? list(options.only) : [...new Set([...newest, ...runtimeNames])];
mustKnow("leg", legNames, runtimeNames);
mustKnow("suite", suiteNames, Object.keys(suites));
const wanted = list(options.file).map((name) =>
  name.replace(/^(\.\/)?test\//, "").replace(/(_test)?(\.ts)?$/, "")
);
const suitesWithFiles = suiteNames.filter((name) => suites[name].folders !== undefined);
const known = suitesWithFiles.flatMap((name) => testFilesIn(suites[name].folders));
mustKnow("file", wanted.filter((name) => !known.some((file) => isCalled(file, name))), known);

mkdirSync(logs, { recursive: true });
const offlineConfig = offlineDenoConfig(); // the programs that tests start use this one, whatever the leg uses
const denoConfig = options.jsr ? join(root, "deno.json") : offlineConfig;
const groups = new Set();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    for (const group of groups) killGroup(group);
    process.exit(130);
  });
}

const legs = [];
const skippedSuites = [];
if (suiteNames.includes("main")) await runSuite("main");
// Legs of the cluster suite run in namespaces, where the scripts' processes cannot be seen.
const beside = suiteNames.includes("package") ? [runScripts] : [];
if (suiteNames.includes("cluster")) await runSuite("cluster", beside);
else await inLanes(beside);
for (const fault of faults) console.log(`FAILED: ${fault}`);
const sum = (key) => legs.reduce((total, leg) => total + leg[key], 0);
const failed = sum("failed") + faults.length;
if (failed > 0) process.exitCode = 1;
const skipped = [
  sum("skipped") > 0 && `${sum("skipped")} tests`,
  ...skippedSuites,
].filter(Boolean);
if (skipped.length > 0) console.log(`skipped: ${skipped.join(", ")}`);
console.log(`${sum("passed")} passed, ${failed} failed`);

/** The test files in some folders, in the form that `--file` takes: `cli/run`. */
function testFilesIn(folders) {
  return folders.flatMap((folder) =>
    readdirSync(join(root, "test", folder)).sort()
      .filter((file) => file.endsWith("_test.ts"))
      .map((file) => `${folder}/${file.replace("_test.ts", "")}`)
  );
}

/** True if a file has this name, with or without its folder. */
function isCalled(file, name) {
  return `/${file}`.endsWith(`/${name}`);
}

/** The folders of test/ whose tests run on every leg. */
function roomsOfTests() {
  return readdirSync(join(root, "test"), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !["cluster", "runtimes"].includes(entry.name))
    .map(({ name }) => name).sort()
    .filter((room) =>
      readdirSync(join(root, "test", room)).some((file) => file.endsWith("_test.ts"))
    );
}

function mustKnow(what, names, known) {
  const unknown = names.filter((name) => !known.includes(name));
  if (unknown.length === 0) return;
  console.error(`Unknown ${what}: ${unknown.join(", ")}. There are: ${known.join(", ")}`);
  process.exit(2);
}

/** Runs jobs, some at a time. */
async function inLanes(jobs) {
  const waiting = [...jobs];
  const lane = async () => {
    for (let job = waiting.shift(); job !== undefined; job = waiting.shift()) await job();
  };
  await Promise.all(Array.from({ length: Number(options.jobs) || 1 }, lane));
}

async function runScripts() {
  for (const script of scripts) await runScript(script);
}

/** Runs a script, which prints how many checks passed, or why it was skipped. */
async function runScript(name) {
  const path = `test/tools/${name}.mjs`;
  const flags = ["--built", ...(options.short ? ["--short"] : [])];
  const started = Date.now();
  const { code, output } = await run(process.execPath, [join(root, path), ...flags]);
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  const counts = /^(\d+) passed, (\d+) failed$/m.exec(output) ?? ["no count", 0, 0];
  const skipped = Number(/^(\d+) skipped$/m.exec(output)?.[1] ?? 0);
  const whys = output.match(/^SKIPPED .*$/gm) ?? [];
  const failed = Number(counts[2]) || (code === 0 ? 0 : 1);
  if (failed > 0) console.log(`--- ${path}\n${output}`);
  else for (const why of whys) console.log(why.replace("SKIPPED", `$&  ${path}:`));
  console.log(
    `${failed > 0 ? "FAILED" : "ok"}  ${path}: ${counts[0]}, ${skipped} skipped (${seconds} s)`,
  );
  if (whys.length > skipped) skippedSuites.push(path); // the whole script was skipped
  legs.push({ passed: Number(counts[1]), failed, skipped });
}

/** Runs the legs of a suite, and other jobs at the same time. */
async function runSuite(suite, beside = []) {
  const own = [];
  await inLanes([...beside, ...await legsOf(suite, own)]);
  compare(own);
  legs.push(...own);
}

/** The legs of a suite as jobs; none where it cannot run. Their results are added to `own`. */
async function legsOf(suite, own) {
  const { folders, prepare } = suites[suite];
  const files = testFilesIn(folders)
    .filter((file) => wanted.length === 0 || wanted.some((name) => isCalled(file, name)));
  if (files.length === 0) {
    faults.push(`no test file of the suite ${suite} is so called`);
    return [];
  }
  const why = await prepare();
  if (why !== undefined) {
    console.log(`SKIPPED  all of the suite ${suite}: ${why}`);
    skippedSuites.push(`all of the suite ${suite}`);
    return [];
  }
  return legNames.map((name) => async () => {
    const leg = await runLeg(name, suite, files.map((name) => `./test/${name}_test.ts`));
    report(leg);
    own.push(leg);
  });
}

function commandOf(name, suite, report, sources) {
  const path = runtimePath(name);
  if (name === "deno") {
    return [
      path,
      "test",
      "-A",
      "--no-check",
      `--config=${denoConfig}`,
      `--junit-path=${report}`,
      ...sources,
    ];
  }
  if (name === "bun") {
    // The harness limits the time of each test by itself.
    const flags = ["--isolate", `--timeout=${legLimitMs}`, "--reporter=junit"];
    return [path, "test", ...flags, `--reporter-outfile=${report}`, ...sources];
  }
  // One file at a time: two legs already share two cores, and the tests spawn processes and measure
  // time.
  const flags = ["--test", "--test-concurrency=1"];
  flags.push("--test-reporter=spec", "--test-reporter-destination=stdout");
  flags.push("--test-reporter=junit", `--test-reporter-destination=${report}`);
  const compiled = sources.map((file) => file.replace("./", "./.build/").replace(/ts$/, "js"));
  // Node 20 cannot load TypeScript. Newer versions can, which the suite `main` shows on Node 26 (in
  // the short form `pairs` shows it). Compiled programs start three times sooner.
  const isSource = name === "node26" && suite === "main" && !options.short;
  return [path, ...flags, ...(isSource ? sources : compiled)];
}

/**
 * The environment of a leg. Programs that a test finds by name are those of the matrix; `node` is
 * the leg's own.
 */
function environmentOf(name) {
  const programs = [name.startsWith("node") ? name : "node24", "deno", "bun"];
  const environment = {
    ...process.env,
    PATH: [...programs.map((program) => dirname(runtimePath(program))), process.env.PATH]
      .join(delimiter),
    NO_COLOR: "1",
    DENO_NO_UPDATE_CHECK: "1",
    DO_NOT_TRACK: "1",
    ...(options.short && { SAM_TEST_SHORT: "1" }),
  };
  delete environment.FORCE_COLOR;
  return environment;
}

async function runLeg(name, suite, sources) {
  const log = join(logs, `${suite === "main" ? "" : `${suite}-`}${name}.log`);
  const junit = log.replace(/log$/, "xml");
  rmSync(junit, { force: true });
  const env = environmentOf(name);
  const version = (await run(runtimePath(name), ["--version"], { env })).output
    .match(/\d+\.\d+\.\d+/)?.[0];
  const [command, ...args] = suites[suite].enter(commandOf(name, suite, junit, sources));
  const started = Date.now();
  const problems = [];
  const out = createWriteStream(log);
  // A process group of its own, so that a leg that hangs is killed with all its processes.
  const child = spawn(command, args, {
    cwd: root,
    env,
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
  });
  if (child.pid !== undefined) groups.add(child.pid);
  const stop = (problem) => {
    problems.push(problem);
    killGroup(child.pid);
  };
  const overall = setTimeout(stop, legLimitMs, `not done after ${legLimitMs / 60_000} minutes`);
  const silence = setTimeout(stop, silenceLimitMs, `silent for ${silenceLimitMs / 60_000} minutes`);
  const seconds = () => (Date.now() - started) / 1000;
  const ended = { passed: 0, failed: 0 };
  for (const stream of [child.stdout, child.stderr]) {
    let rest = "";
    stream.setEncoding("utf8").on("data", (chunk) => {
      out.write(chunk);
      silence.refresh();
      const lines = (rest + chunk).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (passedLine.test(line)) ended.passed++;
        else if (failedLine.test(line)) ended.failed++;
      }
    });
  }
  const progress = setInterval(() => {
    const { passed, failed } = ended;
    console.log(
      `    ${name}: ${passed} passed, ${failed} failed so far (${seconds().toFixed()} s)`,
    );
  }, progressMs);
  const exit = await new Promise((resolve) => {
    child.on("error", (error) => resolve(error.message));
    child.on("exit", (code, signal) => resolve(code ?? signal));
  });
  clearTimeout(overall);
  clearTimeout(silence);
  clearInterval(progress);
  if (child.pid !== undefined) {
    const left = problems.length > 0 ? [] : await leftBehind(child.pid);
    if (left.length > 0) problems.push(`processes left behind: ${left.join("; ")}`);
    killGroup(child.pid);
    groups.delete(child.pid);
  }
  await new Promise((resolve) => out.end(resolve));

  const tests = readReport(junit);
  const count = (outcome) => tests.filter((test) => test.outcome === outcome).length;
  const leg = {
    name,
    version,
    log,
    tests,
    problems,
    passed: count("passed"),
    failed: count("failed"),
    skipped: count("skipped"),
    seconds: seconds(),
  };
  if (tests.length === 0) problems.push("no test ran");
  if (exit !== 0 && leg.failed === 0 && problems.length === 0) problems.push(`ended with ${exit}`);
  leg.failed += problems.length;
  return leg;
}

function report(leg) {
  const counts = `${leg.passed} passed, ${leg.failed} failed, ${leg.skipped} skipped`;
  if (leg.failed > 0) {
    const lines = readFileSync(leg.log, "utf8").split("\n");
    console.log(`--- ${leg.name}: ${leg.log}${lines.length > 400 ? ", the last 400 lines" : ""}`);
    console.log(lines.slice(-400).join("\n"));
    for (const test of leg.tests) {
      if (test.outcome === "failed") console.log(`--- ${leg.name} failed: ${test.name}`);
    }
    for (const problem of leg.problems) console.log(`--- ${leg.name}: ${problem}`);
  }
  console.log(
    `${leg.failed > 0 ? "FAILED" : "ok"}  ${leg.name} ${leg.version}: ${counts} (${
      leg.seconds.toFixed(1)
    } s)`,
  );
}

/**
 * Finds tests that one runner did not report, because a test ended its process or the runner missed
 * it. Counts one failure for each leg, except for legs that failed as a whole.
 */
function compare(legs) {
  const counted = legs.filter((leg) => leg.tests.length > 0 && leg.problems.length === 0);
  const times = (leg, name) => leg.tests.filter((test) => test.name === name).length;
  const names = [...new Set(counted.flatMap((leg) => leg.tests.map((test) => test.name)))];
  const most = new Map(
    names.map((name) => [name, Math.max(...counted.map((leg) => times(leg, name)))]),
  );
  for (const leg of counted) {
    const missing = names.filter((name) => times(leg, name) < most.get(name));
    if (missing.length === 0) continue;
    const some = missing.slice(0, 10).map((name) => `\n    ${name}`).join("");
    faults.push(`${missing.length} tests of other legs did not run on ${leg.name}:${some}`);
  }
}

/**
 * The test cases of a JUnit report, or none if it is missing. The XML of the three runners differs
 * little.
 */
function readReport(path) {
  let xml;
  try {
    xml = readFileSync(path, "utf8");
  } catch {
    return [];
  }
  return xml.split(/<testcase\s/).slice(1).map((text) => ({
    name: unescape(/\bname="([^"]*)"/.exec(text)?.[1] ?? ""),
    outcome: /<(failure|error)\b/.test(text)
      ? "failed"
      : /<skipped\b/.test(text)
      ? "skipped"
      : "passed",
  }));
}

function unescape(text) {
  const entities = { lt: "<", gt: ">", quot: '"', apos: "'" };
  // Node 20 and 22 escape twice.
  return text.replace(/&(amp;)+/g, "&").replace(/&(lt|gt|quot|apos);/g, (_, name) => entities[name])
    .replace(/&#(x?[0-9a-f]+);/gi, (_, code) => String.fromCodePoint(Number(`0${code}`)));
}

/**
 * The command lines of the processes that still run in a process group two seconds after its leader
 * ended.
 */
async function leftBehind(group) {
  for (let tries = 0;; tries++) {
    const left = readdirSync("/proc").filter((entry) => /^\d+$/.test(entry)).flatMap((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
        const [state, , pgrp] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
        if (Number(pgrp) !== group || state === "Z" || state === "X") return [];
        return [readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim()];
      } catch {
        return [];
      }
    });
    if (left.length === 0 || tries === 20) return left;
    await sleep(100);
  }
}

function killGroup(group) {
  try {
    process.kill(-group, "SIGKILL");
  } catch {
    // The process group has no process any more.
  }
}
