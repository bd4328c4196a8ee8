// A program below a wrapper gets a signal once, has its whole grace period, and ends before the next instance begins.
import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import type { SuperviseOptions } from "../../mod.ts";
import { samCommand } from "../support/command.ts";
import { taggedProcesses } from "../support/leaks.ts";
import {
  eventually,
  killQuietly,
  lives,
  processTest,
  type Stage,
  transports,
} from "../support/processes.ts";
import { currentRuntime, newest, runtimePath } from "../support/runtimes.ts";
import { terminal } from "../support/terminal.ts";

const long: SuperviseOptions = { recoveryPolicy: "quit", stopTimeout: 20_000 };

/** The command line, for a shell, that starts a program of test/fixtures. */
function words(stage: Stage, name: string, ...args: string[]): string {
  return stage.commandOf(name, { args }).map((word) => `"${word}"`).join(" ");
}

function supervise(
  stage: Stage,
  [command, ...args]: readonly string[],
  options: SuperviseOptions = long,
) {
  const { env } = stage.program("supervisor/wrapped_plain");
  return stage.supervise({
    command: command!,
    args,
    env: { ...env, NODE_DISABLE_COMPILE_CACHE: "1" }, // npm's cache would be left behind
    cwd: stage.directory,
  }, options);
}

/** Wrapper scripts around a command line, by what they do with a signal. */
const shells: Readonly<Record<string, (line: string) => string>> = {
  "that dies of it": (line) => `${line}; exit $?`,
  "that dies of it, below another": (line) => `sh -c '${line}; exit $?'; exit $?`,
  "that passes it on and waits": (line) =>
    `trap 'kill -TERM $!' TERM; ${line} & wait $!; wait $!; exit $?`,
  "that passes it on and ends": (line) => `trap 'kill -TERM $!; exit 1' TERM; ${line} & wait $!`,
};

for (const [name, shell] of Object.entries(shells)) {
  processTest(
    `below a wrapper ${name}, a program gets the signal once and finishes its work`,
    async (stage) => {
      const watched = supervise(stage, [
        "sh",
        "-c",
        shell(words(stage, "supervisor/wrapped_plain", "300")),
      ]);
      await stage.line("up");
      assertEquals((await watched.supervisor.stop()).reason, "stopped");
      assertEquals(stage.lines("signal").length, 1);
      assertEquals(stage.lines("done").length, 1);
    },
  );
}

const packaged: Readonly<Record<string, readonly string[]>> = {
  "npm start": ["npm", "start"],
  "npm start, by npx": ["npx", "-c", "npm start"],
  "node --run": [runtimePath("node24"), "--run", "start"],
};

for (const [name, command] of Object.entries(packaged)) {
  processTest(
    `below ${name} a program gets the signal once and finishes its work`,
    async (stage) => {
      const start = words(stage, "supervisor/wrapped_plain", "300");
      writeFileSync(`${stage.directory}/package.json`, JSON.stringify({ scripts: { start } }));
      const watched = supervise(stage, command);
      await stage.line("up");
      await watched.supervisor.stop();
      assertEquals(stage.lines("signal").length, 1);
      assertEquals(stage.lines("done").length, 1);
    },
    { leg: newest },
  );
}

processTest(
  "below a wrapper, the stop ends with the grace period, and ends all processes",
  async (stage) => {
    const line = words(stage, "supervisor/wrapped_plain", "60000");
    const watched = supervise(stage, ["sh", "-c", `${line}; exit $?`], {
      ...long,
      stopTimeout: 300,
    });
    const { pid } = await stage.line("up");
    await watched.supervisor.stop();
    assertEquals(stage.lines("signal").length, 1);
    assertEquals(lives(pid), false);
    await watched.ended;
    assertEquals(watched.all("kill").length, 1);
  },
);

processTest("a stop ends as soon as all processes of the command have ended", async (stage) => {
  const watched = supervise(stage, ["sh", "-c", "sleep 605; exit $?"]);
  await watched.event("spawn");
  const began = performance.now();
  await watched.supervisor.stop();
  assert(performance.now() - began < 10_000);
});

processTest(
  "a stop does not wait for the child processes of a program that ends in order",
  async (stage) => {
    const watched = stage.supervise("faults/program", { ...long, timeInterval: 0 }, {
      args: ["unix", "helpers", "sh -c trap\\ :\\ TERM;\\ sleep\\ 606".replaceAll("\\", "")],
    });
    await stage.line("started");
    const began = performance.now();
    await watched.supervisor.stop();
    assert(performance.now() - began < 10_000);
  },
);

processTest(
  "below a warned wrapper, the next instance waits for the end of the program",
  async (stage) => {
    const line = words(stage, "supervisor/wrapped_plain", "500");
    const watched = supervise(stage, ["sh", "-c", `${line}; exit $?`], {
      recoveryPolicy: "restart",
      restart: { maxDelay: 0 },
      stopTimeout: 20_000,
    });
    await stage.line("up");
    watched.supervisor.reportUnhealthy("it answers nothing");
    await stage.line("up", 2);
    assertEquals(
      stage.lines().map(({ event }) => event).slice(0, 4),
      ["up", "signal", "done", "up"],
    );
  },
);

processTest(
  'with killMode "process" only the process that was started is ended',
  async (stage) => {
    const line = words(stage, "supervisor/wrapped_plain", "100");
    const watched = supervise(stage, ["sh", "-c", `${line}; exit $?`], {
      ...long,
      killMode: "process",
    });
    const { pid } = await stage.line("up");
    await watched.supervisor.stop();
    assertEquals([stage.lines("signal").length, lives(pid)], [0, true]);
    killQuietly(pid);
  },
);

for (const transport of transports) {
  processTest(
    `${transport}: when a wrapper is killed, the data that its program stores before it ends are not lost`,
    async (stage) => {
      const line = words(stage, "supervisor/wrapped_registered", transport, "works");
      const watched = supervise(stage, ["sh", "-c", `${line}; exit $?`], {
        recoveryPolicy: "restart",
        restart: { maxDelay: 0 },
        stopTimeout: 20_000,
        transport,
      });
      const { pid } = await stage.line("started");
      const { pid: wrapper } = await watched.event("spawn");
      process.kill(wrapper, "SIGKILL");
      const { data } = await stage.line("started", 2);
      assertEquals(lives(pid), false);
      const [done] = stage.lines("done");
      assertEquals(stage.lines("signal").length, 1);
      const [kept] = new Uint32Array(Uint8Array.from(data).buffer);
      assert(kept! >= done!.stored, `${kept} of ${done!.stored}`);
      const [recovery] = watched.all("recovery");
      assertEquals([recovery!.reason, recovery!.evidence.signal], ["signal", "SIGKILL"]);
    },
  );
}

processTest(
  "a registered program below a wrapper gets the warning alone, and its exit code counts",
  async (stage) => {
    const line = words(stage, "supervisor/wrapped_registered", "unix", "works");
    const watched = supervise(stage, ["sh", "-c", `${line}; exit $?`]);
    await stage.line("started");
    assertEquals(await watched.supervisor.stop(), { code: 3, signal: null, reason: "stopped" });
    assertEquals(stage.lines("signal").length, 1);
  },
);

processTest(
  "a wrapper that goes on after the end of its program gets the signal, too",
  async (stage) => {
    const line = words(stage, "supervisor/wrapped_registered", "unix", "works");
    const watched = supervise(stage, ["sh", "-c", `${line}; sleep 607; exit 1`]);
    await stage.line("started");
    assertEquals((await watched.supervisor.stop()).signal, "SIGTERM");
    assertEquals(stage.lines("signal").length, 1);
  },
);

processTest(
  "a warned program that calls finalize() still ends, and so do its child processes",
  async (stage) => {
    const line = words(stage, "supervisor/wrapped_registered", "unix", "finalizes");
    const watched = supervise(stage, ["sh", "-c", `trap : TERM; ${line}; exit $?`], {
      recoveryPolicy: "restart",
      restart: { maxDelay: 0 },
      timeInterval: 1000,
    });
    const first = await stage.line("started");
    watched.supervisor.reportUnhealthy("the test says so");
    await stage.line("finalized");
    await stage.line("started", 2);
    assertEquals(lives(first.pid), false);
    const stopped = watched.supervisor.stop();
    await stage.line("finalized", 2);
    void watched.supervisor.stop();
    await stopped;
    await eventually("the end of all", () => taggedProcesses().length === 0);
  },
);

processTest(
  "a second program below one command gets the reason why it cannot register",
  async (stage) => {
    const line = words(stage, "supervisor/wrapped_registered", "unix", "waits");
    const script =
      `${line} & while [ ! -e first ]; do sleep 0.02; done; ${line} 2>second; touch over; wait`;
    supervise(stage, ["sh", "-c", script]);
    await stage.line("started");
    writeFileSync(`${stage.directory}/first`, "");
    await eventually("its end", () => existsSync(`${stage.directory}/over`));
    const message = readFileSync(`${stage.directory}/second`, "utf8");
    assertMatch(message, /another process of this program has registered already/);
  },
);

// At a terminal, Ctrl-C reaches all processes.

processTest(
  "Ctrl-C at a terminal: the program below a wrapper finishes its work",
  async (stage) => {
    const sam = samCommand().map((word) => `'${word}'`).join(" ");
    const line = words(stage, "supervisor/wrapped_plain", "300");
    writeFileSync(`${stage.directory}/wrapper.sh`, `${line}; exit $?`);
    const run = terminal(`${sam} run --stop-timeout 20s sh '${stage.directory}/wrapper.sh'`, {
      ...stage.program("supervisor/wrapped_plain").env,
      XDG_RUNTIME_DIR: stage.directory,
    });
    await stage.line("up");
    run.keys("\x03");
    await run.exited;
    assertEquals(stage.lines("signal").map(({ signal }) => signal), ["SIGINT"]);
    assertEquals(stage.lines("done").length, 1, run.output);
  },
);

// A program that changes its user: a setuid command that becomes root, as sudo does.

const asNobody = [
  ...["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
  ...["--inh-caps=+dac_override", "--ambient-caps=+dac_override"], // to read this library
];

for (const asks of ["stop", "recovery"]) {
  for (
    const [name, wrapper] of [["", []], [" below a wrapper", [
      "sh",
      "-c",
      '"$@"; exit',
      "sh",
    ]]] as const
  ) {
    processTest(
      `supervision ends with an error if it may not kill a program${name}: ${asks}`,
      async (stage) => {
        for (const path of [process.env["TMPDIR"]!, stage.directory]) chownSync(path, 65534, 65534);
        const becomesRoot = `${stage.directory}/becomes-root`;
        copyFileSync("/usr/bin/setpriv", becomesRoot);
        chmodSync(becomesRoot, 0o4755);
        const server = stage.run("supervisor/wrapped_server", {
          args: [asks, ...wrapper, becomesRoot, "--reuid=0", "--clear-groups", "sleep", "608"],
          within: asNobody,
        });
        const { message, code, reason, errorCode } = await stage.line("finished");
        assertEquals([code, reason, errorCode], [
          1,
          asks === "stop" ? "stopped" : "failed",
          "ACCESS",
        ]);
        assertMatch(message, /^cannot kill process \d+, which still runs/);
        const problems = stage.lines("problem").map(({ message }) => message);
        assert(
          problems.some((text) => text.startsWith("cannot send SIGTERM to process")),
          `${problems}`,
        );
        assertEquals((await server.exited).code, 0); // nothing keeps it alive
      },
      { skip: process.getuid!() === 0 ? false : "needs root" },
    );
  }
}

processTest(
  "if the server cannot read /proc, a program below a wrapper ends with the wrapper",
  async (stage) => {
    const server = stage.run("supervisor/wrapped_server", {
      flags: [
        "run",
        "--no-config",
        "--allow-env",
        "--allow-read",
        "--allow-write",
        "--allow-net",
        "--allow-run=sh",
      ],
      args: ["stop", "sh", "-c", "sleep 609; exit $?"],
    });
    const { code, signal, reason } = await stage.line("finished");
    assertEquals([code, signal, reason], [143, "SIGTERM", "stopped"]);
    assertEquals((await server.exited).code, 0);
    await eventually("the end of all", () => taggedProcesses().length === 0);
  },
  { skip: currentRuntime === "deno" ? false : "Deno's permissions" },
);
