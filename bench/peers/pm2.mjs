// What many take instead: PM2, a daemon that starts a program again when it has died.
//
//   node pm2.mjs crash COUNT
//
// The last line on stdout is a JSON array: the ms from SIGKILL until the first line of the program in the next
// process. PM2 is as it comes, but for its brakes: no delay, no backoff, no limit of restarts, none of which should
// be part of the figure.

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
process.exit(); // whatever PM2's client still has open

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
    max_restarts: 1e9, // in less than its minimal uptime, that is: all of these
    vizion: false, // does not look for a git repository, for its list, while the program starts
  });
  let { pid } = await ready;
  const samples = [];
  while (samples.length < count) {
    await sleep(100, undefined, stop); // the start is over, in the daemon too
    ready = next();
    const killed = performance.timeOrigin + performance.now();
    process.kill(pid, "SIGKILL");
    const message = await ready;
    pid = message.pid;
    samples.push(message.time - killed);
  }
  return samples;
}

/** What the next process says of itself. */
function next() {
  const message = hear();
  message.catch(() => {}); // if nobody waits any more: something else has failed first
  return message;
}

async function hear() {
  const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(60_000)]);
  const [connection] = await once(programs, "connection", { signal });
  connection.on("error", () => {}); // killed
  const [line] = await once(connection, "data", { signal });
  const message = JSON.parse(line);
  pids.add(message.pid);
  return message;
}

/** The client of a daemon of our own: no setting of the user's applies, and nobody is told of it. */
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
    throw new Error(`pm2.${method}: no answer`);
  });
  return Promise.race([promisify(pm2[method]).call(pm2, ...args), limit]);
}

/** Also after a failure, and if PM2 does not answer: no process stays, and no file. */
async function tearDown() {
  try {
    pids.add(Number(readFileSync(join(home, "pm2.pid"), "utf8")));
  } catch {
    // No daemon came up.
  }
  const limit = sleep(5000, undefined, { ref: false });
  if (pm2 !== undefined) await Promise.race([call("killDaemon").catch(() => {}), limit]);
  for (const pid of pids) signal(pid, "SIGKILL");
  programs.close(); // a program that is just starting finds nobody, and ends
  for (let tries = 0; tries < 100 && [...pids].some((pid) => signal(pid, 0)); tries++) {
    await sleep(10);
  }
  rmSync(home, { recursive: true, force: true, maxRetries: 10 });
}

/** Whether there was such a process. */
function signal(pid, name) {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}
