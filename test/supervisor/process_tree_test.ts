// The processes of an instance on a runtime in memory: the processes that its signals reach, and those that cannot be killed.
import { assertEquals } from "@std/assert";
import type { Problem } from "../../src/core/server/types.ts";
import type { Signal } from "../../src/core/signals.ts";
import { SamError } from "../../src/errors.ts";
import { ProcessTree } from "../../src/supervisor/instance/process_tree.ts";
import type { Child } from "../../src/runtime/runtime.ts";
import { emptyRuntime } from "../support/empty_runtime.ts";
import { test } from "../support/harness.ts";

/** Process 1 was spawned; each other has a parent. `denies` refuses every signal. */
function treeOf(parents: Map<number, number>, denies = false) {
  const sent: string[] = [];
  const unkillable: Problem[] = [];
  const problems: string[] = [];
  const kill = (pid: number, signal: Signal) => {
    if (denies) throw new SamError("ACCESS", "the process runs as another user");
    sent.push(`${signal} ${pid}`);
  };
  const runtime = {
    ...emptyRuntime,
    kill,
    systemText(path: string) {
      const pid = Number(path.split("/")[2]);
      const parent = parents.get(pid);
      return path.endsWith("/stat") && parent !== undefined
        ? `${pid} (a) S ${parent} ${"0 ".repeat(17)}${pid} 0`
        : undefined;
    },
  };
  const child: Child = {
    pid: 10,
    exited: new Promise(() => {}),
    stream: null,
    outputs: [],
    kill: (signal) => kill(10, signal),
    release() {},
  };
  const tree = new ProcessTree(
    runtime,
    child,
    { mayBeWrapper: true, family: "" },
    {
      problem: (_error, what) => void problems.push(what),
      unkillable: (problem) => void unkillable.push(problem),
    },
  );
  return { tree, sent, problems, unkillable };
}

test("process tree: a SIGKILL that is not permitted ends supervision only if the instance must end", () => {
  const { tree, problems, unkillable } = treeOf(new Map([[10, 1]]), true);
  tree.signal("SIGKILL");
  assertEquals([problems, unkillable.length], [["cannot send SIGKILL to process 10"], 0]);
  tree.ending = "SIGKILL";
  tree.signal("SIGKILL");
  assertEquals([problems.length, unkillable.map(({ code }) => code)], [2, ["ACCESS"]]);
});

test("process tree: a program that registers after the SIGKILL is killed as well, and the wait for it ends", () => {
  const parents = new Map([[10, 1]]);
  const { tree, sent } = treeOf(parents);
  tree.ending = "SIGKILL";
  tree.signal("SIGKILL");
  parents.set(11, 10);
  tree.setProgram(11);
  assertEquals(sent.includes("SIGKILL 11"), true, `${sent}`);
});
