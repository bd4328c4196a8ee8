// A program whose event loop turns, but whose requests wait for a real PostgreSQL: `--check-progress` notices that. The connection
// pool of the program has two connections. First, a lock on a table keeps both in use. Then the program itself loses both.
//
//   npm run test:postgres                     needs PostgreSQL; root installs it with apt; skipped elsewhere
//   npm run test:postgres -- node             with a program on this runtime only
//
// The package and the client `pg` are installed in .build/postgres. PostgreSQL runs in a directory of its own, without a port. The
// last line is `N passed, N failed`.

import { spawn } from "node:child_process";
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { installPackages } from "../support/apt.mjs";
import { check, conclude, skipAll } from "../support/counted.mjs";
import { freePort, Installed } from "../support/installed.mjs";
import { install, root, run, runtimePaths, runtimesDir } from "../support/setup.mjs";
import { good, must } from "../support/shell.mjs";

const limitMs = 30_000;
const { values: options, positionals: wanted } = parseArgs({
  allowPositionals: true,
  options: {
    short: { type: "boolean", default: false },
    built: { type: "boolean", default: false },
  },
});

const isRoot = process.getuid() === 0;
const why = await installPackages({ "/usr/lib/postgresql": "postgresql" });
if (why !== undefined) skipAll(why);
const [version] = readdirSync("/usr/lib/postgresql").sort((a, b) => b - a);
const bin = join("/usr/lib/postgresql", version, "bin");
if (!existsSync(join(bin, "postgres"))) skipAll("PostgreSQL is installed without its server");
await install(root);
await install(runtimesDir);

const installed = new Installed(
  "postgres",
  [runtimePaths.node24, runtimePaths.deno, runtimePaths.bun],
);
const { home, cli } = installed;
/** The files of PostgreSQL, which another user owns. */
const directory = mkdtempSync(join(tmpdir(), "sam-postgres-"));
process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
const env = {
  ...Object.fromEntries(Object.entries(installed.env).filter(([name]) => !/^PG/.test(name))),
  PGHOST: directory,
  PGUSER: "postgres",
};

/** PostgreSQL refuses to run as root. */
const asOwner = (file, ...args) => isRoot ? ["setpriv", ...owner, file, ...args] : [file, ...args];
const owner = ["--reuid=postgres", "--regid=postgres", "--clear-groups"];

/** Runs a command of PostgreSQL. */
const inDatabase = async (file, ...args) =>
  (await good(file, args, { env, cwd: directory })).trim();

async function until(what, ask) {
  for (const end = Date.now() + limitMs;; await sleep(50)) {
    const answer = await ask();
    if (answer) return answer;
    must(Date.now() < end, `no ${what()}`);
  }
}

const sql = (text) => inDatabase(join(bin, "psql"), "-Atc", text);

/** Starts PostgreSQL. Returns a function that stops it. */
async function startDatabase() {
  if (isRoot) {
    const ids = await Promise.all(["-u", "-g"].map((flag) => inDatabase("id", flag, "postgres")));
    chownSync(directory, ...ids.map(Number));
  }
  const data = join(directory, "data");
  const [initdb, ...words] = asOwner(join(bin, "initdb"), "--auth=trust", "--no-sync", "-D", data);
  await inDatabase(initdb, ...words, "--username=postgres");
  const [postgres, ...flags] = asOwner(
    join(bin, "postgres"),
    ...["-D", data, "-k", directory],
    ...["-c", "listen_addresses=", "-c", "fsync=off"],
  );
  let output = "";
  const child = spawn(postgres, flags, { env, cwd: directory, stdio: ["ignore", "pipe", "pipe"] });
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => output += text);
  }
  const exited = new Promise((resolve) => child.on("close", resolve));
  await until(() => `PostgreSQL:\n${output}`, () => /ready to accept connections/.test(output));
  await sql("create table orders as select generate_series(1, 3) as id");
  return async () => {
    child.kill("SIGINT");
    await exited;
  };
}

/** Locks the table, so that all that read it wait. Returns a function that ends the lock. */
async function lock() {
  const psql = spawn(join(bin, "psql"), ["-qAt"], { env, stdio: ["pipe", "pipe", "inherit"] });
  const exited = new Promise((resolve) => psql.on("close", resolve));
  let output = "";
  psql.stdout.setEncoding("utf8").on("data", (text) => output += text);
  psql.stdin.write("begin; lock table orders in access exclusive mode; select 'locked';\n");
  await until(() => "lock", () => output.includes("locked"));
  return async () => {
    psql.stdin.end("rollback;\n");
    await exited;
  };
}

/** The program knows nothing of SAM. */
const source = `
import { createServer } from "node:http";
import process from "node:process";
import pg from "pg";
const pool = new pg.Pool({ max: 2 });
pool.on("error", () => {});
const answers = {
  async "/orders"() {
    const client = await pool.connect();
    const { rows } = await client.query("select id from orders");
    client.release();
    return JSON.stringify(rows);
  },
  // Forgets to release its connection if the query fails.
  async "/broken"() {
    const client = await pool.connect();
    await client.query("select id from missing");
    client.release();
  },
  "/healthz": () => "ok",
};
createServer(async ({ url }, response) => {
  try {
    response.end(await answers[url.split("?")[0]]());
  } catch (error) {
    response.writeHead(500).end(String(error));
  }
}).listen(Number(process.env.PORT), "127.0.0.1");
`;

/** Runs the program under `sam run`, and passes `action` the means to observe both. */
async function withProgram(runtime, flags, action) {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const words = ["run", "--name=web", `--runtime=${runtime}`, `--check-http=${url}/healthz`];
  const all = [...words, "--check-period=100", "--check-progress=2s", ...flags];
  const child = spawn(runtimePaths.node24, [cli, ...all, join(home, "web.mjs")], {
    cwd: home,
    env: { ...env, PORT: String(port) },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => output += text);
  }
  const exited = new Promise((resolve) => child.on("close", resolve));
  const program = {
    ask: async (path) => {
      const response = await fetch(`${url}${path}`, { headers: { connection: "close" } });
      return [response.status, await response.text()];
    },
    state: async (word) =>
      await until(() => `state ${word}:\n${output}`, async () => {
        const { output: table } = await run(runtimePaths.node24, [cli, "status"], { env });
        return new RegExp(`^web +${word} `, "m").test(table);
      }),
    said: async (pattern) =>
      await until(() => `${pattern} in:\n${output}`, () => pattern.exec(output)),
  };
  try {
    await program.state("ready");
    await action(program);
  } finally {
    child.kill("SIGTERM");
    await exited;
  }
}

const orders = '[{"id":1},{"id":2},{"id":3}]';
const mustAnswer = ([status, body]) => must(status === 200 && body === orders, `${status} ${body}`);

const stopDatabase = await startDatabase();
try {
  await installed.install(["pg@8"], options.built);
  writeFileSync(join(home, "web.mjs"), source);
  for (const runtime of wanted.length > 0 ? wanted : ["node", "deno", "bun"]) {
    await check(
      `${runtime}: requests that wait for a lock are reported until it ends`,
      () =>
        withProgram(runtime, [], async ({ ask, state, said }) => {
          mustAnswer(await ask("/orders"));
          const unlock = await lock();
          try {
            const waiting = Array.from({ length: 12 }, () => ask("/orders?token=secret"));
            await said(
              /^sam: web \(pid \d+\) is unhealthy: no HTTP request has finished for [23]\S* s; the oldest of 12: GET \/orders, since [23]\S* s$/m,
            );
            await state("unhealthy");
            const [status] = await ask("/healthz");
            must(status === 200, "the event loop does not turn");
            await unlock();
            for (const answer of await Promise.all(waiting)) mustAnswer(answer);
          } finally {
            await unlock();
          }
          await state("ready");
          await said(/^sam: web \(pid \d+\) is healthy again$/m);
        }),
    );

    await check(
      `${runtime}: a program that has lost its connections is restarted`,
      () =>
        withProgram(runtime, ["--check-progress-action=restart"], async ({ ask, state, said }) => {
          mustAnswer(await ask("/orders"));
          for (const [status] of [await ask("/broken"), await ask("/broken")]) {
            must(status === 500, `status ${status}`);
          }
          const lost = ask("/orders").then(() => "answered", () => "lost");
          await said(
            /^sam: web \(pid \d+\) is unhealthy: no HTTP request .*: GET \/orders, since \S+ s; sent SIGTERM$/m,
          );
          must(await lost === "lost", "the request was answered");
          await said(/; instance 2 starts now$/m);
          await state("ready");
          mustAnswer(await ask("/orders"));
        }),
    );
  }
} finally {
  await stopDatabase();
}
await check("no process is left", () => installed.mustHaveLeftNothing(/^web/));
conclude();
