// The process that becomes a server runs its own program again as it was started, whatever the program did before.
import { basename, dirname } from "node:path";
import { assert, assertEquals } from "@std/assert";
import { loopbackPorts } from "../../src/runtime/procfs.ts";
import { loadRuntime } from "../../src/runtime/load.ts";
import { freePorts } from "../support/ports.ts";
import { eventually, processTest, type Stage } from "../support/processes.ts";
import { currentRuntime, fixture, runtimePath } from "../support/runtimes.ts";

const flags = {
  node: ["--stack-trace-limit=7", "--max-old-space-size=256"],
  bun: ["--smol"],
  deno: ["run", "-A", "--no-config", "--v8-flags=--stack-trace-limit=7"],
}[currentRuntime === "deno" || currentRuntime === "bun" ? currentRuntime : "node"];

processTest(
  "register() never resolves in the server, and early code of the program does not end supervision",
  async (stage) => {
    const report = "sam: the program's code before register() threw an error in the SAM server: ";
    const program = stage.run("supervisor/self_early");
    const { pid } = await stage.line("started");
    await stage.line("timer");
    await stage.line("rejection");
    await stage.line("exit");
    await eventually(
      "a report of the rejection",
      () => program.stderr().includes(`${report}a stray rejection`),
    );
    assert(program.stderr().includes(`${report}a stray error`), program.stderr());
    for (const event of ["timer", "rejection", "exit"]) {
      assertEquals(stage.lines(event).map((line) => line.pid), [program.pid]);
    }
    stage.go("to end");
    assertEquals(await program.exited, { code: 6, signal: null });
    assertEquals(stage.lines("top").map((line) => line.pid), [program.pid, pid]);
    assertEquals(stage.lines("resolved").map((line) => [line.pid, line["id"]]), [[pid, 1]]);
    assertEquals(stage.lines("rejected"), []);
  },
);

processTest("signal listeners from before register() do not run in the server", async (stage) => {
  const program = stage.run("supervisor/self_early");
  const { pid } = await stage.line("started");
  program.kill("SIGTERM");
  assertEquals(await program.exited, { code: 5, signal: null });
  const ranIn = stage.lines("early listener").map((line) => line.pid);
  assert(ranIn.includes(pid));
  // Deno cannot list its listeners, so they stay: the documentation names this limit.
  if (currentRuntime !== "deno") assertEquals(ranIn, [pid]);
});

processTest(
  "the program runs again with its flags, arguments, directory and environment",
  async (stage) => {
    const words = ["stay", "", "a b", "--flag=1", "ä'\"$x"];
    const program = stage.run("supervisor/self_again", {
      flags,
      args: words,
      cwd: stage.directory,
      env: { SAM_TEST_VARIABLE: "x=1\n'ü\"" },
    });
    assertEquals(await program.exited, { code: 0, signal: null });
    const [server, instance] = stage.lines("began");
    assertEquals(server!.pid, program.pid);
    const { pid: _pid, ms: _ms, ...how } = server!;
    const { pid, ms: _otherMs, ...again } = instance!;
    assertEquals(again, how);
    assert(pid !== program.pid);
    assertEquals([again["args"], again["cwd"], again["variable"]], [
      words,
      stage.directory,
      "x=1\n'ü\"",
    ]);
    if (currentRuntime !== "bun") assertEquals(again["stack"], 7);
    if (currentRuntime !== "deno") assertEquals(again["flags"], flags);
  },
);

processTest(
  "a program named by a relative path runs again after it changed its directory and its title",
  async (stage) => {
    const program = stage.run("supervisor/self_again", {
      flags,
      script: `./${basename(fixture("supervisor/self_again"))}`,
      args: ["move"],
      cwd: dirname(fixture("supervisor/self_again")),
    });
    assertEquals(await program.exited, { code: 0, signal: null }, program.stderr());
    const [server, instance] = stage.lines("began");
    assertEquals(instance!["cwd"], server!["cwd"]);
    assertEquals(instance!["args"], ["move"]);
    assertEquals(stage.lines("done").map(({ pid }) => pid), [instance!.pid]);
  },
);

processTest(
  "a restricted Deno program runs again with exactly its permissions",
  async (stage) => {
    const program = stage.run("supervisor/self_restricted", {
      runtime: "deno",
      flags: [
        "run",
        "--no-config",
        "--no-prompt",
        "--allow-env=SAM_LINK,TMPDIR",
        "--allow-read",
        `--allow-write=${stage.directory}`,
        "--allow-net",
        `--allow-run=${runtimePath("deno")},sh`,
      ],
      env: { TMPDIR: stage.directory },
    });
    assertEquals(await program.exited, { code: 0, signal: null }, program.stderr());
    await eventually("two instances", () => program.stderr().split("{").length === 3);
    const said = program.stderr().split("\n").filter((line) => line.startsWith("{"));
    const few = {
      ffi: "prompt",
      sys: "prompt",
      env: "prompt",
      link: "granted",
      run: "prompt",
      sh: "granted",
      write: "prompt",
      tmp: "granted",
    };
    assertEquals(
      said.map((line) => JSON.parse(line)),
      [1, 2].map((instance) => ({ instance, ...few })),
    );
  },
);

processTest(
  "a signal that arrives twice at once counts once; another one later kills",
  async (stage) => {
    const server = stage.run("supervisor/self_stubborn");
    await stage.line("started");
    server.kill("SIGTERM");
    server.kill("SIGTERM");
    await stage.line("warned");
    server.kill("SIGTERM");
    await stage.line("still here");
    server.kill("SIGTERM");
    assertEquals((await server.exited).code, 137);
  },
);

/** For the server and each of two instances: true if its inspector listens at `port`. */
async function inspectorsAt(port: number, stage: Stage, server: { readonly pid: number }) {
  const runtime = await loadRuntime();
  const portsOf = (pid: number) => [...loopbackPorts(runtime, pid)!];
  const portOf = (pid: number) => eventually("an inspector", () => portsOf(pid)[0]);
  const first = (await stage.line("started")).pid;
  const found = [await portOf(first)];
  process.kill(first, "SIGKILL");
  found.push(await portOf((await stage.line("started", 2)).pid));
  return [portsOf(server.pid).includes(port), ...found.map((each) => each === port)];
}

processTest(
  "with --inspect, the program has the inspector's port, after a restart, too",
  async (stage) => {
    const [port] = await freePorts(1);
    const inspect = `--inspect=127.0.0.1:${port}`;
    const runs = currentRuntime === "deno" ? ["run", "-A", "--no-config"] : [];
    const server = stage.run("faults/program", { flags: [...runs, inspect] });
    // Bun cannot close its inspector: the program has another port, which it prints.
    const expected = currentRuntime === "bun" ? [true, false, false] : [false, true, true];
    assertEquals(await inspectorsAt(port!, stage, server), expected, server.stderr());
  },
);

processTest(
  "with --inspect in NODE_OPTIONS, the program has the inspector's port",
  async (stage) => {
    const [port] = await freePorts(1);
    const env = { NODE_OPTIONS: `--inspect=127.0.0.1:${port}` };
    const server = stage.run("faults/program", { env });
    assertEquals(await inspectorsAt(port!, stage, server), [false, true, true], server.stderr());
  },
  { skip: !currentRuntime.startsWith("node") && "a variable of Node's" },
);
