// `sam run` of a program that uses node:cluster: each worker is watched, and one that hangs is killed alone.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { readdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Command, commandTest, page, runtimeName } from "../support/command.ts";
import { eventually, lives, type Stage } from "../support/processes.ts";
import { freePorts } from "../support/ports.ts";
import { currentRuntime, runtimePath } from "../support/runtimes.ts";

const isBun = runtimeName === "bun";
/** The runtime of the programs. Deno has no node:cluster. */
const below = runtimePath(runtimeName === "deno" ? "node26" : currentRuntime);
const word = isBun ? "bun" : "node";
/** The workers of the program. */
const count = 4;

/** A web server with workers. It knows nothing of SAM, and starts a new worker when one ends. */
const web = `import cluster from "node:cluster";
import { spawnSync } from "node:child_process";
import { createServer } from "node:http";
import process from "node:process";
const foreign = (text) => /SAM_(LINK|MEMBER|WRAPPED)|preload|inspect/.test(text);
const here = () => JSON.stringify([process.env, process.execArgv]);
const atStart = here();
if (cluster.isPrimary) {
  const workers = Number(process.env.WORKERS ?? ${count});
  for (let number = 0; number < workers; number++) cluster.fork();
  const { spawnargs } = Object.values(cluster.workers)[0].process;
  console.log("clean", ![here(), JSON.stringify([cluster.settings, spawnargs])].some(foreign));
  cluster.on("exit", ({ process: { pid } }, code, signal) => {
    console.log("died", pid, code, signal);
    cluster.fork();
  });
  process.on("SIGHUP", () => { for (;;); });
} else {
  createServer(({ url }, response) => {
    if (url.endsWith("/" + process.pid)) console.log("takes", url);
    if (url === "/hang/" + process.pid) hangs();
    if (url === "/exit/" + process.pid) process.exit(3);
    const child = ["-p", "JSON.stringify([process.env, process.execArgv])"];
    const later = () => String(spawnSync(process.execPath, child).stdout);
    const all = () => [atStart, here(), later()].map(foreign);
    response.end(url === "/env" ? JSON.stringify(all()) : String(process.pid));
  }).listen(Number(process.env.PORT), "127.0.0.1", function () { console.log("port", this.address().port); });
}
function hangs() { for (;;); }
`;

/** Writes the program. Returns the environment in which it runs. */
async function project({ directory }: Stage): Promise<Record<string, string>> {
  writeFileSync(
    `${directory}/package.json`,
    JSON.stringify({ scripts: { start: `${word} web.mjs` } }),
  );
  writeFileSync(`${directory}/web.mjs`, web);
  return {
    PATH: `${dirname(below)}:${process.env["PATH"]}`,
    NODE_DISABLE_COMPILE_CACHE: "1", // npm's cache would be left behind
    npm_config_update_notifier: "false",
    // On Bun, workers share a port only if it is not 0.
    PORT: isBun ? String((await freePorts(1))[0]) : "0",
  };
}

const port = async (run: Command) => (await run.text(/port (\d+)\n/))[1]!;

/** The watched workers, as \`sam status\` shows them. */
async function members(
  sam: (words: readonly string[]) => Command,
): Promise<{ readonly pid: number; readonly heartbeatAge: number | null }[]> {
  const status = sam(["status", "--json"]);
  assertEquals(await status.exited, 0, status.stderr);
  return JSON.parse(status.stdout)[0].programs[0].members;
}

/** Waits until all workers are watched, and returns their process ids. */
async function watchedWorkers(
  sam: (words: readonly string[]) => Command,
  without: readonly number[] = [],
): Promise<number[]> {
  const found = await eventually("all workers", async () => {
    const all = (await members(sam)).filter(({ heartbeatAge }) => heartbeatAge !== null);
    return all.length === count && !all.some(({ pid }) => without.includes(pid)) && all;
  });
  return found.map(({ pid }) => pid);
}

/** Repeats a request until the worker with this process id has taken it. */
async function strike(run: Command, at: string, path: string, pid: number): Promise<void> {
  await eventually(`${path} of ${pid}`, async () => {
    // A worker that hangs never answers.
    await Promise.race([page(at, `/${path}/${pid}`), sleep(200)]);
    return run.stdout.includes(`takes /${path}/${pid}\n`);
  });
}

commandTest(
  "each worker of node:cluster that hangs is killed alone, while the others answer",
  async (sam, stage) => {
    const env = await project(stage);
    const options = ["run", "--json", "--time-interval", "2s", "--metrics", "0"];
    const run = sam([...options, word, "web.mjs"], env, stage.directory);
    const at = await port(run);
    await run.text(/clean true\n/);
    const dead: number[] = [];
    const requests: Promise<void>[] = [];
    const workers = await watchedWorkers(sam);
    assertEquals(JSON.parse((await page(at, "/env"))!), [false, false, false]);
    for (const pid of workers) {
      const others = (await watchedWorkers(sam, dead)).filter((each) => each !== pid);
      const event = run.event("member", dead.length + 1);
      await strike(run, at, "hang", pid);
      // Requests do not wait for one another, because on Bun some of them wait for the hung worker.
      const answers: (string | undefined)[] = [];
      while (lives(pid)) {
        requests.push(page(at, "/").then((answer) => void answers.push(answer)));
        await sleep(20);
      }
      const { reason, evidence, pid: killed } = await event;
      assertEquals([killed, reason, evidence.signal], [pid, "timeout", "SIGKILL"]);
      assertEquals(evidence.detail, "no heartbeat for 2000 ms");
      if (isBun) assertMatch(evidence.noStack!, /Bun cannot/);
      else assertStringIncludes(evidence.stack ?? evidence.noStack ?? "", "at hangs (file:");
      for (const other of others) {
        const count = answers.filter((answer) => answer === String(other)).length;
        assert(count > 1, `worker ${other} answered ${count} requests while ${pid} hung`);
      }
      // The primary process gives a hung worker one connection at most. On Bun, the kernel gives it a quarter of them.
      const failed = answers.filter((answer) => answer === undefined).length;
      assert(isBun || failed <= 1, `${failed} of ${answers.length} requests failed`);
      dead.push(pid);
      await run.text(new RegExp(`died ${pid} null SIGKILL\n`));
      await watchedWorkers(sam, dead);
    }
    assertEquals(run.events().filter(({ type }) => type === "recovery" || type === "warn"), []);
    const url = JSON.parse(await output(sam(["status", "--json"])))[0].url;
    const text = (await page(new URL(url).port, "/metrics"))!;
    assertMatch(text, new RegExp(`\nsam_member_active\\{program="${word}"\\} ${count}\n`));
    assertMatch(text, new RegExp(`\nsam_member_killed_total\\{program="${word}"\\} ${count}\n`));
    assertMatch(await output(sam(["status"])), /\n {2}worker +ready +\d+ +\d+ ms\n/);
    assertEquals(run.stderr.includes("but not its child process"), false);
    run.kill("SIGTERM");
    await run.exited;
    await Promise.all(requests);
  },
  { timeoutMs: 120_000 },
);

/** The standard output of a command. */
async function output(command: Command): Promise<string> {
  assertEquals(await command.exited, 0, command.stderr);
  return command.stdout;
}

commandTest(
  "a primary process of node:cluster that hangs is replaced, with all its workers",
  async (sam, stage) => {
    const env = await project(stage);
    const run = sam(
      ["run", "--json", "--time-interval", "1s", word, "web.mjs"],
      env,
      stage.directory,
    );
    const at = await port(run);
    const workers = await watchedWorkers(sam);
    const { pid } = await run.event("spawn");
    process.kill(pid, "SIGHUP");
    assertEquals((await run.event("recovery")).reason, "timeout");
    await eventually("the end of the workers", () => !workers.some(lives));
    const next = await watchedWorkers(sam, workers);
    assertEquals(run.events().filter(({ type }) => type === "member"), []);
    // A worker that ends by itself is the business of the primary process.
    const newPort = (await run.text(/(?:port (\d+)\n[^]*){5}/))[1]!;
    assert(at !== newPort || isBun);
    await strike(run, newPort, "exit", next[0]!);
    await run.text(new RegExp(`died ${next[0]} 3 null\n`));
    await watchedWorkers(sam, [next[0]!]);
    assertEquals(run.events().filter(({ type }) => type === "member"), []);
    run.kill("SIGTERM");
    await run.exited;
  },
  { timeoutMs: 120_000 },
);

commandTest("with observe, a worker that hangs is reported and not killed", async (sam, stage) => {
  const env = await project(stage);
  const line = ["run", "--log", "text", "--observe", "--time-interval", "1s", word, "web.mjs"];
  const run = sam(line, env, stage.directory);
  const at = await port(run);
  const [pid] = await watchedWorkers(sam);
  await strike(run, at, "hang", pid!);
  await run.text(
    new RegExp(
      `worker \\(pid ${pid}\\) of ${word} stopped responding: no heartbeat for 1000 ms; no signal was sent`,
    ),
    "stderr",
  );
  assert(lives(pid!));
  run.kill("SIGTERM");
  await run.exited;
});

commandTest(
  "below npm start, the workers of node:cluster are watched",
  async (sam, stage) => {
    const env = await project(stage);
    const run = sam(
      ["run", "--json", "--time-interval", "1s", "npm", "start"],
      env,
      stage.directory,
    );
    const at = await port(run);
    await run.text(/clean true\n/);
    await run.event("start");
    const [pid] = await watchedWorkers(sam);
    assertEquals(JSON.parse((await page(at, "/env"))!), [false, false, false]);
    await strike(run, at, "hang", pid!);
    assertEquals((await run.event("member")).pid, pid!);
    await watchedWorkers(sam, [pid!]);
    run.kill("SIGTERM");
    await run.exited;
  },
  { timeoutMs: 120_000 },
);

commandTest(
  "a worker of node:cluster that may not read the library, or runs as another user, starts as without SAM",
  async (sam, stage) => {
    const permission = currentRuntime === "node20" ? "--experimental-permission" : "--permission";
    writeFileSync(
      `${stage.directory}/web.mjs`,
      `import cluster from "node:cluster";
      import process from "node:process";
      const here = () => /SAM_(LINK|MEMBER)|preload/.test(JSON.stringify([process.env, process.execArgv]));
      if (cluster.isPrimary) {
        cluster.on("exit", (_worker, code) => console.log("ended", code));
        cluster.fork({ NODE_OPTIONS: "${permission} --allow-fs-read=" + process.cwd() });
        const test = '/pre[l]oad/.test(require("fs").readFileSync("/proc/self/cmdline", "utf8"))';
        const execArgv = ["-e", "process.exit(" + test + " ? 1 : 0)"];
        cluster.setupPrimary({ execArgv, ...process.getuid() === 0 && { uid: 65534 } });
        if (process.getuid() === 0) cluster.fork();
        else console.log("ended 0");
        setInterval(() => {}, 1000);
      } else process.exit(here() ? 1 : 0);`,
    );
    const env = { PATH: `${dirname(below)}:${process.env["PATH"]}` };
    const run = sam(["run", "--json", word, "web.mjs"], env, stage.directory);
    await run.text(/(ended 0[^]*){2}/);
    assertEquals(await members(sam), []);
    run.kill("SIGTERM");
    await run.exited;
  },
  {
    leg: "node20",
    skip: /node2[04]/.test(currentRuntime) ? false : "other versions of Node need other flags",
  },
);

commandTest(
  "a SAM server that was stopped kills no worker of node:cluster afterwards",
  async (sam, stage) => {
    const env = await project(stage);
    const run = sam(
      ["run", "--json", "--time-interval", "1s", word, "web.mjs"],
      env,
      stage.directory,
    );
    await port(run);
    const workers = await watchedWorkers(sam);
    run.kill("SIGSTOP");
    await sleep(3000);
    run.kill("SIGCONT");
    // Each worker sends its next heartbeat, after which nothing is left of the stall.
    await eventually("new heartbeats", async () => {
      const all = await members(sam);
      return all.length === count && all.every(({ heartbeatAge }) => heartbeatAge! < 500);
    });
    assertEquals((await watchedWorkers(sam)).sort(), workers.sort());
    assertEquals(run.events().filter(({ type }) => type === "member"), []);
    run.kill("SIGTERM");
    await run.exited;
  },
);

commandTest(
  "workers that end again and again leave no file descriptor and no directory behind",
  async (sam, stage) => {
    writeFileSync(
      `${stage.directory}/web.mjs`,
      `import cluster from "node:cluster";
      import process from "node:process";
      let left = 50;
      if (cluster.isPrimary) {
        const fork = () => left-- > 0 ? cluster.fork() : left === -4 && console.log("over");
        for (let number = 0; number < ${count}; number++) fork();
        cluster.on("exit", fork);
        setInterval(() => {}, 1000);
      } else setTimeout(() => process.exit(), 20 * (process.pid % 5));`,
    );
    const env = {
      PATH: `${dirname(below)}:${process.env["PATH"]}`,
      TMPDIR: stage.directory,
    };
    const run = sam(["run", "--json", word, "web.mjs"], env, stage.directory);
    await run.event("start");
    const descriptors = () => readdirSync(`/proc/${run.child.pid}/fd`).length;
    await run.text(/over\n/);
    const private_ = () => readdirSync(stage.directory).filter((name) => name.startsWith("sam-"));
    await eventually("an empty directory", () => private_().length === 0);
    assertEquals(await members(sam), []);
    const before = descriptors();
    assert(before < 40, `${before} descriptors`);
    run.kill("SIGTERM");
    await run.exited;
  },
);
