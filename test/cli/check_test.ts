// Health checks of `sam run`: their processes end with them, redirects are not followed, and impossible checks are refused.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { commandTest } from "../support/command.ts";
import { taggedProcesses } from "../support/leaks.ts";
import { eventually, killQuietly, processTest } from "../support/processes.ts";
import { runtimePath } from "../support/runtimes.ts";

/** Counts the processes of this test whose command line is `words`. */
function running(words: string): number {
  const line = (pid: number) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1).join(" ");
    } catch {
      return undefined; // the process has ended
    }
  };
  return taggedProcesses().filter((pid) => line(pid) === words).length;
}

commandTest(
  "a check that exceeds its timeout is killed, together with the processes that it waits for",
  async (sam) => {
    const often = ["--check-period", "1", "--check-timeout", "400"];
    const limits = ["--startup-timeout", "1s", "--restart", "never"];
    const check = "sleep 299 | cat";
    const run = sam([
      "run",
      "--json",
      ...often,
      ...limits,
      "--check-command",
      check,
      "sleep",
      "60",
    ]);
    const { reason, evidence } = await run.event("recovery");
    assertEquals(reason, "startup");
    assertStringIncludes(evidence.detail, `${check} took longer than 400 ms`);
    await run.exited;
    await eventually("no check", () => running("sleep 299") === 0);
  },
);

commandTest("a running check ends with its instance, and with sam", async (sam) => {
  const patient = ["--check-period", "300s", "--check-timeout", "300s"];
  const check = ["--check-command", "sleep 298; true"];
  const run = sam(["run", "--json", ...patient, ...check, "sleep", "60"]);
  await eventually("the first check", () => running("sleep 298") === 1);
  const { pid } = await run.event("spawn");
  process.kill(pid, "SIGKILL");
  await run.event("spawn", 2);
  await eventually("the second check", () => running("sleep 298") === 1);
  run.kill("SIGTERM");
  await run.exited;
  await eventually("no check", () => running("sleep 298") === 0);
});

/** Listens while `fn` runs. */
async function serving(server: Server, fn: (port: number) => Promise<void>): Promise<void> {
  const port = await new Promise<number>((resolve) =>
    server.listen(0, "127.0.0.1", () => resolve((server.address() as { port: number }).port))
  );
  try {
    await fn(port);
  } finally {
    server.close();
  }
}

/** Opens a port that never answers while `fn` runs: its listener is stopped, and its queue is full. */
async function swallowing(fn: (port: number) => Promise<void>): Promise<void> {
  const listen = "net.createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, " +
    "function () { console.log(this.address().port) })";
  const listener = spawn(runtimePath("node24"), ["-e", listen], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const closed = once(listener, "close");
  const waiting: Socket[] = [];
  try {
    const [chunk] = await once(listener.stdout!, "data");
    const port = Number(chunk);
    process.kill(listener.pid!, "SIGSTOP");
    await eventually("a full queue", async () => {
      const socket = connect({ port, host: "127.0.0.1" }).on("error", () => {});
      waiting.push(socket);
      await eventually("an answer, or none", () => !socket.connecting || unanswered(port) > 0);
      return socket.connecting;
    });
    waiting.pop()!.destroy();
    await eventually("none of ours", () => unanswered(port) === 0);
    await fn(port);
  } finally {
    for (const socket of waiting) socket.destroy();
    killQuietly(listener.pid!);
    await closed;
  }
}

/**
 * Counts the unanswered connections to a port of this machine. The kernel's list is not a snapshot of one moment, so only
 * connections that two readings contain are counted.
 */
function unanswered(port: number): number {
  const remote = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const found = () =>
    readFileSync("/proc/net/tcp", "utf8").split("\n")
      .map((line) => line.trim().split(/ +/))
      .filter(([, , to, state]) => to?.endsWith(remote) && state === "02")
      .map(([, from]) => from);
  const before = found();
  return found().filter((from) => before.includes(from)).length;
}

commandTest("checks of a port that never answers leave no connections behind", async (sam) => {
  await swallowing(async (port) => {
    const often = ["--check-period", "1", "--check-timeout", "200", "--startup-timeout", "3s"];
    const check = ["--check-tcp", `127.0.0.1:${port}`];
    const run = sam(["run", "--json", "--restart", "never", ...often, ...check, "sleep", "60"]);
    const counts: number[] = [];
    const recovery = run.event("recovery");
    while (await Promise.race([recovery.then(() => false), sleep(10, true)])) {
      counts.push(unanswered(port));
    }
    const { reason, evidence } = await recovery;
    assertEquals(reason, "startup");
    const most = Math.max(...counts);
    // On a busy machine, the next checks may start while earlier connections are being closed. A leak would show all fifteen.
    assert(most >= 1 && most <= 4, `${most} at a time`);
    assertStringIncludes(evidence.detail, "no answer within 200 ms");
    await run.exited;
  });
});

processTest("observe: the health check continues after a reported failure", async (stage) => {
  const file = `${stage.directory}/healthy`;
  const watched = stage.supervise({ command: "sleep", args: ["60"] }, {
    recoveryPolicy: "restart",
    observe: true,
    startupTimeout: 100,
    check: { command: `test -e ${file}`, period: 20, failureThreshold: 2 },
  });
  assertEquals((await watched.event("observed")).reason, "startup");
  for (let failures = 1; failures <= 2; failures++) {
    writeFileSync(file, "");
    await eventually("health", () => watched.supervisor.status.ready);
    rmSync(file);
    await eventually("a failure", () => watched.all("observed").length > failures);
    const seen = watched.all("check").length;
    await eventually(
      "more checks, which report none",
      () => watched.all("check").length > seen + 3,
    );
  }
  const reasons = watched.all("observed").map(({ reason }) => reason);
  assertEquals(reasons, ["startup", "unhealthy", "unhealthy"]);
  assertEquals(watched.supervisor.status.ready, false);
});

commandTest(
  "an unhealthy server that answers its warning with exit code 0 is given up with 1",
  async (sam) => {
    let status = 200;
    const headers = { connection: "close" };
    const server = createServer((_request, response) => response.writeHead(status, headers).end());
    await serving(server, async (port) => {
      const often = ["--check-period", "50", "--failure-threshold", "1", "--restart", "never"];
      const check = ["--check-http", `http://127.0.0.1:${port}/`];
      const polite = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"];
      const run = sam(["run", "--json", ...often, ...check, ...polite]);
      assertEquals((await run.event("check")).healthy, true);
      status = 500;
      assertEquals(await run.exited, 1, run.stderr);
      const { evidence } = await run.event("recovery");
      assertEquals(evidence.exitCode, 0);
    });
  },
);

commandTest("a redirection is a healthy answer, whatever its target", async (sam) => {
  const headers = { location: "http://127.0.0.1:1/", connection: "close" };
  const server = createServer((_request, response) => response.writeHead(302, headers).end());
  await serving(server, async (port) => {
    const run = sam(["run", "--json", "--check-http", `http://127.0.0.1:${port}/`, "sleep", "60"]);
    assertEquals((await run.event("check")).healthy, true);
    run.kill("SIGTERM");
    await run.exited;
  });
});

commandTest(
  "a check that can never pass is refused at the start, and its password is not shown",
  async (sam, stage) => {
    const file = `${stage.directory}/sam.config.json`;
    const program = { program: "sleep", args: ["60"], check: {} };
    writeFileSync(file, JSON.stringify({ programs: { web: program } }));
    const refused: readonly (readonly [words: readonly string[], code: number, text: string])[] = [
      [["--check-tcp", "localhost:0", "true"], 64, "a port from 1 to 65535"],
      [["--check-http", "http://user:secret@h/", "true"], 64, "contains a user name or a password"],
      [["--check-http", "http://127.0.0.1:6000/", "true"], 64, "has the port 6000"],
      [["--config", file], 78, "programs.web.check is an object"],
    ];
    for (const [words, code, text] of refused) {
      const run = sam(["run", ...words]);
      assertEquals(await run.exited, code, words.join(" ") + run.stderr);
      assertStringIncludes(run.stderr, text);
      assert(!run.stderr.includes("secret"), run.stderr);
    }
  },
);
