// The clients of a web server, in a process of their own. Some clients open a new connection for each request, one every `everyMs`
// milliseconds. The others keep their connections, and pause for a moment after each answer. A line on standard input ends the
// load: the least number of requests on new connections. The line "result" has the results.
import { Agent, type ClientRequest, type IncomingMessage, request } from "node:http";
import { createInterface } from "node:readline";
import { addressOf, type ClientKind, type Counts, type Failure } from "../support/clients.ts";
import { wall } from "../support/clock.ts";
import { say, settings, sleep } from "../support/say.ts";

const { port, everyMs, keepAliveClients } = settings;
/** The longest pause of a client that keeps its connection, in milliseconds. Pauses differ, so that the clients are not in step. */
const longestPauseMs = 20;
/** The time limit for one request, in milliseconds. */
const timeoutMs = 3000;
/** The number of failures whose details are reported. */
const mostDetails = 200;

class Tally {
  readonly kind: ClientKind;
  readonly failures: Failure[] = [];
  sent = 0;
  answered = 0;
  refused = 0;
  reset = 0;
  timedOut = 0;
  wrong = 0;
  races = 0;
  longestMs = 0;

  constructor(kind: ClientKind) {
    this.kind = kind;
  }

  get counts(): Counts {
    const { kind: _kind, ...counts } = this;
    return counts;
  }
}

class TimeoutError extends Error {
  readonly code = "timeout";
}

const tallies = { new: new Tally("new"), kept: new Tally("kept") };
let isEnding = false;
let leastNew = 0;

wall(0); // calibrates the clock before the first request
createInterface({ input: process.stdin }).on("line", (line) => {
  leastNew = Number(line);
  isEnding = true;
}).on("close", () => process.exit());

/** The number of clients that keep their connections and have not got an answer yet. */
let unanswered: number = keepAliveClients;
const kept = Array.from({ length: keepAliveClients }, keepAsking);
await openConnections();
await Promise.all(kept);
say("result", { new: tallies.new.counts, kept: tallies.kept.counts });

/** Sends a request on a new connection every `everyMs` milliseconds, whether or not earlier ones have been answered. */
async function openConnections(): Promise<void> {
  const open = new Set<Promise<void>>();
  const began = performance.now();
  for (let nth = 0; !isEnding || tallies.new.sent < leastNew; nth++) {
    const wait = began + nth * everyMs - performance.now();
    if (wait > 0) await sleep(wait);
    const asked = ask(tallies.new, false).then(() => void open.delete(asked));
    open.add(asked);
  }
  isEnding = true;
  await Promise.all(open);
}

async function keepAsking(): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  for (let nth = 0; !isEnding || tallies.new.sent < leastNew; nth++) {
    await ask(tallies.kept, agent);
    if (nth === 0 && --unanswered === 0) say("began");
    await sleep(longestPauseMs * Math.random());
  }
  agent.destroy();
}

/** Sends one request, and resolves at its end. */
function ask(tally: Tally, agent: Agent | false): Promise<void> {
  tally.sent++;
  const from = performance.now();
  const sent = request({ port, agent, host: "127.0.0.1", localAddress: addressOf[tally.kind] });
  const limit = setTimeout(() => sent.destroy(new TimeoutError()), timeoutMs);
  return new Promise((resolve) => {
    let body = "";
    let isOver = false;
    const end = (code: string | undefined) => {
      if (isOver) return;
      isOver = true;
      clearTimeout(limit);
      const took = performance.now() - from;
      tally.longestMs = Math.max(tally.longestMs, took);
      if (code === undefined) tally.answered++;
      else fail(tally, sent, code, body, took);
      resolve();
    };
    sent.on("error", (error: { readonly code?: string }) => end(error.code ?? String(error)));
    sent.on("response", (response: IncomingMessage) => {
      response.setEncoding("utf8").on("data", (text: string) => body += text);
      response.on("error", (error: { readonly code?: string }) => end(error.code ?? String(error)));
      response.on("close", () => {
        if (!response.complete) end("ECONNRESET");
        else end(response.statusCode === 200 ? undefined : `status ${response.statusCode}`);
      });
    });
    sent.end();
  });
}

function fail(tally: Tally, sent: ClientRequest, code: string, body: string, took: number): void {
  const isReset = code === "ECONNRESET" || code === "EPIPE";
  // The server closed the idle connection while this request was on its way to it: nodejs/node#60617.
  if (isReset && sent.reusedSocket && body === "") tally.races++;
  else if (code === "ECONNREFUSED") tally.refused++;
  else if (isReset) tally.reset++;
  else if (code === "timeout") tally.timedOut++;
  else tally.wrong++;
  if (tally.failures.length >= mostDetails) return;
  const at = wall(performance.now());
  tally.failures.push({ at, code, body, took, isReused: sent.reusedSocket });
}
