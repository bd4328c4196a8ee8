// Text from a program is safe to show on a terminal: its control characters are escaped.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import type { SupervisorEvent } from "../../mod.ts";
import type { Output } from "../../src/cli/host/host.ts";
import type { ServerStatus } from "../../src/cli/control/status.ts";
import { table } from "../../src/cli/ask/table.ts";
import { SlackCounter } from "../../src/core/server/slack.ts";
import { logger } from "../../src/supervisor/log.ts";
import { report } from "../../src/supervisor/report.ts";
import { commandTest } from "../support/command.ts";
import { test } from "../support/harness.ts";

/** Sets the title of a terminal, clears the screen, and overwrites a line. `\x9b` starts a control sequence in one character. */
const hostile = "a\x1b]0;title\x07b\x1b[2Jc\rd\x7f\x9b2J";
const escaped = "a\\x1b]0;title\\x07b\\x1b[2Jc\\x0dd\\x7f\\x9b2J";
/** Output that forges a log line of sam. */
const forged = `${hostile}\nsam: all is well`;
const control = /(?![\t\n])\p{Cc}/u;

const evidence = {
  detail: forged,
  exitCode: 1,
  signal: null,
  heartbeatAge: 1,
  stack: forged,
  noStack: hostile,
  note: { text: forged, age: 1 },
  output: [hostile],
};
const error = { code: "LIBRARY", message: forged };
const details: readonly object[] = [
  { type: "warn", reason: "unhealthy", detail: forged, signal: "SIGTERM" },
  { type: "observed", reason: "unhealthy", evidence },
  { type: "recovery", reason: "unhealthy", evidence, delay: 0 },
  { type: "recovery", reason: "startup", evidence: { ...evidence, exitCode: null }, delay: 0 },
  { type: "failed", reason: "unhealthy", evidence },
  { type: "finish", status: { error } },
  { type: "fallback", side: "program", detail: forged },
  { type: "problem", error },
];

test("the report on each event escapes the control characters in text from the program", () => {
  for (const detail of details) {
    const event = { ...detail, at: 0, instanceId: 1 } as unknown as SupervisorEvent;
    const written: string[] = [];
    const names = { name: hostile, prefix: `${hostile}: ` };
    logger("text", hostile, names, (line) => written.push(line))(event);
    const reported = report(event, { name: hostile });
    for (const line of [...reported, ...written]) {
      assert(!control.test(line) && !line.includes("\n"), JSON.stringify(line));
    }
    const [first, ...rest] = written;
    assert(first?.startsWith(`sam: ${escaped}`), first);
    assert(rest.every((line) => line.startsWith("sam:   ")), rest.join("\n"));
    assertStringIncludes(reported.join("\n"), escaped);
  }
});

test("text that is harmless to a terminal is shown unchanged", () => {
  const output = ["\tKöln 東京 🙂 \\x1b"];
  const event = { type: "recovery", reason: "exit", at: 0, instanceId: 1, delay: 0 };
  const shown = report({ ...event, evidence: { ...evidence, output } } as SupervisorEvent);
  assertEquals(shown.at(-1), `    ${output[0]}`);
});

test("the table of programs escapes the control characters in names", () => {
  const program = { name: hostile, slack: new SlackCounter(0).snapshot, state: "started" };
  const now = { uptime: null, heartbeatAge: null, memory: null, lastRecovery: null };
  const servers = [{ name: "s", programs: [{ ...program, ...now }] }];
  const text = table(servers as unknown as ServerStatus[], { isTerminal: false } as Output);
  assert(!control.test(text), JSON.stringify(text));
  assertStringIncludes(text, escaped);
});

commandTest(
  "the log and sam events escape the output of checks and programs; JSON contains it unchanged",
  async (sam) => {
    const [said, shown] = ["\x1b[31mred\x1b[0m\rover", "\\x1b[31mred\\x1b[0m\\x0dover"];
    const run = sam(
      ["run", "--name", "p", "--stdio", "tee", "--check-command", `: '${said}'; exit 1`]
        .concat(["--startup-timeout", "100ms", "--restart-initial-delay", "60s"])
        .concat(["--", "sh", "-c", `echo '${said}'; sleep 60`]),
    );
    await run.text(/last output:\n.*\n/, "stderr");
    const log = run.stderr.split("\n").filter((line) => line.startsWith("sam: "));
    assert(!control.test(log.join("\n")), JSON.stringify(log));
    assertEquals(log.filter((line) => line.includes(shown)).length, 2, JSON.stringify(log));
    for (const [command, times] of [["events", 1], ["status", 0]] as const) {
      const asked = sam([command, "p"]);
      assertEquals(await asked.exited, 0, asked.stderr);
      assert(!control.test(asked.stdout), JSON.stringify(asked.stdout));
      assertEquals(asked.stdout.split(shown).length - 1, times, asked.stdout);
    }
    const json = sam(["events", "p", "--json"]);
    assertEquals(await json.exited, 0, json.stderr);
    const events = json.stdout.split("\n").slice(0, -1).map((line) => JSON.parse(line));
    const { evidence } = events.find(({ type }) => type === "recovery");
    assertEquals(evidence.output, [said]);
    assertStringIncludes(evidence.detail, said);
    run.kill("SIGTERM");
    await run.exited;
  },
);
