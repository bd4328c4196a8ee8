// The option `log`: who is told what happens, by the server of a program and by supervise().
import { assert, assertEquals, assertMatch } from "@std/assert";
import { spawnSync } from "node:child_process";
import { cpSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { supervise, type SupervisorEvent } from "../mod.ts";
import { processTest } from "./support/processes.ts";
import { currentRuntime, runtimePath } from "./support/runtimes.ts";

const line = "instance 1 ended with exit code 3 (exit); the next one starts at once";

for (const log of ["default", "none", "json", "function", "throws", "rejects"]) {
  processTest(`log: ${log}`, async (stage) => {
    const program = stage.run("log_program", { args: [log] });
    assertEquals(await program.exited, { code: 0, signal: null }, program.stderr());
    const said = program.stderr().trimEnd().split("\n");
    const told = stage.lines("told");
    if (log === "default") assertEquals(said[0], `sam: ${line}`);
    if (log === "none") assertEquals(said, [""]);
    if (log === "json") {
      const events = said.map((text) => JSON.parse(text));
      assertMatch(events[0].program, /log_program|^the program$/); // Deno does not tell
      const types = events.map(({ type }) => type);
      assertEquals([types[0], types.includes("register"), types.at(-1)], ["spawn", true, "finish"]);
      const { reason, evidence } = events.find(({ type }) => type === "recovery");
      assertEquals([reason, evidence.exitCode], ["exit", 3]);
    }
    if (log === "function") {
      assertEquals(said, [""]);
      assertEquals([...new Set(told.map(({ pid }) => pid))], [program.pid]);
      assertEquals(told.find(({ type }) => type === "recovery")!["lines"][0], line);
      assertEquals([told[0]!["type"], told.at(-1)!["type"]], ["spawn", "finish"]);
    }
    if (log === "throws" || log === "rejects") {
      const what = `sam: the function log failed: Error: no ${log === "throws" ? "paper" : "ink"}`;
      assertEquals([...new Set(said)], [what]);
    }
  });
}

processTest("log: of supervise(), which says nothing where it is not asked", async () => {
  const program = { command: "sh", args: ["-c", "exit 3"] };
  const told: SupervisorEvent[] = [];
  const lines: string[] = [];
  await supervise(program, {
    recoveryPolicy: "quit",
    log(event, more) {
      told.push(event);
      lines.push(...more);
    },
  }).finished;
  assertEquals(told.map(({ type }) => type), ["spawn", "exit", "recovery", "finish"]);
  assertEquals(lines, ["instance 1 ended with exit code 3 (exit); none follows"]);

  const written: unknown[] = [];
  const { error } = console;
  console.error = (text: unknown) => void written.push(text);
  try {
    await supervise(program, { recoveryPolicy: "quit", log: "text" }).finished;
    const own = written.splice(0);
    await supervise(program, { recoveryPolicy: "quit" }).finished;
    assertEquals(own, ["sam: sh: instance 1 ended with exit code 3 (exit); none follows"]);
    assertEquals(written, []);
    await supervise({ command: "/no/such" }, { recoveryPolicy: "quit", log: "text" }).finished;
    assert(String(written).startsWith("sam: /no/such: cannot start"), String(written));
  } finally {
    console.error = error;
  }
});

processTest("a server whose log cannot be loaded says so, and goes on", (stage) => {
  const extension = import.meta.url.slice(import.meta.url.lastIndexOf("."));
  for (const part of ["src", "transports", `mod${extension}`]) {
    const from = fileURLToPath(new URL(`../${part}`, import.meta.url));
    cpSync(from, `${stage.directory}/${part}`, { recursive: true });
  }
  rmSync(`${stage.directory}/src/log${extension}`);
  writeFileSync(`${stage.directory}/package.json`, '{ "type": "module" }');
  const program = `${stage.directory}/program${extension}`;
  const options = '{ recoveryPolicy: "quit", timeInterval: 0, log: "text" }';
  writeFileSync(
    program,
    `import { supervise } from "./mod${extension}";
    const { finished } = supervise({ command: "sh", args: ["-c", "exit 3"] }, ${options});
    console.log((await finished).code);`,
  );
  const flags = currentRuntime === "deno" ? ["run", "-A", "--no-check"] : [];
  const { stdout, stderr, status } = spawnSync(
    runtimePath(currentRuntime),
    [...flags, program],
    { encoding: "utf8" },
  );
  assertEquals([status, stdout], [0, "3\n"], stderr);
  assertMatch(stderr, /^sam: sh: its events are not told: .+$/m);
  return Promise.resolve();
});
