// The alternative PM2: a daemon that starts a program again when it has ended.
//
//   node pm2.mjs crash COUNT
//   node pm2.mjs serve PROGRAM SETTINGS
//
// With `crash`, the last line on standard output is a JSON array: the milliseconds from SIGKILL until the first line of the program
// in the next process. PM2 has its default settings, but no delay, no backoff and no restart limit, because these are not part of
// the figure.
//
// With `serve`, two workers run PROGRAM with PM2's default settings. Each line on standard input is a command of PM2, `reload` or
// `restart`. The answer is a line of JSON. The end of standard input, or SIGTERM, ends everything.

import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { install } from "../../test/support/setup.mjs";

const [, , mode, first, second] = process.argv;
if (!(mode === "crash" && Number(first) > 0) && !(mode === "serve" && second !== undefined)) {
  console.error("usage: pm2.mjs crash COUNT, or serve PROGRAM SETTINGS");
  process.exit(2);
}
await install(import.meta.dirname);

const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => stop.abort(new Error(signal)));
}
const home = mkdtempSync(join(tmpdir(), "bench-pm2-"));
const pids = new Set();
const programs = createServer();
let pm2;
try {
  if (mode === "serve") await serve(first, second);
  else console.log(JSON.stringify(await crash(Number(first))));
} catch (error) {
  if (mode !== "serve" || !stop.signal.aborted) throw error;
} finally {
  await tearDown();
}
process.exit(); // PM2's client may have open connections

async function crash(count) {
  const socket = join(home, "program.sock");
  await once(programs.listen(socket), "listening");
  await connect();

  let ready = next();
  await call("start", {
    name: "program",
    script: join(import.meta.dirname, "pm2-program.mjs"),
    args: [socket],
    interpreter: process.execPath,
    cwd: home,
    max_restarts: 1e9, // counts restarts within the minimum uptime, as all of these are
    vizion: false, // no search for a git repository during the start
  });
  let { pid } = await ready;
  const samples = [];
  while (samples.length < count) {
    await sleep(100, undefined, stop); // until the daemon has finished the start, too
    ready = next();
    const killed = performance.timeOrigin + performance.now();
    process.kill(pid, "SIGKILL");
    const message = await ready;
    pid = message.pid;
    samples.push(message.time - killed);
  }
  return samples;
}

async function serve(script, settings) {
  await connect();
  await call("start", {
    name: "web",
    script,
    args: [settings],
    interpreter: process.execPath,
    instances: 2,
    exec_mode: "cluster",
    cwd: home,
    vizion: false,
  });
  console.log(JSON.stringify({ event: "serving" }));
  const lines = createInterface({ input: process.stdin, signal: stop.signal });
  for await (const command of lines) {
    const failed = await call(command, "web").then(() => false, () => true);
    console.log(JSON.stringify({ event: "done", command, failed }));
  }
}

/** Kills the workers and then the daemon, which would wait for a worker that hangs. */
async function killAll() {
  const workers = await call("list");
  // PM2 gives a worker that has ended for good the process id 0, which stands for the process group of this process.
  for (const { pid } of workers) if (pid > 0) pids.add(pid);
  for (const pid of [daemonPid(), ...pids]) signal(pid, "SIGKILL");
}

function daemonPid() {
  return Number(readFileSync(join(home, "pm2.pid"), "utf8"));
}

/** The message of the next process. */
function next() {
  const message = receive();
  message.catch(() => {}); // after another failure, the result is not awaited
  return message;
}

async function receive() {
  const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(60_000)]);
  const [connection] = await once(programs, "connection", { signal });
  connection.on("error", () => {}); // killed
  const [line] = await once(connection, "data", { signal });
  const message = JSON.parse(line);
  pids.add(message.pid);
  return message;
}

/** Connects to a new daemon, without the user's PM2 settings and without reports to PM2's makers. */
async function connect() {
  for (const name of Object.keys(process.env)) {
    if (/^(PM2|KEYMETRICS)_/.test(name)) delete process.env[name];
  }
  process.env.PM2_HOME = home;
  process.env.PM2_NO_INTERACTION = "true";
  process.env.PM2_DISABLE_VERSION_CHECK = "true";
  process.env.PM2_DISCRETE_MODE = "true";
  pm2 = createRequire(import.meta.url)("pm2");
  await call("connect");
}

function call(method, ...args) {
  const limit = sleep(30_000, undefined, { ref: false }).then(() => {
    throw new Error(`pm2.${method}() did not answer for 30 s`);
  });
  return Promise.race([promisify(pm2[method]).call(pm2, ...args), limit]);
}

/** Removes all processes and files, even after a failure and if PM2 does not answer. */
async function tearDown() {
  try {
    pids.add(daemonPid());
  } catch {
    // The daemon did not start.
  }
  const limit = sleep(5000, undefined, { ref: false });
  const end = mode === "serve" ? killAll : () => call("killDaemon");
  if (pm2 !== undefined) await Promise.race([end().catch(() => {}), limit]);
  for (const pid of pids) signal(pid, "SIGKILL");
  programs.close(); // a program that is just starting cannot connect, and ends
  for (let tries = 0; tries < 100 && [...pids].some((pid) => signal(pid, 0)); tries++) {
    await sleep(10);
  }
  rmSync(home, { recursive: true, force: true, maxRetries: 10 });
}

/** Sends a signal. Returns false if the process does not exist. */
function signal(pid, name) {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}
