// The alternative for a program on Node: node:cluster, with a new fork() on each 'exit' event.
//
//   node cluster.mjs crash COUNT RESIDENT_MIB [MODULE]
//   node cluster.mjs serve PROGRAM SETTINGS
//
// With `crash`, the last line on standard output is a JSON array: the milliseconds from SIGKILL until the next worker is ready. A
// worker is ready when it has imported MODULE, if it is given, and filled RESIDENT_MIB of memory. With `serve`, two workers run
// PROGRAM until SIGTERM.

import cluster from "node:cluster";
import { once } from "node:events";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

/** Milliseconds since 1970, which all processes share. */
const now = () => performance.timeOrigin + performance.now();

if (cluster.isWorker) {
  const [, , , , mib, module] = process.argv;
  if (module !== undefined) await import(pathToFileURL(resolve(module)));
  const memory = Buffer.alloc(Number(mib) * 2 ** 20, 1); // the kernel allocates no memory for pages of zeros
  process.send(now());
  setInterval(() => memory.length, 2 ** 30); // keeps the memory in use and the process running
} else {
  const [, , mode, first, second] = process.argv;
  if (mode === "serve" && second !== undefined) serve(first, second);
  else if (mode === "crash" && Number(first) > 0 && Number(second) >= 0) await crash(Number(first));
  else {
    console.error(
      "usage: cluster.mjs crash COUNT RESIDENT_MIB [MODULE], or serve PROGRAM SETTINGS",
    );
    process.exit(2);
  }
}

function serve(program, settings) {
  cluster.setupPrimary({ exec: program, args: [settings] });
  cluster.on("exit", () => cluster.fork());
  for (let worker = 0; worker < 2; worker++) cluster.fork();
  process.on("SIGTERM", () => {
    for (const worker of Object.values(cluster.workers)) worker.process.kill("SIGKILL");
    process.exit();
  });
}

async function crash(count) {
  // The module may print, so its standard output goes to standard error.
  cluster.setupPrimary({ stdio: ["ignore", 2, 2, "ipc"] });
  const restart = (_worker, code, signal) => {
    if (signal !== "SIGKILL") throw new Error(`worker ended by itself: ${signal ?? code}`);
    cluster.fork();
  };
  cluster.on("exit", restart);

  const samples = [];
  const next = () => once(cluster, "message", { signal: AbortSignal.timeout(60_000) });
  cluster.fork();
  let [worker] = await next();
  while (samples.length < count) {
    await sleep(20); // until the primary has finished the start, too
    const ready = next();
    const killed = now();
    worker.process.kill("SIGKILL");
    let time;
    [worker, time] = await ready;
    samples.push(time - killed);
  }
  cluster.off("exit", restart);
  worker.process.kill("SIGKILL");
  await once(worker, "exit");
  console.log(JSON.stringify(samples));
}
