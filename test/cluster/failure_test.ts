// What a program is told where Corosync cannot be used, and that the cluster never keeps a process from its end.
import { assertEquals, assertStringIncludes } from "@std/assert";
import { cpSync, writeFileSync } from "node:fs";
import { clusterTest, tool } from "../support/corosync.ts";
import { type Line, processTest, type Stage } from "../support/processes.ts";
import { distribution, runtimePath } from "../support/runtimes.ts";

for (
  const [name, how, freezes] of [
    ["exits", "exits", false],
    ["exits while the daemon is frozen", "blocked", true],
    ["has closed all", "closes", false],
  ] as const
) {
  clusterTest(`a process that watches a cluster ends when it ${name}`, async (stage, node) => {
    const program = stage.run("cluster_exit", { args: [how] });
    await stage.line("ready to end");
    if (freezes) node.freeze();
    stage.go("to end");
    const { code } = await program.exited;
    assertEquals(code, how === "closes" ? 0 : 7, program.stderr());
  });
}

const plan = JSON.stringify({ timeInterval: 0, recoveryPolicy: "quit", quorum: {} });

async function refused(stage: Stage, code: string, text: string): Promise<void> {
  const said: Line = await stage.line("not started");
  assertEquals(said["code"], code);
  assertStringIncludes(said["message"], text);
}

processTest("start() without libquorum rejects with LIBRARY", async (stage) => {
  const library = /\/\S*libquorum\.so\.5$/m.exec(await tool("ldconfig", "-p"))![0];
  await tool("mount", "--bind", "/dev/null", library);
  try {
    const program = stage.run("cluster_program", { args: [plan] });
    await refused(stage, "LIBRARY", "is it installed?");
    assertEquals((await program.exited).code, 4);
  } finally {
    await tool("umount", library);
  }
});

processTest("start() on Deno without --allow-ffi rejects with ACCESS", async (stage) => {
  const flags = ["run", "--allow-all", "--deny-ffi", "--no-config"];
  const program = stage.run("cluster_program", { runtime: "deno", flags, args: [plan] });
  await refused(stage, "ACCESS", "--allow-ffi");
  assertEquals((await program.exited).code, 4);
});

processTest("the package on Node 24 without koffi rejects with NOT_SUPPORTED", async (stage) => {
  cpSync(distribution, `${stage.directory}/dist`, { recursive: true });
  const script = `${stage.directory}/program.mjs`;
  writeFileSync(
    script,
    `import { corosyncQuorum } from "./dist/corosync.js";
    await corosyncQuorum().watch(() => {}).catch(({ code, message }) => console.log(code, message));`,
  );
  const said = await tool(runtimePath("node24"), script);
  assertStringIncludes(said, "NOT_SUPPORTED");
  assertStringIncludes(said, "npm install koffi");
});
