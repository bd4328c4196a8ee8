// The guard's script with different shells and tools: dash and GNU, bash, BusyBox as on Alpine, and missing ones.
import { assert, assertEquals } from "@std/assert";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { taggedProcesses } from "../support/leaks.ts";
import { eventually, killQuietly, processTest, type Stage } from "../support/processes.ts";

const busybox = process.env["SAM_TEST_BUSYBOX"] ??
  ["/bin/busybox", "/usr/bin/busybox"].find((path) => existsSync(path));

const applets = ["sh", "grep", "sleep", "ls", "rm", "rmdir"];

/** Returns the path of a tool on this machine. */
function toolPath(name: string): string {
  return process.env["PATH"]!.split(":").map((each) => `${each}/${name}`).find((each) =>
    existsSync(each)
  )!;
}

/** Makes a directory of links to tools, to be the first in PATH. `links`: the names and their targets. */
function tools(stage: Stage, links: Readonly<Record<string, string>>): string {
  const directory = `${stage.directory}/tools`;
  mkdirSync(directory);
  for (const [name, path] of Object.entries(links)) symlinkSync(path, `${directory}/${name}`);
  return directory;
}

/** A grep without -z, as in most builds of BusyBox. */
function grepWithoutZ(stage: Stage): string {
  const directory = tools(stage, {});
  const lines = [
    "#!/bin/sh",
    'for word; do case $word in -*z*) echo "grep: invalid option -- z" >&2; exit 1 ;; esac; done',
    `exec ${toolPath("grep")} "$@"`,
  ];
  writeFileSync(`${directory}/grep`, `${lines.join("\n")}\n`);
  chmodSync(`${directory}/grep`, 0o755);
  return directory;
}

const toolboxes: readonly {
  readonly name: string;
  readonly make: (stage: Stage) => string;
  readonly skip?: string | undefined;
}[] = [
  { name: "the tools of this machine", make: (stage) => tools(stage, {}) },
  { name: "bash", make: (stage) => tools(stage, { sh: toolPath("bash") }) },
  { name: "a grep without -z", make: grepWithoutZ },
  {
    name: "BusyBox",
    make: (stage) => tools(stage, Object.fromEntries(applets.map((name) => [name, busybox!]))),
    skip: busybox === undefined ? "there is no busybox here" : undefined,
  },
];

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
  } catch {
    return "";
  }
}

function guard(): number | undefined {
  return taggedProcesses().find((pid) => commandOf(pid).includes("sam-guard"));
}

function helpers(): number {
  return taggedProcesses().filter((pid) => /^\S*sleep 603/.test(commandOf(pid))).length;
}

for (const { name, make, skip } of toolboxes) {
  processTest(`the guard finds child processes and cleans up with ${name}`, async (stage) => {
    const PATH = `${make(stage)}:${process.env["PATH"]}`;
    const server = stage.run("faults/program", {
      args: ["unix", "helpers", `${toolPath("setsid")} -f ${toolPath("sleep")} 603`],
      env: { PATH },
    });
    const { pid } = await stage.line("started");
    const shell = await eventually("the guard", guard);
    const command = commandOf(shell);
    assert(/^\S*sh -c eval "\$SAM_GUARD" sam-guard [^\n]*$/.test(command), command);
    const comm = `/proc/${shell}/comm`;
    await eventually("its name", () => readFileSync(comm, "utf8") === "sam-guard\n");
    killQuietly(pid);
    await stage.line("started", 2);
    await eventually("the end of the first helper", () => helpers() === 1);
    server.kill("SIGKILL");
    await eventually("the end of all", () => taggedProcesses().length === 0);
    const left = readdirSync(process.env["TMPDIR"]!).filter((name) => /^sam-/.test(name));
    assertEquals(left, []);
  }, { skip: skip ?? false });
}

processTest("the server reports a guard that cannot search for child processes", async (stage) => {
  const names = ["sh", "sleep", "ls", "rm", "rmdir"];
  const PATH = tools(stage, Object.fromEntries(names.map((name) => [name, toolPath(name)])));
  const host = stage.run("supervisor/guard_host", { args: ["sleep", "60"], env: { PATH } });
  assertEquals(await host.exited, { code: 0, signal: null }, host.stderr());
  assertEquals(stage.lines("fallback").map(({ detail }) => detail.split(":")[0]), [
    "SAM cannot find child processes outside the program's process group, so they may outlive the program",
  ]);
});
