// Checks of `sam run`: what a check starts goes with it, who is asked is the program itself, and what cannot succeed is refused.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { commandTest } from "./support/command.ts";
import { taggedProcesses } from "./support/leaks.ts";
import { eventually } from "./support/processes.ts";

/** The processes of this test whose command line is `words`. */
function running(words: string): number {
  const line = (pid: number) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1).join(" ");
    } catch {
      return undefined; // it has ended
    }
  };
  return taggedProcesses().filter((pid) => line(pid) === words).length;
}

commandTest("a check that is late is killed with all that it waits for", async (sam) => {
  const often = ["--check-period", "1", "--check-timeout", "400"];
  const limits = ["--startup-timeout", "1s", "--restart", "never"];
  const check = "sleep 299 | cat";
  const run = sam(["run", "--json", ...often, ...limits, "--check-command", check, "sleep", "60"]);
  const { reason, evidence } = await run.event("recovery");
  assertEquals(reason, "startup");
  assertStringIncludes(evidence.detail, `${check} took longer than 400 ms`);
  await run.exited;
  await eventually("no check", () => running("sleep 299") === 0);
});

commandTest("a check that is under way ends with its instance, and with sam", async (sam) => {
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

/** A server of ours, as long as `fn` takes. */
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

commandTest("a redirection is a healthy answer, wherever it leads", async (sam) => {
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
  "a check that can never succeed is refused at the start, and no password is shown",
  async (sam, stage) => {
    const file = `${stage.directory}/sam.config.json`;
    const program = { program: "sleep", args: ["60"], check: {} };
    writeFileSync(file, JSON.stringify({ programs: { web: program } }));
    const refused: readonly (readonly [words: readonly string[], code: number, text: string])[] = [
      [["--check-tcp", "localhost:0", "true"], 64, "a port from 1 to 65535"],
      [["--check-http", "http://user:secret@h/", "true"], 64, "has a user or a password"],
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
