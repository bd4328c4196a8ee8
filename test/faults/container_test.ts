// The server as process 1 of a container, which is a PID namespace of its own.
import { assertEquals } from "@std/assert";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { eventually, lives, processTest } from "../support/processes.ts";

const alone = ["unshare", "--pid", "--fork", "--mount-proc"];
const [unshare, ...flags] = alone;
const skip = spawnSync(unshare!, [...flags, "true"]).status === 0
  ? false
  : "needs root and unshare";

function childrenOf(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
  return children.split(" ").map(Number).filter((child) => child > 0);
}

processTest("as process 1, the server reaps orphans and handles signals", async (stage) => {
  // Each shell leaves an orphan, which ends a little later.
  const orphans = ["setsid -f sleep 1", "setsid -f sleep 1"];
  const { pid, exited, stderr } = stage.run("faults/program", {
    within: alone,
    args: ["unix", "helpers", ...orphans, "setsid -f sleep 604"],
  });
  const started = await stage.line("started");
  const [server] = childrenOf(pid);
  // The guard, the program, and the orphans.
  await eventually("the orphans", () => childrenOf(server!).length === 5);
  await eventually("the end of two", () => childrenOf(server!).length === 3);
  assertEquals(childrenOf(server!).filter(lives).length, 3, stderr());
  process.kill(server!, "SIGTERM");
  assertEquals(await exited, { code: 5, signal: null }, stderr());
  assertEquals([started.pid > 1, stage.lines("registered").length], [true, 1]);
}, { skip });
