// System limits: file descriptors, processes, memory. The server reports the failure, tries again, and goes on.
import { assert, assertEquals } from "@std/assert";
import { spawnSync } from "node:child_process";
import { chownSync } from "node:fs";
import { eventually, processTest } from "../support/processes.ts";
import { currentRuntime } from "../support/runtimes.ts";

spawnSync("true"); // Bun keeps the file descriptors that it opens for its first child process

const isRoot = process.getuid!() === 0;

/** An unprivileged user: a process limit applies to it, and with these capabilities it can read and write the files of root. */
const nobody = 65534;
const caps = "+dac_override,+dac_read_search";
const asNobody = [
  "setpriv",
  `--reuid=${nobody}`,
  `--regid=${nobody}`,
  "--clear-groups",
  `--inh-caps=${caps}`,
  `--ambient-caps=${caps}`,
];

/** Sets the soft limit of a running process, as its user. */
function limit(within: readonly string[], pid: number, resource: string, to: number) {
  const [file, ...words] = [...within, "prlimit", `--pid=${pid}`, `--${resource}=${to}:`];
  const { status, stderr } = spawnSync(file!, words);
  assertEquals(status, 0, String(stderr));
}

const limits: readonly {
  readonly resource: string;
  readonly few: number;
  readonly enough: number;
  readonly within: readonly string[];
  readonly skip: string | false;
}[] = [
  { resource: "nofile", few: 3, enough: 1024, within: [], skip: false },
  {
    resource: "nproc",
    few: 1,
    enough: 1000,
    within: asNobody,
    // Bun ends itself when it cannot start a thread.
    skip: currentRuntime === "bun" ? "Bun ends itself" : isRoot ? false : "needs root",
  },
];
for (const { resource, few, enough, within, skip } of limits) {
  processTest(
    `no ${resource} left: the server reports it, and starts the next instance as soon as it can`,
    async (stage) => {
      if (within.length > 0) chownSync(process.env["TMPDIR"]!, nobody, nobody);
      const restart = { intensity: 1000, initialDelay: 50, maxDelay: 100 };
      const server = stage.run("faults/program", {
        within,
        args: ["default"],
        env: { SAM_TEST_OPTIONS: JSON.stringify({ restart }) },
      });
      const { pid } = await stage.line("started");
      limit(within, server.pid, resource, few);
      process.kill(pid, "SIGKILL");
      await eventually("two starts that fail", () => {
        const failed = server.stderr().match(/^sam: instance \d+ could not be started: /gm);
        return failed !== null && failed.length > 1;
      });
      limit(within, server.pid, resource, enough);
      await stage.line("started", 2);
      server.kill("SIGTERM");
      assertEquals(await server.exited, { code: 5, signal: null }, server.stderr());
    },
    { skip },
  );
}

for (
  const [what, how, skip] of [
    ["", "loaded", false],
    [", not even to load the server", "fresh", currentRuntime === "deno" && "Deno ends itself"],
  ] as const
) {
  processTest(
    `no file descriptor is left for the first instance${what}: supervision ends with an error`,
    async (stage) => {
      const within = ["sh", "-c", 'ulimit -n 200; exec "$@"', "sh"];
      const program = stage.run("faults/no_descriptors", { args: [how], within });
      assertEquals(await program.exited, { code: 0, signal: null }, program.stderr());
      const { reason, code } = await stage.line("without");
      assertEquals(reason, "spawn");
      assert(["TRY_AGAIN", "LIBRARY"].includes(code), code);
      if (how === "loaded") assertEquals((await stage.line("with"))["reason"], "quit");
    },
    { skip },
  );
}

processTest(
  "a program with too little memory fails, and its server goes on",
  async (stage) => {
    const [file, ...words] = stage.commandOf("faults/program");
    const watched = stage.supervise({
      command: "sh",
      args: ["-c", 'ulimit -v 50000; "$@" || exit 9', "sh", file!, ...words],
      stdio: ["ignore", "ignore", "tee"],
    }, { recoveryPolicy: "restart", restart: { intensity: 1, maxDelay: 0 } });
    const { reason, code } = await watched.finished();
    assertEquals([reason, code], ["restart-limit", 9]);
    const [failed] = watched.all("failed");
    assertEquals([failed!.reason, failed!.evidence.exitCode], ["exit", 9]);
    assert(failed!.evidence.output!.length > 0, "its last output is not there");
  },
);
