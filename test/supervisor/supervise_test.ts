// supervise() runs commands, modules and wrappers, with their arguments, environment, directory and streams.
import { assertEquals, assertNotEquals } from "@std/assert";
import { existsSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import type { ProgramOptions, SuperviseOptions } from "../../mod.ts";
import { eventually, processTest, type Stage } from "../support/processes.ts";
import { currentRuntime, fixture, runtimePath } from "../support/runtimes.ts";

const quit = { recoveryPolicy: "quit" } as const;
/** Delays longer than a test: nothing restarts. */
const patient: SuperviseOptions = {
  timeInterval: 20_000,
  recoveryPolicy: "restart",
  restart: { initialDelay: 600_000, maxDelay: 600_000 },
};

/** A shell script that writes its output to "$0", where `read` finds it. */
function script(stage: Stage, text: string): { command: string; args: string[]; read(): string } {
  const output = join(stage.directory, "output");
  return {
    command: "sh",
    args: ["-c", text, output],
    read: () => existsSync(output) ? readFileSync(output, "utf8") : "",
  };
}

processTest(
  "a command counts as started: its end is a recovery, as the policy says",
  async (stage) => {
    for (const [text, code, signal] of [["exit 0", 0, null], ["exit 5", 5, null]] as const) {
      const { command, args } = script(stage, text);
      const watched = stage.supervise({ command, args }, quit);
      assertEquals(await watched.finished(), { code, signal, reason: "quit" });
      assertEquals(watched.all("recovery").map(({ reason, delay }) => [reason, delay]), [
        ["exit", null],
      ]);
    }
    const { command, args } = script(stage, "kill -SEGV $$");
    const watched = stage.supervise({ command, args }, quit);
    assertEquals(await watched.finished(), { code: 139, signal: "SIGSEGV", reason: "quit" });
    assertEquals(watched.all("recovery").map(({ reason }) => reason), ["signal"]);

    const again = stage.supervise({ command: "true" }, {
      recoveryPolicy: "restart",
      restart: { maxDelay: 0 },
    });
    await again.event("spawn", 3);
  },
);

processTest(
  "a command that never registers has no time limit, with any timeInterval",
  async (stage) => {
    const watched = stage.supervise({ command: "sleep", args: ["1"] }, {
      timeInterval: 100,
      recoveryPolicy: "quit",
    });
    assertEquals(await watched.finished(), { code: 0, signal: null, reason: "quit" });
    assertEquals(watched.all("warn"), []);
  },
);

processTest("a command that ends while its link is open is judged at once", async (stage) => {
  const { command, args, read } = script(stage, 'sleep 600 & echo $! > "$0"');
  const watched = stage.supervise({ command, args }, { ...patient, transport: "pipe" });
  await watched.event("recovery");
  process.kill(Number(read()), "SIGKILL");
});

const unusual = ["", "a b", "ü€", '"', "'", "$HOME", "\\", "*", "a\nb", "--flag", "-A", "-"];

processTest("arguments, environment and directory reach a command unchanged", async (stage) => {
  const { command, args, read } = script(
    stage,
    'printf "%s|" "$@" "$A" "$B" "$HOME" "${EMPTY+set}" "${NONE+set}" "$(pwd)" > "$0"',
  );
  const cwd = realpathSync(stage.directory);
  const watched = stage.supervise({
    command,
    args: [...args, ...unusual],
    env: { A: "one = two\n", B: "ü€", EMPTY: "" },
    cwd,
  }, quit);
  assertEquals((await watched.finished()).code, 0);
  const said = [...unusual, "one = two\n", "ü€", process.env["HOME"]!, "set", "", cwd];
  assertEquals(read(), said.map((each) => `${each}|`).join(""));
});

processTest("arguments and working directory reach a module unchanged", async (stage) => {
  const watched = stage.supervise("api/instance", { timeInterval: 20_000, ...quit }, {
    args: ["early", ...unusual],
    cwd: realpathSync(stage.directory),
  });
  assertEquals((await watched.finished()).code, 6);
  const { more, cwd } = await stage.line("registered");
  assertEquals([more, cwd], [unusual, realpathSync(stage.directory)]);
});

processTest(
  "the option env overrides the server's environment, and does not change it",
  async (stage) => {
    const { command, args, read } = script(stage, 'echo "$HOME" > "$0"');
    const home = process.env["HOME"];
    const watched = stage.supervise({ command, args, env: { HOME: "/elsewhere" } }, quit);
    assertEquals((await watched.finished()).code, 0);
    assertEquals(read(), "/elsewhere\n");
    assertEquals(process.env["HOME"], home);
  },
);

processTest(
  "a module is found relative to cwd, by a file: URL, and with unusual names",
  async (stage) => {
    const directory = join(realpathSync(stage.directory), "a b%20ü");
    mkdirSync(directory);
    const module = join(directory, "m o%d.mjs");
    writeFileSync(module, "globalThis.Deno ? Deno.exit(5) : process.exit(5);\n");
    const ways = [
      { module },
      { module: pathToFileURL(module) },
      { module: pathToFileURL(module).href },
      { module: basename(module), cwd: directory },
      { module: `./${basename(module)}`, cwd: directory },
      { module: `../${basename(directory)}/${basename(module)}`, cwd: directory },
    ];
    for (const way of ways) {
      const { code, reason } = await stage.supervise(way, { timeInterval: 1000, ...quit })
        .finished();
      assertEquals([code, reason], [5, "exit"], String(way.module));
    }
  },
);

processTest("a module whose name begins with a dash is a module, not a flag", async (stage) => {
  const module = "--allow-all.mjs";
  writeFileSync(
    join(stage.directory, module),
    "globalThis.Deno ? Deno.exit(5) : process.exit(5);\n",
  );
  const watched = stage.supervise(
    { module, cwd: stage.directory },
    { timeInterval: 1000, ...quit },
  );
  assertEquals((await watched.finished()).code, 5);
});

processTest("a runtime is looked up on PATH by its name, and not by its path", async (stage) => {
  const name = currentRuntime === "deno" || currentRuntime === "bun" ? currentRuntime : "node";
  const module = fixture("api/instance");
  const { env } = stage.program("api/instance");
  const choices = [
    name,
    { name },
    { name, path: runtimePath(currentRuntime) },
    {
      name,
      path: runtimePath(currentRuntime),
      flags: name === "deno" ? ["-A", "--no-config"] : [],
    },
    { name, path: name },
  ] as const;
  for (const runtime of choices) {
    const watched = stage.supervise(
      { module, args: ["early"], runtime, env: env! },
      { timeInterval: 20_000, ...quit },
    );
    assertEquals((await watched.finished()).code, 6, JSON.stringify(runtime));
  }
});

const streams = [0, 1, 2].map((each) => `echo "$(readlink /proc/$$/fd/${each})" >> "$0";`).join(
  " ",
);

processTest("stdio: ignored, inherited, or set for each stream", async (stage) => {
  const links = async (stdio: ProgramOptions["stdio"]) => {
    const { command, args, read } = script(stage, `rm -f "$0"; ${streams}`);
    const watched = stage.supervise({ command, args, ...(stdio && { stdio }) }, quit);
    assertEquals((await watched.finished()).code, 0);
    return read().trim().split("\n");
  };
  const ignored = "/dev/null";
  const inherited = await links(undefined);
  assertEquals(inherited.length, 3);
  assertNotEquals(inherited[1], ignored);
  assertEquals(await links("inherit"), inherited);
  assertEquals(await links("ignore"), [ignored, ignored, ignored]);
  assertEquals(await links(["ignore", "inherit", "ignore"]), [ignored, inherited[1]!, ignored]);
  assertEquals(await links(["inherit", "ignore", "inherit"]), [
    inherited[0]!,
    ignored,
    inherited[2]!,
  ]);
});

// A program below a wrapper: the shell goes on, and the program registers.

const deno = currentRuntime === "deno" ? "run -A --no-config" : "";

/** `sh` around a program of test/fixtures. `trap`: the shell's handler for SIGTERM. */
function wrapped(stage: Stage, mode: string, trap = "") {
  const run = `"${runtimePath(currentRuntime)}" ${deno} "${fixture("api/instance")}" ${mode}`;
  return {
    command: "sh",
    args: ["-c", `${trap} ${run}; exit $?`],
    env: stage.program("api/instance").env!,
  };
}

function isAlive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/s.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

processTest(
  "below a wrapper: the program registers with its own pid, and is warned and killed together with the wrapper",
  async (stage) => {
    const watched = stage.supervise(wrapped(stage, "stubborn", "trap : TERM;"), {
      ...patient,
      stopTimeout: 500,
    });
    const { pid } = await stage.line("started");
    const { pid: wrapper } = await watched.event("spawn");
    assertEquals((await watched.event("register")).pid, pid);
    assertNotEquals(wrapper, pid);
    assertEquals(watched.supervisor.status.pid, wrapper);
    const stopped = watched.supervisor.stop();
    await stage.line("warned");
    assertEquals(await stopped, { code: 137, signal: "SIGKILL", reason: "stopped" });
    assertEquals(stage.lines("warned").map((line) => line.pid), [pid]);
    await eventually("the end of the program below", () => !isAlive(pid));
  },
);

processTest("below a wrapper: a warned program may end by itself", async (stage) => {
  const watched = stage.supervise(wrapped(stage, "obedient", "trap : TERM;"), patient);
  await stage.line("started");
  assertEquals(await watched.supervisor.stop(), { code: 3, signal: null, reason: "stopped" });
});

processTest(
  "below a wrapper: a program that ends also ends the wrapper, and both start again",
  async (stage) => {
    const watched = stage.supervise(wrapped(stage, "crash"), {
      recoveryPolicy: "restart",
      restart: { intensity: 1, maxDelay: 0 },
    });
    assertEquals(await watched.finished(), { code: 7, signal: null, reason: "restart-limit" });
    assertEquals(stage.lines("registered").map(({ instance }) => instance), [1, 2]);
  },
);

processTest(
  "below a killed wrapper, the program ends before the next instance starts",
  async (stage) => {
    const watched = stage.supervise(wrapped(stage, "stubborn"), {
      timeInterval: 1000,
      recoveryPolicy: "restart",
      restart: { maxDelay: 0 },
      stopTimeout: 200,
    });
    const { pid } = await stage.line("started");
    process.kill((await watched.event("spawn")).pid, "SIGKILL");
    await stage.line("started", 2);
    assertEquals(isAlive(pid), false);
    const [recovery] = watched.all("recovery");
    assertEquals([recovery!.reason, recovery!.evidence.signal], ["signal", "SIGKILL"]);
  },
);
