// `sam run --metrics`: metrics, probes and the status page of a server that runs, and who may read them.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { writeFileSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { addressOf } from "../src/cli/address.ts";
import { pieces } from "../src/cli/page.ts";
import type { ServerStatus } from "../src/cli/status.ts";
import { SlackCounter } from "../src/core/slack.ts";
import type { LastRecovery, SamError } from "../mod.ts";
import { type Command, commandTest } from "./support/command.ts";
import { test } from "./support/harness.ts";
import { type HttpStream, serveHttp } from "../src/runtime/http.ts";
import { eventually } from "./support/processes.ts";
import { currentRuntime } from "./support/runtimes.ts";
import { parsePrometheus } from "./support/prometheus.ts";

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

/** Where a `sam` listens. */
async function urlOf(run: Command): Promise<string> {
  const [, url] = await run.text(/"type":"listening".*"url":"([^"]+)"/, "stderr");
  return url!;
}

commandTest("metrics and probes of programs that fail, are ready, and are not", async (sam) => {
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
});

commandTest(
  "the status page: what is, what was, and what comes, as text without markup",
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
    assertMatch(page.body, /<h2>p<\/h2>[^]*>launched<[^]*<td>lives<[^]*none yet/);
    const placesOf = (text: string) => [...text.matchAll(/id="(p0-\w+)"/g)].map(([, id]) => id);
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
      response.on("error", () => {}); // sam has ended
    });
    const ended = new Promise((resolve) => stream.on("close", resolve));
    stream.on("error", () => {});
    stream.end();
    await eventually("all pieces", () => pieces.size === places.length);
    assertEquals([...pieces.keys()], places);
    assertEquals(await sam(["signal", "usr1", "p"]).exited, 0);
    await eventually("the next instance", () => pieces.get("p0-instances")!.includes("<td>2</td>"));
    assertMatch(pieces.get("p0-instances")!, /<td>lives<\/td>[^]*<td>1<\/td>[^]*<td>exit<\/td>/);
    assertMatch(pieces.get("p0-report")!, /ended with exit code 7 \(exit\)[^]*&lt;b&gt;&amp;/);
    run.kill("SIGTERM");
    await run.exited;
    await ended;
  },
);

test("the present instance outlives the event of its start", () => {
  const slack = new SlackCounter(0).snapshot;
  const now = { instanceId: 3, pid: 4711, spawnedAt: Date.now() - 7_200_000 };
  const program = { ...now, slack, lastRecovery: null };
  const shown = pieces({ programs: [program] } as unknown as ServerStatus, []);
  assertMatch(shown.get("p0-instances")!, /<td>3<\/td><td>4711<\/td>.*<td>[^<]+<\/td><td>lives/);
});

test("the report on the last recovery outlives its event", () => {
  const lastRecovery: LastRecovery = {
    reason: "timeout",
    at: Date.now(),
    instanceId: 3,
    evidence: {
      detail: "",
      exitCode: null,
      signal: "SIGTERM",
      heartbeatAge: 510,
      stack: "at f (/srv/server.js:9:1)",
    },
    delay: 0,
  };
  const reportOf = (lastRecovery: LastRecovery | null) => {
    const program = { lastRecovery, slack: new SlackCounter(0).snapshot };
    return pieces({ programs: [program] } as unknown as ServerStatus, []).get("p0-report")!;
  };
  assertMatch(
    reportOf(lastRecovery),
    /instance 3 ended by SIGTERM \(timeout\); the next one starts at once[^]*it was\n.*server\.js:9/,
  );
  assertEquals(reportOf(null), "<p>none yet</p>");
});

async function output(command: Command): Promise<string> {
  assertEquals(await command.exited, 0, command.stderr);
  return command.stdout;
}

commandTest(
  "a server on the loopback interface answers to no other name, and only reads",
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

/** Asks for what goes on without end. */
function reader(url: string): Socket {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.on("error", () => {}); // it is closed, too
  socket.write("GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n");
  return socket;
}

const next = (socket: Socket, event: "data" | "close") =>
  new Promise((resolve) => socket.once(event, resolve));

commandTest("there are 256 connections, and another when one of them has ended", async (sam) => {
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
});

commandTest(
  "a reader who does not read is cut off, and nobody else",
  async (sam, { directory }) => {
    // Reports of 48 KiB, as long as they can be, many times a second.
    const output = join(directory, "output");
    writeFileSync(output, '"'.repeat(8192));
    const fails = { program: "sh", args: ["-c", 'cat "$0"; exit 1', output], stdio: "tee" };
    const config = join(directory, "sam.config.json");
    const restart = { intensity: 1_000_000, maxDelay: 0 };
    const programs = Object.fromEntries(
      Array.from("abcdefgh", (name) => [name, { ...fails, restart }]),
    );
    writeFileSync(config, JSON.stringify({ programs }));
    const run = sam(["run", "--json", "--metrics", "0", "--config", config]);
    const url = await urlOf(run);
    const [idle, busy] = [reader(url).pause(), reader(url)];
    let [got, told] = [0, 0];
    busy.on("data", ({ length }) => told += length);
    const most = 16 * 2 ** 20; // 4 MiB here, and what the kernel keeps for both sides
    await eventually("all that can wait", () => told > most);
    idle.on("data", ({ length }) => got += length).resume();
    await next(idle, "close");
    assert(got < most, `${got}`);
    const before = told;
    await eventually("more for who reads", () => told > before);
    run.kill("SIGTERM");
    await Promise.all([run.exited, next(busy, "close")]);
  },
);

commandTest("a port that is taken ends the command before anything is started", async (sam) => {
  const other = createServer();
  const port = await new Promise<number>((resolve) =>
    other.listen(0, "127.0.0.1", () => resolve((other.address() as AddressInfo).port))
  );
  const run = sam(["run", "--metrics", `127.0.0.1:${port}`, "sh", "-c", "echo started"]);
  assertEquals([await run.exited, run.stdout], [69, ""]);
  assertStringIncludes(run.stderr, `cannot listen on 127.0.0.1:${port}`);
  await new Promise((resolve) => other.close(resolve));
});

test("where to listen: a host and a port, or a port of the loopback interface", () => {
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

test("a connection has one stream: what asks for another behind it is refused, and kept by nothing", async () => {
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
    // Deno and Bun look at a request when the one before it is answered.
    if (currentRuntime.startsWith("node")) await eventually("three requests", () => asked === 3);
    assertEquals(streams.size, 1);
    client.destroy();
    await eventually("the end of the stream", () => streams.size === 0);
  } finally {
    client.destroy();
    server.close();
  }
});
