// Sends requests to a server, as its clients do: a new connection every 10 ms, and 16 clients that keep their connections.
// It is a process of its own, so that nothing else delays it. `Load` starts it and asks for its results:
//
//   const load = await Load.start("http://127.0.0.1:8080/");
//   …
//   const requests = await load.take();   // all that began since the last call, when each has its answer
//   await load.end();

import { fork } from "node:child_process";
import { once } from "node:events";
import http from "node:http";
import https from "node:https";
import { fileURLToPath } from "node:url";

const freshEveryMs = 10;
const keepAliveClients = 16;
/** Longest pause of a keep-alive client between two requests. */
const pauseMs = 80;
/** A request without an answer after this time has failed, unless `Load.start` names another limit. */
const usualLimitMs = 30_000;

/**
 * A request that has ended: `fresh` is true for a new connection, `at` is when it began (`Date.now()`), `ms` how long it took.
 * `body` is the text of an answer with status 200. Otherwise `error` says what happened. `isRace` is true if a kept connection
 * was reset before any byte of the answer, as when a server closes it at the same moment (nodejs/node#60617).
 */
export class Load {
  #child;

  constructor(child) {
    this.#child = child;
  }

  /** Starts the process, and resolves when its first request is sent. */
  static async start(url, limitMs = usualLimitMs) {
    const child = fork(fileURLToPath(import.meta.url), [url, String(limitMs)]);
    await once(child, "message");
    return new Load(child);
  }

  /** Resolves to the requests that began since the last call, when all of them have ended. */
  async take() {
    this.#child.send("take");
    const [requests] = await once(this.#child, "message");
    return requests;
  }

  /** Ends the process. */
  async end() {
    this.#child.disconnect();
    await once(this.#child, "exit");
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  sendRequests(process.argv[2], Number(process.argv[3]));
}

function sendRequests(url, limitMs) {
  const client = url.startsWith("https:") ? https : http;
  let ended = [];
  const pending = new Set();

  function request(agent) {
    const one = { fresh: agent === false, at: Date.now() };
    pending.add(one);
    return new Promise((resolve) => {
      const options = { agent, timeout: limitMs, rejectUnauthorized: false };
      const sent = client.get(url, options, (response) => {
        one.status = response.statusCode;
        let body = "";
        response.setEncoding("utf8").on("data", (text) => body += text)
          .on(
            "end",
            () => finish(one.status === 200 ? { body } : { error: `status ${one.status}` }),
          )
          .on("error", (error) => finish({ error: `${error.code} in the answer` }));
      });
      const finish = (outcome) => {
        if (!pending.delete(one)) return;
        ended.push(Object.assign(one, outcome, { ms: Date.now() - one.at }));
        resolve();
      };
      sent.on("timeout", () => sent.destroy(new Error(`no answer in ${limitMs} ms`)));
      sent.on("error", (error) => {
        const isReset = error.code === "ECONNRESET" || error.code === "EPIPE";
        const isRace = isReset && sent.reusedSocket && one.status === undefined;
        finish({ error: error.code ?? error.message, isRace });
      });
    });
  }

  async function keepAlive() {
    const agent = new client.Agent({ keepAlive: true, maxSockets: 1 });
    for (;;) {
      await request(agent);
      await pause();
    }
  }
  const pause = () => new Promise((resolve) => setTimeout(resolve, Math.random() * pauseMs));

  /** Takes what began until now, waits for the rest of it, and goes on meanwhile. */
  async function take() {
    const began = [...ended, ...pending];
    ended = [];
    const mine = new Set(began);
    while (began.some((one) => pending.has(one))) await pause();
    ended = ended.filter((one) => !mine.has(one));
    process.send(began);
  }

  process.on("message", take);
  process.on("disconnect", () => process.exit());
  setInterval(() => request(false), freshEveryMs);
  for (let client = 0; client < keepAliveClients; client++) void keepAlive();
  process.send("started");
}
