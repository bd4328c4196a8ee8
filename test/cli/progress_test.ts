// `sam run --check-progress`: a program whose event loop turns, but whose HTTP requests wait and never finish.
import { assertEquals, assertMatch } from "@std/assert";
import { writeFileSync } from "node:fs";
import { get } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { dirname } from "node:path";
import { type Command, commandTest, page, runtimeName } from "../support/command.ts";
import { freePorts } from "../support/ports.ts";
import { eventually, type Stage } from "../support/processes.ts";
import {
  currentRuntime,
  fixtureFor,
  quickFixture,
  type RuntimeName,
  runtimePath,
} from "../support/runtimes.ts";

type Sam = (words: readonly string[], env?: Readonly<Record<string, string>>) => Command;

const program = quickFixture("supervisor/stuck_server");
const isNode20 = currentRuntime === "node20";

/** The environment of the program, with which it reports to the test. */
const envOf = (stage: Stage) =>
  stage.program("supervisor/stuck_server").env as Record<string, string>;

/** Starts a server of HTTP under `sam run`, and waits until it listens and is ready. */
async function serve(
  sam: Sam,
  stage: Stage,
  kind: string,
  flags: readonly string[] = [],
  words: readonly string[] = [`--runtime=${runtimeName}`, program],
): Promise<{ readonly run: Command; readonly port: number; readonly metrics: number }> {
  const [port, metrics] = await freePorts(2) as [number, number];
  const run = sam([
    "run",
    "--json",
    "--name=web",
    `--metrics=${metrics}`,
    "--check-progress=1s",
    ...flags.map((flag) => flag.replaceAll("PORT", String(port))),
    ...words,
    String(port),
    kind,
  ], envOf(stage));
  await run.event("start");
  await stage.line("listening");
  return { run, port, metrics };
}

/** Sends a request, and leaves it open. Returns a function that aborts it. */
function open(port: number, path: string): () => void {
  const sent = get({ port, path, host: "127.0.0.1", agent: false }, (response) => {
    response.resume().on("error", () => {});
  }).on("error", () => {});
  return () => void sent.destroy();
}

const healthOf = (run: Command, nth: number) => run.event("check", nth);

const oneWaits = (path: string) =>
  new RegExp(
    `^no HTTP request has finished for 1(\\.\\d)? s; the only one that waits: GET ${path}, since \\d(\\.\\d)? s$`,
  );

/** Waits for the report of one request, lets it be answered, and waits for the end of the report. */
async function expectReport(
  sam: Sam,
  stage: Stage,
  { run, port, metrics }: { run: Command; port: number; metrics: number },
  path = "/wait?token=secret",
): Promise<void> {
  const answer = page(port, path);
  const { healthy, detail, action } = await healthOf(run, 1);
  assertEquals([healthy, action], [false, "report"]);
  assertMatch(detail, oneWaits(path.replace(/\?.*/, "")));
  assertEquals(await page(metrics, "/readyz"), "not ready: web (started)\n");
  const status = sam(["status"]);
  await status.exited;
  assertMatch(status.stdout, /^web +unhealthy /m);
  stage.go("answer");
  assertMatch((await answer)!, /^\d+$/);
  assertEquals((await healthOf(run, 2)).healthy, true);
  assertMatch((await page(metrics, "/readyz"))!, /^ready: web/);
  assertEquals(run.events().filter(({ type }) => type === "warn" || type === "exit"), []);
}

const kinds = {
  node: false,
  web: runtimeName === "node" && "Node has no other server",
  own: false,
} as const;

for (const [kind, skip] of Object.entries(kinds)) {
  commandTest(
    `a server of ${kind} is not ready while its requests wait, and is ready when one is answered`,
    async (sam, stage) => {
      const served = await serve(sam, stage, kind);
      await expectReport(sam, stage, served);
    },
    { skip },
  );

  commandTest(
    `streams, upgrades and aborted requests of a server of ${kind} do not count`,
    async (sam, stage) => {
      const { run, port } = await serve(sam, stage, kind);
      const ends = [open(port, "/stream")];
      await stage.line("stream");
      const socket = connect(port, "127.0.0.1").on("error", () => {}).on("data", () => {});
      ends.push(() => void socket.destroy());
      socket.write(
        "GET /socket HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n" +
          "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
      );
      await stage.line("socket");
      const abort = open(port, "/first-wait");
      await stage.line("waits");
      ends.push(open(port, "/last-wait"));
      await stage.line("waits", 2);
      abort();
      const { healthy, detail } = await healthOf(run, 1);
      assertEquals(healthy, false);
      assertMatch(detail, oneWaits("/last-wait"));
      // The last client disconnects.
      for (const end of ends) end();
      assertEquals((await healthOf(run, 2)).healthy, true);
    },
    { skip },
  );
}

commandTest(
  "a route of Bun counts as well",
  async (sam, stage) =>
    await expectReport(sam, stage, await serve(sam, stage, "web"), "/route-wait?token=secret"),
  { skip: runtimeName !== "bun" && "only Bun has routes" },
);

commandTest(
  "a server of HTTP/2 is not ready while its requests wait",
  async (sam, stage) => {
    const { run, port } = await serve(sam, stage, "http2");
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    try {
      const stream = session.request({ ":path": "/wait?token=secret" });
      stream.resume();
      const { detail } = await healthOf(run, 1);
      assertMatch(detail, oneWaits("/wait"));
      stage.go("answer");
      assertEquals((await healthOf(run, 2)).healthy, true);
    } finally {
      session.destroy();
    }
  },
  {
    skip: isNode20
      ? "Node 20 has no diagnostics channel for HTTP/2"
      : runtimeName === "bun" && "Bun has none either",
  },
);

commandTest(
  "with --check-progress-action restart, a program whose requests wait is restarted",
  async (sam, stage) => {
    const { run, port, metrics } = await serve(sam, stage, "node", [
      "--check-progress-action=restart",
    ]);
    const answer = page(port, "/wait?token=secret");
    const { reason, evidence } = await run.event("recovery");
    assertEquals(reason, "unhealthy");
    assertMatch(evidence.detail, oneWaits("/wait"));
    assertEquals((await healthOf(run, 1)).action, "restart");
    assertEquals(await answer, undefined);
    await run.event("start", 2);
    assertMatch((await page(metrics, "/readyz"))!, /^ready: web/);
  },
);

commandTest(
  "with --observe, a program whose requests wait is only reported, and not ready",
  async (sam, stage) => {
    const { run, port, metrics } = await serve(sam, stage, "node", [
      "--check-progress-action=restart",
      "--observe",
    ]);
    const end = open(port, "/wait");
    const { reason, evidence } = await run.event("observed");
    assertEquals(reason, "unhealthy");
    assertMatch(evidence.detail, oneWaits("/wait"));
    assertEquals(await page(metrics, "/readyz"), "not ready: web (started)\n");
    end();
  },
);

commandTest(
  "a check by HTTP that passes does not hide requests that wait, and both must pass",
  async (sam, stage) => {
    const { run, port, metrics } = await serve(sam, stage, "node", [
      "--check-http=http://127.0.0.1:PORT/healthz",
      "--check-period=50",
    ]);
    const { healthy, action } = await healthOf(run, 1);
    assertEquals([healthy, action], [true, undefined]);
    const answer = page(port, "/wait");
    const { detail } = await healthOf(run, 2);
    assertMatch(detail, oneWaits("/wait"));
    assertEquals(await page(metrics, "/readyz"), "not ready: web (started)\n");
    stage.go("answer");
    await answer;
    assertEquals((await healthOf(run, 3)).healthy, true);
    assertMatch((await page(metrics, "/readyz"))!, /^ready: web/);
  },
);

commandTest(
  "a program that starts after another one waits while the requests of that one wait",
  async (sam, stage) => {
    const { directory } = stage;
    const [port] = await freePorts(1) as [number];
    const file = `${directory}/sam.config.json`;
    const idle = { program: "sleep", args: ["60"] };
    const gate = `test -e ${directory}/gate`;
    writeFileSync(
      file,
      JSON.stringify({
        name: "shop",
        programs: {
          web: {
            program,
            runtime: runtimeName,
            args: [port, "node"].map(String),
            check: { progress: 1000 },
          },
          gate: { ...idle, check: { command: gate, period: 50 } },
          worker: { ...idle, after: ["web", "gate"] },
        },
      }),
    );
    const run = sam(["run", "--json", "--config", file], envOf(stage));
    await stage.line("listening");
    await run.event("start", 1, "web");
    const answer = page(port, "/wait");
    assertEquals((await run.event("check", 1, "web")).healthy, false);
    writeFileSync(`${directory}/gate`, "");
    await run.event("check", 1, "gate");
    await eventually("the worker to wait for web only", async () => {
      const status = sam(["status", "worker", "--json"]);
      await status.exited;
      const [{ programs }] = JSON.parse(status.stdout);
      return JSON.stringify(programs[0].waitsFor) === '["web"]';
    });
    stage.go("answer");
    await answer;
    await run.event("spawn", 1, "worker");
    const seen = run.events().filter(({ type, program }) =>
      (type === "check" && program === "web") || (type === "spawn" && program === "worker")
    );
    assertEquals(seen.map(({ type }) => type), ["check", "check", "spawn"]);
    assertEquals(await sam(["stop"]).exited, 0);
    await run.exited;
  },
);

commandTest(
  "the log says that a program is unhealthy, and that it is healthy again",
  async (sam, stage) => {
    const [port] = await freePorts(1) as [number];
    const words = ["run", "--check-progress=1s", `--runtime=${runtimeName}`, program, String(port)];
    const run = sam(words, envOf(stage));
    await stage.line("listening");
    const answer = page(port, "/wait?token=secret");
    await run.text(
      /^sam: stuck_server \(pid \d+\) is unhealthy: no HTTP request has finished for 1\S* s; .*GET \/wait,/m,
      "stderr",
    );
    stage.go("answer");
    await answer;
    await run.text(/^sam: stuck_server \(pid \d+\) is healthy again$/m, "stderr");
    assertEquals(run.stderr.trim().split("\n").length, 2);
  },
);

for (const transport of ["pipe", "shm"]) {
  commandTest(`requests that wait are reported over ${transport}`, async (sam, stage) => {
    await expectReport(sam, stage, await serve(sam, stage, "node", [`--transport=${transport}`]));
  });
}

commandTest(
  "a program without the preload that registers itself is counted",
  async (sam, stage) => {
    await expectReport(sam, stage, await serve(sam, stage, "own", ["--no-preload"]));
  },
);

/** A runtime other than the current one, with its preload. */
const others: readonly RuntimeName[] = ["node26", "deno", "bun"];
for (const other of others) {
  commandTest(
    `requests that wait in a program on ${other} are reported`,
    async (sam, stage) => {
      const name = other.startsWith("node") ? "node" : other;
      const kind = name === "node" ? "node" : "web";
      const env = { PATH: `${dirname(runtimePath(other))}:${process.env["PATH"]}` };
      const words = [
        `--runtime=${name}`,
        fixtureFor(name === "node" ? "node20" : other, "supervisor/stuck_server"),
      ];
      const started: Sam = (all, more) => sam(all, { ...env, ...more });
      await expectReport(sam, stage, await serve(started, stage, kind, [], words));
    },
    { skip: other === currentRuntime && "it is the current runtime" },
  );
}

/** The runtime of the program below a wrapper. Deno has no variable that loads a module into each process. */
const below = runtimeName === "deno" ? "node26" : currentRuntime;
for (const kind of ["node", "web"]) {
  commandTest(
    `requests that wait in a program of ${kind} below a wrapper are reported`,
    async (sam, stage) => {
      const line = `${runtimePath(below)} ${fixtureFor(below, "supervisor/stuck_server")}`;
      await expectReport(
        sam,
        stage,
        await serve(sam, stage, kind, [], ["sh", "-c", `${line} "$@"; exit $?`, "sh"]),
      );
    },
    { skip: kind === "web" && runtimeName !== "bun" && "Node has no other server" },
  );
}

commandTest("--check-progress is refused if SAM cannot count the requests", async (sam) => {
  for (
    const [words, message] of [
      [["--check-progress=30s", "sleep", "60"], /--check-progress has no effect, .* of sleep/],
      [
        ["--check-progress=999ms", program],
        /--check-progress is 999; it must be an integer from 1000/,
      ],
      [["--check-progress-action=restart", program], /needs --check-progress\b/],
    ] as const
  ) {
    const run = sam(["run", ...words]);
    assertEquals(await run.exited, 64);
    assertMatch(run.stderr, message);
  }
});

commandTest(
  "without --check-progress, nothing of the program is replaced",
  async (sam, { directory }) => {
    const file = `${directory}/probe.mjs`;
    writeFileSync(
      file,
      `import { Server } from "node:http";
      import { hasSubscribers } from "node:diagnostics_channel";
      const serve = String((globalThis.Deno ?? globalThis.Bun)?.serve);
      console.log(JSON.stringify([
        hasSubscribers("http.server.request.start"),
        Object.hasOwn(Server.prototype, "emit"),
        /count/.test(serve),
      ]));`,
    );
    for (const [flags, expected] of [[[], false], [["--check-progress=1s"], true]] as const) {
      const run = sam(["run", ...flags, `--runtime=${runtimeName}`, file]);
      assertEquals(await run.exited, 0);
      assertEquals(JSON.parse(run.stdout).includes(true), expected, run.stdout);
    }
  },
);
