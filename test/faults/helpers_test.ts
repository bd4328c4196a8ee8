// The child processes of a program end with it by default, in any process group; an option keeps them.
import { assert, assertEquals } from "@std/assert";
import { readFileSync } from "node:fs";
import type { SuperviseOptions } from "../../mod.ts";
import { taggedProcesses } from "../support/leaks.ts";
import { eventually, killQuietly, processTest, type Stage } from "../support/processes.ts";

/** Child processes by the argument of their `sleep`: in the program's process group, in their own, and a daemon. */
const children = ["sleep 601", "setsid sleep 602", "setsid -f sleep 603"];
const words = children.map((line) => line.slice(-3));

function living(): number[] {
  return taggedProcesses().filter((pid) => {
    try {
      const [file, word] = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      return file!.endsWith("sleep") && words.includes(word!);
    } catch {
      return false;
    }
  });
}

async function begin(stage: Stage, options: Partial<SuperviseOptions>, behavior = "helpers") {
  const watched = stage.supervise("faults/program", {
    timeInterval: 0,
    recoveryPolicy: "quit",
    ...options,
  }, { args: ["unix", behavior, ...children] });
  const { pid } = await stage.line("started");
  await eventually("the child processes", () => living().length === children.length);
  return { watched, pid };
}

processTest(
  "the child processes of a program that crashes end with it, daemons too",
  async (stage) => {
    const { watched, pid } = await begin(stage, {});
    killQuietly(pid);
    assertEquals((await watched.finished()).code, 137);
    await eventually("the end of the child processes", () => living().length === 0);
  },
);

processTest("the child processes of a program that is killed end with it", async (stage) => {
  const { watched, pid } = await begin(stage, { warnSignal: "SIGKILL" });
  process.kill(pid, "SIGSTOP");
  await watched.supervisor.stop();
  await eventually("the end of the child processes", () => living().length === 0);
});

/** A shell command that makes the standard input of the program a pipe. */
const piped = ["sh", "-c", ': | "$@"', "sh"];
const quits = { SAM_TEST_OPTIONS: JSON.stringify({ recoveryPolicy: "quit" }) };

/** The process group of a process, its session, and the foreground group of its terminal (-1 for no terminal). */
function groupsOf(pid: number) {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ").map(Number);
  return { group: fields[2], session: fields[3], foreground: fields[5] };
}

processTest(
  "if standard input is no terminal, the program leads a process group and a session",
  async (stage) => {
    for (const [nth, within] of [piped, []].entries()) {
      const server = stage.run("faults/program", { within, env: quits });
      const { pid } = await stage.line("started", nth + 1);
      assertEquals(groupsOf(pid), { group: pid, session: pid, foreground: -1 });
      killQuietly(pid);
      assertEquals((await server.exited).code, 137);
    }
  },
);

processTest(
  "at a terminal, the program stays in the foreground, and its child processes end with it, too",
  async (stage) => {
    const [inGroup, , daemon] = children;
    const args = ["unix", "helpers", inGroup!, daemon!];
    const server = stage.runInTerminal("faults/program", { args, env: quits });
    const { pid } = await stage.line("started");
    const { group, foreground } = groupsOf(pid);
    assert(group !== pid, "it leads a group");
    assertEquals(group, foreground);
    await eventually("the child processes", () => living().length === 2);
    killQuietly(pid);
    assertEquals(await server.exited, 137, server.output);
    await eventually("the end of the child processes", () => living().length === 0);
  },
);

processTest('with killMode "process", the child processes go on', async (stage) => {
  const { watched, pid } = await begin(stage, { killMode: "process" });
  killQuietly(pid);
  await watched.finished();
  assertEquals(living().length, children.length);
  for (const each of living()) killQuietly(each);
});

processTest("the child processes of a finalized program go on", async (stage) => {
  const { watched, pid } = await begin(stage, {}, "helpers finalizes");
  await stage.line("finalized");
  killQuietly(pid);
  await watched.finished();
  assert(living().length === children.length);
  for (const each of living()) killQuietly(each);
});
