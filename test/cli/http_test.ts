// `sam run --metrics`: metrics, probes and the status page of a running server, and the requests that it refuses.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { writeFileSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { hostname } from "node:os";
import { join } from "node:path";
import { addressOf } from "../../src/cli/command_line/address.ts";
import { type Entry, Journal } from "../../src/cli/serve/journal.ts";
import { PageUpdates } from "../../src/cli/serve/live.ts";
import { pieces, reportAt } from "../../src/cli/serve/page.ts";
import type { ProgramStatus, ServerStatus } from "../../src/cli/control/status.ts";
import { SlackCounter } from "../../src/core/server/slack.ts";
import type { Fleet } from "../../src/supervisor/fleet.ts";
import type { LastRecovery, SamError, SupervisorEvent } from "../../mod.ts";
import { type Command, commandTest } from "../support/command.ts";
import { test } from "../support/harness.ts";
import { type HttpStream, serveHttp } from "../../src/cli/host/http.ts";
import { loadRuntime } from "../../src/runtime/load.ts";
import { eventually } from "../support/processes.ts";
import { emptyRuntime } from "../support/empty_runtime.ts";
import { currentRuntime } from "../support/runtimes.ts";
import { parsePrometheus } from "../support/prometheus.ts";

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

function ask(url: string, path: string, options: object = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request(new URL(path, url), { agent: false, ...options }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text) => body += text);
      response.on(
        "close",
        () => resolve({ status: response.statusCode!, headers: response.headers, body }),
      );
    });
    asked.on("error", reject);
    asked.end();
  });
}

/** Returns the URL of the status page of a `sam run`. */
async function urlOf(run: Command): Promise<string> {
  const [, url] = await run.text(/"type":"listening".*"url":"([^"]+)"/, "stderr");
  return url!;
}

commandTest(
  "metrics and probes of programs that fail, are ready, or are not ready",
  async (sam) => {
    const line = 'trap "exit 7" USR1; while :; do sleep 0.05; done';
    const run = sam(
      ["run", "--json", "--metrics", "0", "--restart-initial-delay", "60s", "--name", "p"]
        .concat(["--", "sh", "-c", line]),
    );
    await run.event("spawn");
    const url = await urlOf(run);
    assertMatch(url, /^http:\/\/127\.0\.0\.1:\d+\/$/);
    const live = await ask(url, "/livez");
    assertEquals([live.status, live.body], [200, "ok\n"]);
    const ready = await ask(url, "/readyz?verbose");
    assertEquals([ready.status, ready.body], [200, "ready: p (launched)\n"]);
    const page = await ask(url, "/metrics");
    assertEquals(page.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    const first = parsePrometheus(page.body);
    assertEquals(first.get('sam_program_state{program="p",state="launched"}'), 1);
    assert(first.get('process_memory_usage_bytes{program="p"}')! > 0);
    assertEquals((await ask(url, "/nothing")).status, 404);

    assertEquals(await sam(["signal", "usr1", "p"]).exited, 0);
    await run.event("recovery");
    const waiting = await ask(url, "/readyz");
    assertEquals([waiting.status, waiting.body], [503, "not ready: p (backoff)\n"]);
    const second = parsePrometheus((await ask(url, "/metrics")).body);
    assertEquals(second.get('sam_restart_count_total{program="p",reason="exit"}'), 1);
    const [status] = JSON.parse(await output(sam(["status", "--json"])));
    assertEquals(status.url, url);
    run.kill("SIGTERM");
    await run.exited;
  },
);

commandTest(
  "a program that was stopped by name does not count as ready, and does not affect the others",
  async (sam, { directory }) => {
    const sleep = { program: "sleep", args: ["60"] };
    const ill = { ...sleep, check: { command: "false" } };
    const late = { ...sleep, after: ["ill"] };
    const file = join(directory, "sam.config.json");
    writeFileSync(file, JSON.stringify({ programs: { worker: sleep, web: sleep, ill, late } }));
    const run = sam(["run", "--json", "--metrics", "0", "--config", file]);
    await run.event("spawn", 1, "web");
    await run.event("spawn", 1, "ill");
    const url = await urlOf(run);
    assertEquals(await sam(["stop", "worker"]).exited, 0);
    const some = await ask(url, "/readyz");
    assertEquals([some.status, some.body.split("\n").slice(0, -1)], [503, [
      "stopped: worker (stopped)",
      "ready: web (launched)",
      "not ready: ill (launched)",
      "not ready: late (pending, waits for ill)",
    ]]);
    assertEquals(await sam(["stop", "ill"]).exited, 0);
    assertEquals(await sam(["stop", "late"]).exited, 0);
    assertEquals((await ask(url, "/readyz")).status, 200);
    assertEquals(await sam(["restart", "worker"]).exited, 0);
    assertMatch((await ask(url, "/readyz")).body, /^ready: worker \(launched\)/);
    assertEquals(await sam(["stop"]).exited, 0);
    await run.exited;
  },
);

commandTest(
  "the status page shows the state, past events and new events, and escapes markup",
  async (sam) => {
    const line = "trap \"echo '<b>&'; exit 7\" USR1; while :; do sleep 0.05; done";
    const run = sam(["run", "--json", "--metrics", "0", "--name", "p", "--stdio", "tee"]
      .concat(["--", "sh", "-c", line]));
    await run.event("spawn");
    const url = await urlOf(run);
    const page = await ask(url, "/");
    assertEquals(page.headers["content-type"], "text/html; charset=utf-8");
    for (const file of ["page.js", "page.css"]) {
      assert(page.body.includes(`"${file}"`) && (await ask(url, file)).status === 200, file);
    }
    assertMatch(page.body, />ready<\/span><h2>p<\/h2>[^]*<b>1<\/b><span>running</);
    const placesOf = (text: string) =>
      [...text.matchAll(/id="([\w-]+)"/g)].map(([, id]) => id!).filter((id) =>
        !/^(p0|lost)$/.test(id)
      );
    const [places, pieces] = [placesOf(page.body), new Map<string, string>()];
    const stream = request(new URL("live", url), { agent: false }, (response) => {
      let rest = "";
      response.setEncoding("utf8").on("data", (text: string) => {
        const messages = (rest + text).split("\n\n");
        rest = messages.pop()!;
        for (const message of messages) {
          const { id, html } = JSON.parse(message.replace(/^data: /, ""));
          pieces.set(id, html);
        }
      });
      response.on("error", () => {}); // sam has ended the connection
    });
    const ended = new Promise((resolve) => stream.on("close", resolve));
    stream.on("error", () => {});
    stream.end();
    await eventually("all pieces", () => pieces.size === places.length);
    assertEquals([...pieces.keys()].sort(), places.sort());
    assertEquals(await sam(["signal", "usr1", "p"]).exited, 0);
    const rows = () => pieces.get("p0-instances")!;
    await eventually("the next instance", () => rows().includes("<b>2</b><span>running<"));
    assertMatch(rows(), /<b>1<\/b><span>exit code 7<.*href="report\/0\/1"/);
    const report = await ask(url, "/report/0/1");
    assertEquals(report.headers["content-type"], "text/plain; charset=utf-8");
    assertMatch(report.body, /ended with exit code 7; [^]*<b>&/);
    assertEquals((await ask(url, "/report/0/2")).status, 404);
    const clock = pieces.get("clock")!;
    await eventually("a sign of life of the page", () => pieces.get("clock") !== clock);
    run.kill("SIGTERM");
    await run.exited;
    await ended;
  },
);

const calm = new SlackCounter(1000).snapshot;

/** Returns the status of a program. */
function programAs(name: string, more: Partial<ProgramStatus> = {}): ProgramStatus {
  const now = { state: "started", ready: true, check: null, pid: 1, instanceId: 1, restarts: 0 };
  const figures = { uptime: 1000, memory: null, heartbeatAge: null, slack: calm, dataSize: 0 };
  const rest = { lastRecovery: null, members: [], spare: null, spawnedAt: null, transport: "unix" };
  return { name, ...now, ...figures, ...rest, ...more } as ProgramStatus;
}

function serverOf(...programs: ProgramStatus[]): ServerStatus {
  return { name: "shop", pid: 1, strategy: "one_for_one", programs };
}

/** Returns the entry for a failure of `program` in the past. */
function failure(
  program: string,
  instanceId: number,
  agoMs: number,
  stack?: string,
  detail = "no heartbeat for 1000 ms",
): Entry {
  const ended = { detail: "", exitCode: 7, signal: null, heartbeatAge: null };
  const silent = { ...ended, detail, exitCode: null, stack };
  const [reason, evidence] = stack ? ["timeout", silent] : ["exit", ended];
  const event = {
    type: "recovery",
    reason,
    evidence,
    delay: 0,
    instanceId,
    at: Date.now() - agoMs,
  };
  return { program, event: event as unknown as SupervisorEvent };
}

const anywhere = { leg: "node24" } as const;

test("the page shows the current instance after the event of its start has been discarded", () => {
  const spawnedAt = Date.now() - 7_200_000;
  const shown = pieces(serverOf(programAs("p", { instanceId: 3, pid: 4711, spawnedAt })), []);
  assertMatch(
    shown.get("p0-instances")!,
    /<b>3<\/b><span>running<\/span><span>since [^,<]+, pid 4711</,
  );
}, anywhere);

test("the report on the last recovery is available after its event has been discarded", () => {
  const entry = failure("p", 3, 0, "at f (/srv/server.js:9:1)");
  const { reason, evidence, delay, at } = entry.event as unknown as LastRecovery;
  const lastRecovery = { reason, evidence, delay, at, instanceId: 3 };
  const status = serverOf(programAs("p", { lastRecovery }));
  assertMatch(pieces(status, []).get("p0-instances")!, /href="report\/0\/3"/);
  assertMatch(reportAt("/report/0/3", status, [])!, /instance 3 [^]*stack:\n.*server\.js:9/);
  for (const path of ["/report/0/2", "/report/1/3", "/report/0/3/", "/report/x/3"]) {
    assertEquals(reportAt(path, status, []), undefined, path);
  }
}, anywhere);

test(
  "each instance has its own report: later exits do not displace the stack trace of the last hang",
  () => {
    let hear = (_program: string, _event: SupervisorEvent) => {};
    const fleet = {
      names: ["p"],
      subscribe: (listener: typeof hear) => hear = listener,
      watchMembers: () => {},
      status: () => programAs("p", { pid: null }),
    };
    const identity = { name: "shop", strategy: "one_for_one" } as const;
    const journal = new Journal(emptyRuntime, fleet as unknown as Fleet, identity);
    const tell = ({ program, event }: Entry) => hear(program, event);
    tell(failure("p", 1, 9000, "at old (/srv/a.js:1:1)"));
    tell(failure("p", 2, 8000, "at slow (/srv/a.js:2:1)"));
    for (let instanceId = 3; instanceId < 1200; instanceId++) tell(failure("p", instanceId, 1000));
    const { status, entries } = journal;
    assertEquals(entries.length, 1000);
    assertMatch(reportAt("/report/0/2", status, entries)!, /at slow/);
    assertMatch(reportAt("/report/0/1199", status, entries)!, /exit code 7/);
    const rows = pieces(status, entries).get("p0-instances")!;
    const shown = [...rows.matchAll(/<b>(\d+)<\/b><span>([^<]+)/g)].map(([, id, how]) =>
      `${id} ${how}`
    );
    const last = Array.from({ length: 20 }, (_, at) => `${1199 - at} exit code 7`);
    assertEquals(shown, [...last, "2 timeout: no heartbeat for 1000 ms"]);
  },
  anywhere,
);

test(
  "programs in trouble come first, also a ready program that has failed in the last minutes",
  () => {
    const status = serverOf(
      programAs("fine"),
      programAs("past"),
      programAs("done", { state: "finished", ready: false }),
      programAs("loops", { restarts: 3 }),
      programAs("ill", { ready: false, check: "failing" }),
      programAs("seen"),
    );
    const detail = "answered 500\nmore";
    const event = { type: "check", healthy: false, detail, at: 0, instanceId: 1 } as const;
    const seen = failure("seen", 1, 1000, "at f");
    const shown = pieces(status, [
      ...[1, 2, 3].map((id) => failure("loops", id, 10_000 * (4 - id))),
      failure("past", 1, 600_000),
      failure("done", 1, 1000),
      { ...seen, event: { ...seen.event, type: "observed" } as SupervisorEvent },
      { program: "ill", event },
    ]);
    assertEquals(shown.get("programs"), "p3 p4 p5 p0 p1 p2");
    assertEquals(shown.get("title"), "(3) shop – sam");
    assertMatch(
      shown.get("summary")!,
      /Needs attention: loops, ill, seen<.* 4 ready, 1 finished, 1 unhealthy$/,
    );
    assertMatch(
      shown.get("p3-row")!,
      /well">ready<.*3 failures in 5 min, last 10 s ago: exit code 7<.*3 restarts/,
    );
    assertMatch(shown.get("p4-row")!, /ill">unhealthy<.*>answered 500</);
    assertMatch(shown.get("p5-row")!, /1 failure in 5 min, .* ago: timeout: no heartbeat/);
    assertMatch(shown.get("p5-instances")!, /still running after a failure: timeout/);
    for (const at of [0, 1, 2]) assert(!/failure/.test(shown.get(`p${at}-row`)!), `${at}`);
    const well = pieces(serverOf(programAs("fine")), []);
    assertMatch(well.get("summary")!, /well">Nothing needs attention<.* 1 ready$/);
    assertEquals(well.get("title"), "shop – sam");
  },
  anywhere,
);

test("near misses take one line if there are none", () => {
  const counter = new SlackCounter(1000);
  const shown = () =>
    pieces(serverOf(programAs("p", { slack: counter.snapshot })), []).get("p0-now")!;
  assert(!shown().includes("near"), shown());
  counter.add(900);
  counter.add(260);
  assertMatch(
    shown(),
    /<p>Near misses: 0 of 2 heartbeats; the closest came 260 ms before its deadline<\/p>$/,
  );
  counter.add(240);
  assertMatch(
    shown(),
    /<p class="ill">Near misses: 1 of 3 heartbeats; .* 240 ms before its deadline<\/p><dl>/,
  );
  counter.add(-20);
  assertMatch(
    shown(),
    />Near misses: 2 of 4 heartbeats; the latest came 20 ms after its deadline</,
  );
  const shares = [...shown().matchAll(/<dt>([^<]*left|late)<\/dt><dd>(\d+)/g)];
  assertEquals(shares.map(([, share, count]) => `${share}: ${count}`), [
    "1/2 or more left: 1",
    "1/4 or more left: 1",
    "1/8 or more left: 1",
    "late: 1",
  ]);
}, anywhere);

async function output(command: Command): Promise<string> {
  assertEquals(await command.exited, 0, command.stderr);
  return command.stdout;
}

commandTest(
  "a server on the loopback interface answers to no foreign host name, and only to GET and HEAD",
  async (sam) => {
    const run = sam(["run", "--json", "--metrics", "localhost:0", "sleep", "60"]);
    const url = await urlOf(run);
    const as = async (host: string) => (await ask(url, "/livez", { headers: { host } })).status;
    assertEquals(await as("evil.example:80"), 421);
    assertEquals(await as("localhost:80"), 200);
    assertEquals(await as("127.0.0.1"), 200);
    assertEquals(await as("[::1]:80"), 200);
    const posted = await ask(url, "/livez", { method: "POST" });
    assertEquals([posted.status, posted.headers.allow], [405, "GET, HEAD"]);
    const head = await ask(url, "/livez", { method: "HEAD" });
    assertEquals([head.status, head.body], [200, ""]);
    assertStringIncludes(String(head.headers["content-security-policy"]), "default-src 'none'");
    run.kill("SIGTERM");
    await run.exited;
  },
);

commandTest(
  "a server on every interface shows the page only under its own names, metrics and probes under any name",
  async (sam) => {
    const run = sam(["run", "--json", "--metrics", "0.0.0.0:0", "sleep", "60"]);
    const url = (await urlOf(run)).replace("0.0.0.0", "127.0.0.1");
    const as = (host: string, path: string) => ask(url, path, { headers: { host } });
    for (const path of ["/", "/live", "/page.js", "/nothing"]) {
      const refused = await as("Evil.example:80", path);
      assertEquals(refused.status, 421, path);
      assertMatch(
        refused.body,
        /"evil\.example".*localhost.*If this name is yours.*--metrics NAME:PORT/,
      );
    }
    for (const own of ["10.0.0.7:80", "[fe80::1]", "localhost:9464", hostname()]) {
      assertEquals((await as(own, "/")).status, 200, own);
    }
    await run.event("spawn"); // before that, /readyz answers 503
    for (const path of ["/metrics", "/livez", "/readyz"]) {
      assertEquals((await as("web:9464", path)).status, 200, path);
    }
    run.kill("SIGTERM");
    await run.exited;
  },
);

/** Requests the endless event stream. */
function reader(url: string): Socket {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.on("error", () => {}); // the server may close the connection
  socket.write("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n");
  return socket;
}

const next = (socket: Socket, event: "data" | "close") =>
  new Promise((resolve) => socket.once(event, resolve));

commandTest(
  "the server accepts 256 connections, and another one after one of them has ended",
  async (sam) => {
    const run = sam(["run", "--json", "--metrics", "0", "sleep", "60"]);
    const url = await urlOf(run);
    const readers = Array.from({ length: 256 }, () => reader(url));
    await Promise.all(readers.map((each) => next(each, "data")));
    const refused = reader(url);
    let said = "";
    refused.on("data", (bytes) => said += bytes);
    await next(refused, "close");
    assertEquals(said, "");
    readers[0]!.destroy();
    await eventually(
      "room",
      async () => (await ask(url, "/livez").catch(() => null))?.status === 200,
    );
    assert(readers.slice(1).every((each) => !each.destroyed));
    run.kill("SIGTERM");
    await Promise.all([run.exited, ...readers.slice(1).map((each) => next(each, "close"))]);
  },
);

test("a client that does not read is disconnected, and the others are not", async () => {
  const names = Array.from("abcdefghijklmnopqrst");
  let [round, happens] = [0, () => {}];
  const journal = {
    status: serverOf(...names.map((name) => programAs(name))),
    get entries() { // rows of the maximal length, and new ones each time
      round += 20;
      return names.flatMap((name) =>
        Array.from({ length: 20 }, (_, at) => failure(name, round + at, 0, "at f", '"'.repeat(200)))
      );
    },
    follow: (follower: () => void) => (happens = follower, () => true),
  };
  const live = new PageUpdates(await loadRuntime(), journal as unknown as Journal);
  const server = await serveHttp("127.0.0.1", 0, () => ({
    status: 200,
    type: "text/event-stream",
    body: (stream) => live.add(stream),
  }));
  const [idle, busy] = [reader(server.url).pause(), reader(server.url)];
  try {
    let [got, told] = [0, 0];
    busy.on("data", ({ length }) => told += length);
    const most = 16 * 2 ** 20; // 4 MiB in the server, and the buffers of the kernel on both sides
    await eventually("full buffers", () => (happens(), told > most));
    idle.on("data", ({ length }) => got += length).resume();
    await next(idle, "close");
    assert(got < most, `${got}`);
    const before = told;
    await eventually("more for the client that reads", () => (happens(), told > before));
    const closed = next(busy, "close");
    server.close();
    await closed;
  } finally {
    server.close();
    for (const each of [idle, busy]) each.destroy();
  }
});

commandTest("a port in use ends the command before any program starts", async (sam) => {
  const other = createServer();
  const port = await new Promise<number>((resolve) =>
    other.listen(0, "127.0.0.1", () => resolve((other.address() as AddressInfo).port))
  );
  const run = sam(["run", "--metrics", `127.0.0.1:${port}`, "sh", "-c", "echo started"]);
  assertEquals([await run.exited, run.stdout], [69, ""]);
  assertStringIncludes(
    run.stderr,
    `cannot listen on 127.0.0.1:${port}: the port is in use by another process. Choose`,
  );
  await new Promise((resolve) => other.close(resolve));
});

test("--metrics takes a host and a port, or a port on the loopback interface", () => {
  const of = (value: unknown) => {
    try {
      const { host, port } = addressOf("--metrics", value);
      return `${host} ${port}`;
    } catch (error) {
      return (error as SamError).code;
    }
  };
  assertEquals(of("9464"), "127.0.0.1 9464");
  assertEquals(of(9464), "127.0.0.1 9464");
  assertEquals(of(":9464"), "127.0.0.1 9464");
  assertEquals(of("0.0.0.0:1"), "0.0.0.0 1");
  assertEquals(of("[::1]:1"), "::1 1");
  assertEquals(of("a.example:65535"), "a.example 65535");
  for (const wrong of ["", "a", "a:65536", "::1:80", "[::1]", -1, 1.5, null]) {
    assertEquals(of(wrong), "INVALID_PARAM", String(wrong));
  }
});

test("a connection carries one stream: requests for another one are refused, and nothing is buffered for them", async () => {
  const streams = new Set<HttpStream>();
  let asked = 0;
  const server = await serveHttp("127.0.0.1", 0, () => {
    asked++;
    return {
      status: 200,
      type: "text/event-stream",
      body(stream) {
        streams.add(stream);
        stream.write("data: 1\n\n");
        stream.onClose(() => streams.delete(stream));
      },
    };
  });
  const port = Number(new URL(server.url).port);
  const client = connect(port, "127.0.0.1");
  try {
    client.write("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(3));
    await new Promise<void>((resolve) => client.once("data", () => resolve()));
    // Deno and Bun read a request only after the response to the one before it has ended.
    if (currentRuntime.startsWith("node")) await eventually("three requests", () => asked === 3);
    assertEquals(streams.size, 1);
    client.destroy();
    await eventually("the end of the stream", () => streams.size === 0);
  } finally {
    client.destroy();
    server.close();
  }
});
