// A web server with four workers of node:cluster under load, below `npm start`: each worker hangs once, one after the other.

import { setTimeout as sleep } from "node:timers/promises";
import { check } from "./counted.mjs";
import { Load } from "./load.mjs";
import { must } from "./shell.mjs";

const count = 4;
/** Time for which a request to a worker that hangs is awaited, in milliseconds. */
const hangMs = 500;
/** Time after the end of a worker in which connections that it had may still fail, in milliseconds. */
const afterMs = 500;
/**
 * Time limit for a request, in milliseconds. A connection that the primary process of Node has handed to a worker that hangs stays
 * open after the end of the worker, and is never answered.
 */
const requestMs = 5000;

/** The project, with Express. `/hang/PID` blocks the event loop of that worker. Any other path answers with the process id. */
export const workerProject = {
  "package.json": JSON.stringify({
    private: true,
    scripts: { start: "node web.js", "start:bun": "bun web.js" },
  }),
  "web.js": [
    'const cluster = require("node:cluster");',
    'const express = require("express");',
    "function hangs() { for (;;); }",
    "if (cluster.isPrimary) {",
    `  for (let number = 0; number < ${count}; number++) cluster.fork();`,
    '  cluster.on("exit", () => cluster.fork());',
    "} else {",
    "  const app = express();",
    '  app.get("/hang/:pid", ({ params }, response) => {',
    "    if (params.pid === String(process.pid)) hangs();",
    "    response.end();",
    "  });",
    "  app.use((request, response) => { response.send(String(process.pid)); });",
    "  app.listen(process.env.PORT);",
    "}",
    "",
  ].join("\n"),
};

/** Sends requests until the worker with this process id has taken one. Resolves to the time at which it hung. */
async function hang(running, url, pid) {
  return await running.until(`hang of worker ${pid}`, async () => {
    const at = Date.now();
    const signal = AbortSignal.timeout(hangMs);
    const headers = { connection: "close" };
    return await fetch(`${url}/hang/${pid}`, { headers, signal }).then(() => 0, () => at);
  });
}

/** Runs `line`, a command line with `sam run --json`, and hangs the first `hangs` workers. `workers` resolves to the watched ones. */
export async function workerScenes({ title, shell, line, cwd, url, workers, isBun, hangs }) {
  await shell.running(line, cwd, async (running) => {
    let load;
    /** Waits until all workers are watched, without those that have ended. */
    const all = (ended) =>
      running.until(`${count} watched workers`, async () => {
        const found = await workers();
        return found.length === count && !found.some((pid) => ended.includes(pid)) && found;
      });
    let pids = [];
    await check(`${title}: the workers are watched`, async () => {
      pids = await all([]);
      load = await Load.start(`${url}/`, requestMs);
      await sleep(afterMs); // each client has its connection
    });
    for (const [number, pid] of pids.slice(0, hangs).entries()) {
      await check(`${title}: worker ${number + 1} hangs, and the others answer`, async () => {
        await load.take();
        const began = await hang(running, url, pid);
        const event = await running.until(
          "event member",
          () => running.events.find((each) => each.type === "member" && each.pid === pid),
        );
        await all(pids.slice(0, number + 1));
        await sleep(afterMs);
        const requests = await load.take();
        must(event.reason === "timeout", `the reason is ${event.reason}`);
        must(isBun || /^at hangs /.test(event.evidence.stack), event.evidence.noStack);
        mustServe(requests, began, event.at, pid, isBun);
      });
    }
    await check(`${title}: no instance was replaced`, () => {
      const types = running.events.map(({ type }) => type);
      must(!types.includes("recovery") && !types.includes("warn"), types.join());
    });
    await load?.end();
    running.terminate();
    await running.ended();
  });
}

/** Between `began` and `ended`, all other workers have answered, and only requests to the worker that hung have failed. */
function mustServe(requests, began, ended, pid, isBun) {
  const during = requests.filter(({ at, ms }) => at >= began + 100 && at + ms <= ended);
  const answers = (body) => during.filter((each) => each.body === body).length;
  const others = [...new Set(during.map(({ body }) => body))].filter((body) => body !== undefined);
  const failed = requests.filter(({ error }) => error !== undefined);
  const [fresh, kept] = [true, false].map((is) => failed.filter((each) => each.fresh === is));
  const text = failed.map(({ fresh, at, ms, error }) =>
    `${fresh ? "new" : "kept"} ${at - began} ms, ${ms} ms: ${error}`
  ).join("\n");
  console.log(
    `        ${during.length} answers during the hang (${
      others.map((each) => answers(each)).join(", ")
    } by worker), ${fresh.length} new and ${kept.length} kept connections failed`,
  );
  must(others.length === count - 1 && !others.includes(String(pid)), `${others} answered`);
  must(others.every((body) => answers(body) >= 5), `a worker answered less than 5 times`);
  const late = failed.filter(({ at }) => at > ended + afterMs);
  must(late.length === 0, `requests failed that began after the end:\n${text}`);
  // Each client that keeps its connection to the hung worker loses one request. The primary process of Node gives it one new
  // connection at most. On Bun, the kernel goes on to give it a quarter of them.
  must(kept.length <= 16, text);
  must(isBun || fresh.filter(({ at }) => at > began + hangMs).length === 0, text);
}
