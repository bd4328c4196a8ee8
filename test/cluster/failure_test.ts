// What a program is told where Corosync cannot be used, and that the cluster never keeps a process from its end.
import { assertEquals, assertStringIncludes } from "@std/assert";
import { cpSync, writeFileSync } from "node:fs";
import { clusterTest, tool } from "../support/corosync.ts";
import { eventually, type Line, processTest, type Stage } from "../support/processes.ts";
import { currentRuntime, distribution, runtimePath } from "../support/runtimes.ts";
import { runtimeCommand } from "../support/three_nodes.ts";

for (
  const [name, how, freezes] of [
    ["exits", "exits", false],
    ["exits while the daemon is frozen", "blocked", true],
    ["gives up to open the map of a frozen daemon", "gives up", true],
    ["has closed all", "closes", false],
  ] as const
) {
  clusterTest(`a process that watches a cluster ends when it ${name}`, async (stage, node) => {
    const program = stage.run("corosync/exit", { args: [how] });
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

/** Does something while a library cannot be loaded. */
async function without(library: string, action: () => Promise<void>): Promise<void> {
  const listed = (await tool("ldconfig", "-p")).split("\n").find((line) => line.includes(library));
  const path = listed!.split(" => ")[1]!;
  await tool("mount", "--bind", "/dev/null", path);
  try {
    await action();
  } finally {
    await tool("umount", path);
  }
}

processTest("start() without libquorum rejects with LIBRARY", async (stage) => {
  await without("libquorum.so.5", async () => {
    const program = stage.run("corosync/program", { args: [plan] });
    await refused(stage, "LIBRARY", "is it installed?");
    assertEquals((await program.exited).code, 4);
  });
});

processTest(
  "a cluster map without libcmap is the event problem, LIBRARY; the program runs",
  async (stage) => {
    await without("libcmap.so.4", async () => {
      const options = { timeInterval: 0, recoveryPolicy: "quit", clusterMap: true, log: "json" };
      const program = stage.run("corosync/program", { args: [JSON.stringify(options)] });
      await stage.line("start");
      const [, code, message] = await eventually(
        "the problem",
        () => /"type":"problem".*"code":"(\w+)","message":"([^"]*)/.exec(program.stderr()) ?? false,
      );
      assertEquals(code, "LIBRARY");
      assertStringIncludes(message!, "is it installed?");
    });
  },
);

processTest("corosyncGroup() without libcpg rejects with LIBRARY", async (stage) => {
  await without("libcpg.so.4", async () => {
    const program = stage.run("corosync/group", { args: ["join"] });
    const { code, message } = await stage.line("group");
    assertEquals(code, "LIBRARY");
    assertStringIncludes(message, "is it installed?");
    assertEquals((await program.exited).code, 0);
  });
});

processTest("start() on Deno without --allow-ffi rejects with ACCESS", async (stage) => {
  const flags = ["run", "--allow-all", "--deny-ffi", "--no-config"];
  const program = stage.run("corosync/program", { runtime: "deno", flags, args: [plan] });
  await refused(stage, "ACCESS", "--allow-ffi");
  assertEquals((await program.exited).code, 4);
}, { leg: "deno" });

clusterTest(
  "a user whom Corosync does not serve is refused with ACCESS, and served when it is named",
  async (stage, node) => {
    // Another user, who may read the files of this checkout, wherever that is.
    const other = 54321;
    const files = "+dac_override,+dac_read_search";
    const command = (fixture: string, argument: string) => [
      ...["--reuid", `${other}`, "--regid", `${other}`, "--clear-groups"],
      ...["--inh-caps", files, "--ambient-caps", files],
      ...runtimeCommand(currentRuntime, `test/fixtures/${fixture}`),
      argument,
    ];
    const run = (plan: object) => {
      const options = JSON.stringify({ timeInterval: 0, recoveryPolicy: "quit", ...plan });
      return stage.runCommand("setpriv", { args: command("corosync/program", options) });
    };
    const join = () => stage.runCommand("setpriv", { args: command("corosync/group", "join") });
    const program = run({ quorum: {} });
    await refused(stage, "ACCESS", "uidgid.d");
    assertEquals((await program.exited).code, 4, program.stderr());
    join();
    const refusal = await stage.line("group");
    assertEquals(refusal["code"], "ACCESS");
    assertStringIncludes(refusal["message"], "uidgid.d");
    // The cluster map keeps no program from its work.
    const map = run({ clusterMap: true });
    await stage.line("start");
    await eventually("the reason", () => map.stderr().includes("Corosync refuses"));
    await node.set(`uidgid.uid.${other}`, "u8", "1");
    join();
    assertEquals((await stage.line("group", 2))["code"], "none");
    const both = run({ quorum: {}, clusterMap: true });
    await stage.line("start", 2);
    await eventually(
      "its keys",
      async () => await node.read(`resources.process.${both.pid}.state`) === "running",
    );
  },
  { leg: "node20" },
);

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
}, { leg: "node24" });
