// Unchanged web servers behind `--listen`: what their clients notice of restarts, reloads and failed checks.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { readFileSync, writeFileSync } from "node:fs";
import { type Command, commandTest, page, runtimeName } from "../support/command.ts";
import { load } from "../support/load.ts";
import { freePorts } from "../support/ports.ts";
import { eventually, type Stage } from "../support/processes.ts";
import { quickFixture } from "../support/runtimes.ts";

type Sam = (words: readonly string[], env?: Readonly<Record<string, string>>) => Command;

/** The servers: node:http, and that of the runtime. */
const kinds = ["node", "web"];

/** Starts a web server under `sam run`, and waits until its instances are ready. */
async function serve(
  sam: Sam,
  stage: Stage,
  kind: string,
  flags: readonly string[] = [],
  instances = 1,
): Promise<{ readonly port: number; readonly run: Command }> {
  const [port] = await freePorts(1) as [number];
  const run = sam([
    "run",
    "--json",
    "--name=web",
    `--listen=${port}`,
    `--instances=${instances}`,
    `--min-ready=100`,
    ...flags.map((flag) => flag.replaceAll("PORT", String(port))),
    `--runtime=${runtimeName}`,
    quickFixture("supervisor/http_server"),
    String(port),
    kind,
  ], stage.program("supervisor/http_server").env as Record<string, string>);
  await run.event("start", instances);
  await stage.line("listening", instances);
  return { port, run };
}

for (const kind of kinds) {
  const skip = kind === "web" && runtimeName === "node" && "Node has no other server";
  for (const command of ["reload", "restart"]) {
    commandTest(
      `sam ${command} lets a server of ${kind} finish its requests, without a handler of SIGTERM`,
      async (sam, stage) => {
        const { port, run } = await serve(sam, stage, kind);
        const { pid } = await run.event("spawn");
        const slow = page(port, "/slow");
        await stage.line("slow");
        const stream = page(port, "/stream");
        await stage.line("slow", 2);
        assertEquals(await sam([command, "web"]).exited, 0);
        assertEquals([await slow, await stream], [String(pid), `${pid} end`]);
        const { code, signal } = await run.event("exit");
        assertEquals([code, signal], [null, "SIGTERM"]);
        const next = await stage.line("listening", 2);
        assertEquals(await page(port, "/"), String(next.pid));
        assertEquals(run.events().filter(({ type }) => type === "kill"), []);
      },
      { skip },
    );
  }

  commandTest(
    `16 clients with keep-alive notice no restart and no reload of a server of ${kind}`,
    async (sam, stage) => {
      const { port, run } = await serve(sam, stage, kind, [], 2);
      const end = [load(port, 16, { keepAlive: true, pauseMs: 2 })];
      for (const command of ["reload", "restart"]) {
        assertEquals(await sam([command, "web"]).exited, 0);
      }
      await run.event("start", 4);
      for (const each of end) {
        const { answered, raced, failed } = await each();
        // A client may send a request while the server closes the connection: nodejs/node#60617.
        assert(answered > 100 && raced <= 4, `${answered} answered, ${raced} raced`);
        assertEquals(failed, {});
      }
    },
    { timeoutMs: 60_000, skip },
  );

  commandTest(
    `a check by HTTP reaches its instance of a server of ${kind}, and only that one is recovered`,
    async (sam, stage) => {
      const flags = [
        "--check-http=http://127.0.0.1:PORT/healthz",
        "--check-period=100",
        "--startup-timeout=3000",
      ];
      const { run } = await serve(sam, stage, kind, flags, 2);
      for (const name of ["web.1", "web.2"]) await run.event("check", 1, name);
      const { pid } = await run.event("spawn", 1, "web.2");
      stage.go(`ill-${pid}`);
      const { reason, evidence } = await run.event("recovery", 1, "web.2");
      assertEquals(reason, "unhealthy");
      assertMatch(evidence.detail, /healthz answered 500, 3 times in a row$/);
      await run.event("start", 2, "web.2");
      const ill = run.events().filter(({ type, program }) =>
        program === "web.1" && (type === "recovery" || type === "warn")
      );
      assertEquals(ill, []);

      stage.go("ill");
      const reload = sam(["reload", "web.1"]);
      assertEquals(await reload.exited, 1);
      assertStringIncludes(reload.stderr, "/healthz answered 500");
      assertStringIncludes(reload.stderr, "instance 1 stays");
      assertEquals(
        run.events().filter(({ type, program }) => type === "exit" && program === "web.1"),
        [],
      );
    },
    { timeoutMs: 60_000, skip },
  );
}

for (const kind of kinds) {
  commandTest(
    `a server of ${kind} does not see the header of a health check, and its answer to others shows no process id`,
    async (sam, stage) => {
      const { port, run } = await serve(sam, stage, kind);
      const { pid } = await run.event("spawn");
      const check = (id: number) =>
        fetch(`http://127.0.0.1:${port}/headers`, {
          headers: { "sam-check": String(id), connection: "close" },
        });
      const own = await check(pid);
      assertEquals([own.status, await own.text()], [200, "none"]);
      const other = await check(pid + 1);
      assertEquals([other.status, await other.text()], [421, ""]);
      assertEquals(other.headers.get("sam-check"), "misdirected");
    },
    { skip: kind === "web" && runtimeName === "node" && "Node has no other server" },
  );
}

commandTest(
  "no client notices the reload of a server that closes idle connections in its handler of SIGTERM",
  async (sam, stage) => {
    const { port, run } = await serve(sam, stage, "graceful", [], 2);
    const end = [
      load(port, 16, { keepAlive: true, pauseMs: 2 }),
      load(port, 4, { keepAlive: false, pauseMs: 2 }),
      load(port, 16, { keepAlive: false, connectedMs: 100 }),
    ];
    for (let nth = 0; nth < 3; nth++) assertEquals(await sam(["reload", "web"]).exited, 0);
    const results = await Promise.all(end.map((each) => each()));
    assertEquals(results.map(({ failed }) => failed), [{}, {}, {}]);
    for (const { answered, raced } of results) {
      assert(answered > 100 && raced <= 6, `${answered} answered, ${raced} raced`);
    }
    await run.event("exit", 6);
    const exits = run.events().filter(({ type }) => type === "exit") as { code?: number }[];
    assertEquals(exits.map(({ code }) => code), [0, 0, 0, 0, 0, 0]);
    assertEquals(run.events().filter(({ type }) => type === "kill"), []);
  },
  {
    timeoutMs: 60_000,
    skip: runtimeName === "bun" && "a server of Bun closes new connections when it stops accepting",
  },
);

commandTest(
  "a replacement that does not listen on the held address is not taken",
  async (sam, { directory }) => {
    const [held, other] = await freePorts(2) as [number, number];
    const program = `${directory}/web.mjs`;
    const source = (port: number | null) =>
      `import { createServer } from "node:http";
      setInterval(() => {}, 1000);
      ${port === null ? "" : `createServer((_, response) => response.end("ok")).listen(${port});`}`;
    writeFileSync(program, source(held));
    const flags = [`--listen=${held}`, "--min-ready=100", "--startup-timeout=3000"];
    const run = sam(["run", "--json", ...flags, `--runtime=${runtimeName}`, program]);
    await run.event("start");
    await eventually("an answer", async () => await page(held, "/") === "ok");
    for (
      const [port, told] of [
        [null, `did not listen on ${held} within 3000 ms`],
        [other, `did not listen on ${held} within 3000 ms; it listens on ${other}`],
      ] as const
    ) {
      writeFileSync(program, source(port));
      const reload = sam(["reload", "web"]);
      assertEquals(await reload.exited, 1);
      assertStringIncludes(reload.stderr, told);
      assertEquals(await page(held, "/"), "ok");
    }
    writeFileSync(program, source(held));
    assertEquals(await sam(["reload", "web"]).exited, 0);
    assertEquals(await page(held, "/"), "ok");
  },
  { timeoutMs: 60_000 },
);

/** A web server that answers with its version, and writes the header Host of a health check to a file. */
const versioned = (directory: string, port: number, text: string, more = "") =>
  `import { appendFileSync } from "node:fs";
  import { createServer } from "node:http";
  const server = createServer(({ url, headers }, response) => {
    if (url === "/healthz") appendFileSync("${directory}/checks-${text}", headers.host + "\\n");
    response.end("${text} " + own);
  }).listen(${port}, () => { own = server.address().port; ${more} });
  let own;`;

commandTest(
  "a replacement answers its health checks, but accepts no connection before it takes over",
  async (sam, { directory }) => {
    const [port] = await freePorts(1) as [number];
    const program = `${directory}/web.mjs`;
    writeFileSync(program, versioned(directory, port, "one"));
    const url = `http://127.0.0.1:${port}/healthz`;
    const flags = [`--listen=${port}`, "--min-ready=1500", `--check-http=${url}`];
    const run = sam(["run", "--json", ...flags, "--check-period=50", program]);
    await run.event("start");
    const end = load(port, 3, { keepAlive: false });
    try {
      writeFileSync(
        program,
        versioned(directory, port, "bad", "setTimeout(process.exit, 800, 3);"),
      );
      const bad = sam(["reload", "web"]);
      assertEquals(await bad.exited, 1);
      assertStringIncludes(bad.stderr, "; instance 1 stays");

      writeFileSync(program, versioned(directory, port, "two"));
      assertEquals(await sam(["reload", "web"]).exited, 0);
      assertEquals(await page(port, "/"), `two ${port}`);
      const hosts = readFileSync(`${directory}/checks-two`, "utf8").split("\n").slice(0, -1);
      assertEquals([...new Set(hosts)], [`127.0.0.1:${port}`]);
    } finally {
      const { bodies, failed } = await end();
      assertEquals([Object.keys(bodies).sort(), failed], [[`one ${port}`, `two ${port}`], {}]);
    }
    // The next instance of the same supervision accepts connections at once.
    assertEquals(await sam(["restart", "web"]).exited, 0);
    await run.event("start", 2);
    assertEquals(await page(port, "/"), `two ${port}`);
    assertEquals(await sam(["stop"]).exited, 0);
  },
  { timeoutMs: 60_000, skip: runtimeName !== "node" && "only Node can delay accepting" },
);
