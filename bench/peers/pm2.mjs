// The alternative PM2: a daemon that starts a program again when it has ended.
//
//   node pm2.mjs crash COUNT
//
// The last line on standard output is a JSON array: the milliseconds from SIGKILL until the first line of the program in the next
// process. PM2 has its default settings, but no delay, no backoff and no restart limit, because these are not part of the
// figure.

import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { install } from "../../test/support/setup.mjs";

const [, , mode, count] = process.argv;
if (mode !== "crash" || !(Number(count) > 0)) {
  console.error("usage: pm2.mjs crash COUNT");
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
  const samples = await crash(Number(count));
  console.log(JSON.stringify(samples));
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
    pids.add(Number(readFileSync(join(home, "pm2.pid"), "utf8")));
  } catch {
    // The daemon did not start.
  }
  const limit = sleep(5000, undefined, { ref: false });
  if (pm2 !== undefined) await Promise.race([call("killDaemon").catch(() => {}), limit]);
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
