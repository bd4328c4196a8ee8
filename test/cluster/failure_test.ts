// The errors if Corosync cannot be used. Also: no call to the cluster prevents a process from ending.
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
    ["closes the map of a frozen daemon that never opened", "closes a map that never opened", true],
    ["has closed its connections", "closes", false],
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
  const line: Line = await stage.line("not started");
  assertEquals(line["code"], code);
  assertStringIncludes(line["message"], text);
}

/** Calls `action` while a library cannot be loaded. */
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
  "a cluster map without libcmap is an event problem with LIBRARY, and the program runs",
  async (stage) => {
    await without("libcmap.so.4", async () => {
      const options = { timeInterval: 0, recoveryPolicy: "quit", clusterMap: true, log: "json" };
      const program = stage.run("corosync/program", { args: [JSON.stringify(options)] });
      await stage.line("start");
      const [, code, message] = await eventually(
        "the event problem",
        () =>
          /"type":"problem".*"code":"(\w+)","message":"((?:[^"\\]|\\.)*)/.exec(program.stderr()) ??
            false,
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
  "a user whom Corosync does not serve gets ACCESS, and is served when the configuration names the user",
  async (stage, node) => {
    // Another user, with the right to read the files of this checkout.
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
    // A program runs even if the cluster map refuses it.
    const map = run({ clusterMap: true });
    await stage.line("start");
    await eventually("the report of the refusal", () => map.stderr().includes("Corosync refuses"));
    await node.set(`uidgid.uid.${other}`, "u8", "1");
    join();
    assertEquals((await stage.line("group", 2))["code"], "none");
    const both = run({ quorum: {}, clusterMap: true });
    await stage.line("start", 2);
    await eventually(
      "the keys of the program",
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
  const output = await tool(runtimePath("node24"), script);
  assertStringIncludes(output, "NOT_SUPPORTED");
  assertStringIncludes(output, "npm install koffi");
}, { leg: "node24" });
