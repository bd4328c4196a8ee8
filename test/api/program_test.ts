// Bad input that needs real processes: programs that cannot be started, directories in which no socket can be created,
// transports of another name, calls in the wrong state.
import { assert, assertEquals, assertMatch } from "@std/assert";
import { chmodSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import type { Program, SamErrorCode, SuperviseOptions, Transport } from "../../mod.ts";
import { inspectorFlags } from "../../src/runtime/inspector_flags.ts";
import { unix } from "../../transports/unix.ts";
import { test } from "../support/harness.ts";
import { processTest, type Stage, transports } from "../support/processes.ts";
import { currentRuntime, fixture } from "../support/runtimes.ts";

test("SAM adds no inspector flags to a flag that opens the inspector", () => {
  const own = ["--inspect=127.0.0.1:0", "--inspect-publish-uid=http"];
  for (const flag of ["--inspect", "--inspect-brk", "--inspect-wait=9229", "--inspect=:0"]) {
    assertEquals(inspectorFlags("deno", [flag], true), []);
    assertEquals(inspectorFlags("node", [flag], true), []);
  }
  for (const flag of ["--inspect-port=9230", "--inspector"]) {
    assertEquals(inspectorFlags("deno", [flag], true), own);
    assertEquals(inspectorFlags("node", [flag], true), own.slice(1));
  }
  const chosen = ["--inspect-publish-uid=stderr"];
  assertEquals(inspectorFlags("deno", chosen, true), own.slice(0, 1));
  assertEquals(inspectorFlags("node", chosen, true), []);
});

const options = { timeInterval: 5000, recoveryPolicy: "restart" } as const;
const other = currentRuntime === "deno" ? "bun" : "deno";

/** Checks that the program cannot be started: one `spawnFailed`, no recovery, and an error that says why. */
async function assertNeverSpawned(
  stage: Stage,
  program: Program,
  code: SamErrorCode,
  ...parts: readonly string[]
): Promise<void> {
  for (const recoveryPolicy of ["restart", "quit"] as const) {
    const watched = stage.supervise(program, { ...options, recoveryPolicy });
    const status = await watched.finished();
    assertEquals([status.reason, status.code, status.signal], ["spawn", 1, null]);
    assertEquals(status.error?.code, code, String(status.error));
    for (const part of parts) {
      assert(status.error!.message.includes(part), `no ${part} in: ${status.error!.message}`);
    }
    assertEquals(watched.events.map(({ type }) => type), ["status", "spawnFailed", "finish"]);
    assertEquals(watched.supervisor.status.state, "finished");
  }
}

processTest(
  "the error names a module that does not exist, and it is not started again",
  async (stage) => {
    const { directory } = stage;
    const missing = join(directory, "missing.js");
    await assertNeverSpawned(
      stage,
      { module: missing },
      "INVALID_PARAM",
      missing,
      "program.module",
    );
    await assertNeverSpawned(stage, { module: pathToFileURL(missing) }, "INVALID_PARAM", missing);
    await assertNeverSpawned(
      stage,
      { module: "./missing.js", cwd: directory },
      "INVALID_PARAM",
      "./missing.js",
      `in ${directory}`,
    );
    await assertNeverSpawned(stage, { module: missing, runtime: other }, "INVALID_PARAM", missing);
    await assertNeverSpawned(stage, { module: "--version" }, "INVALID_PARAM", "./--version");
  },
);

processTest(
  "the error names a module that throws at import, and it is not started again",
  async (stage) => {
    const watched = stage.supervise(
      { ...stage.program("api/throws"), stdio: "ignore" },
      options,
    );
    const status = await watched.finished();
    assertEquals([status.reason, status.code, status.signal], ["exit", 1, null]);
    assertEquals(status.error?.code, "LIBRARY");
    assert(status.error!.message.includes(fixture("api/throws")), status.error!.message);
    assert(status.error!.message.includes("exit code 1"), status.error!.message);
    assertEquals(watched.all("spawn").length, 1);
    assertEquals(watched.all("recovery").length, 0);
    assertEquals(stage.lines("imported").length, 1);
  },
);

processTest(
  "a program that throws at import ends its server with its status",
  async (stage) => {
    const program = stage.run("api/throws");
    assertEquals(await program.exited, { code: 1, signal: null });
    assertEquals(stage.lines("imported").length, 1);
    assertMatch(program.stderr(), /no good at import/);
  },
);

processTest("the error names a command that does not exist or is not executable", async (stage) => {
  const { directory } = stage;
  const plain = join(directory, "plain");
  writeFileSync(plain, "#!/bin/sh\n", { mode: 0o644 });
  await assertNeverSpawned(
    stage,
    { command: "no-such-command-at-all" },
    "LIBRARY",
    "no-such-command-at-all",
    "not installed",
  );
  const missing = join(directory, "missing");
  await assertNeverSpawned(stage, { command: missing }, "LIBRARY", missing, "not installed");
  await assertNeverSpawned(stage, { command: plain }, "ACCESS", plain, "not an executable file");
  await assertNeverSpawned(
    stage,
    { command: directory },
    "ACCESS",
    directory,
    "not an executable file",
  );
});

processTest("the error names a working directory that does not exist", async (stage) => {
  const cwd = join(stage.directory, "missing");
  await assertNeverSpawned(stage, { command: "true", cwd }, "LIBRARY", "true", cwd);
  await assertNeverSpawned(
    stage,
    { module: fixture("api/throws"), cwd },
    "LIBRARY",
    cwd,
  );
});

processTest("the error names a working directory that is a file", async (stage) => {
  const cwd = join(stage.directory, "file");
  writeFileSync(cwd, "");
  await assertNeverSpawned(stage, { command: "true", cwd }, "LIBRARY", "true", cwd);
});

processTest("the error names a runtime that is not installed", async (stage) => {
  const module = fixture("api/throws");
  const path = join(stage.directory, "no-runtime");
  for (const name of ["node", "deno", "bun"] as const) {
    await assertNeverSpawned(stage, { module, runtime: { name, path } }, "LIBRARY", path);
  }
  await withEnvironment({ PATH: stage.directory }, async () => {
    await assertNeverSpawned(stage, { module, runtime: other }, "LIBRARY", other, "not installed");
  });
});

processTest(
  "a replacement that cannot be started is a failure, within the restart limit",
  async (stage) => {
    const command = join(stage.directory, "once");
    writeFileSync(command, '#!/bin/sh\nrm "$0"\n', { mode: 0o755 });
    const watched = stage.supervise({ command }, {
      recoveryPolicy: "restart",
      restart: { intensity: 2, maxDelay: 10 },
    });
    const status = await watched.finished();
    assertEquals([status.reason, status.code], ["restart-limit", 1]);
    assertEquals(watched.all("spawn").length, 1);
    assertEquals(watched.all("spawnFailed").map(({ error }) => error.code), ["LIBRARY", "LIBRARY"]);
    assertEquals(watched.all("recovery").map(({ reason }) => reason), [
      "exit",
      "startup",
      "startup",
    ]);
  },
);

// The directory of the socket.

/** Runs `action` with other environment variables in this process. */
async function withEnvironment(
  variables: Readonly<Record<string, string>>,
  action: () => Promise<void>,
): Promise<void> {
  const before = Object.keys(variables).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, variables);
  try {
    await action();
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}

/** A directory in which no file can be created. For root, only the kernel has such a directory. */
function closedDirectory(stage: Stage): string {
  if (process.getuid!() === 0) return "/sys/kernel";
  const directory = join(stage.directory, "closed");
  mkdirSync(directory);
  chmodSync(directory, 0o555);
  return directory;
}

/** A directory in which the path of a socket is too long. */
function longDirectory(stage: Stage): string {
  const directory = join(stage.directory, "x".repeat(100));
  mkdirSync(directory);
  return directory;
}

const places = {
  "too long": { of: longDirectory, codes: ["LIBRARY"], says: "107" },
  "missing": {
    of: (stage: Stage) => join(stage.directory, "missing"),
    codes: ["LIBRARY"],
    says: "TMPDIR",
  },
  "not writable": { of: closedDirectory, codes: ["ACCESS", "LIBRARY"], says: "TMPDIR" },
} as const;

for (const [which, { of, codes, says }] of Object.entries(places)) {
  processTest(
    `TMPDIR ${which}: the errors of supervise() and register() say so, and no file is left`,
    async (stage) => {
      const TMPDIR = of(stage);
      const named = { ...options, transport: "unix" } as const; // by default, a pipe would be used instead
      const assertSays = (code: string | undefined, message: string) => {
        assert((codes as readonly string[]).includes(code ?? ""), `${code}: ${message}`);
        for (const part of [TMPDIR, "TMPDIR", says]) {
          assert(message.includes(part), `no ${part} in: ${message}`);
        }
      };
      await withEnvironment({ TMPDIR }, async () => {
        const watched = stage.supervise({ command: "true" }, named);
        const { reason, error } = await watched.finished();
        assertEquals(reason, "spawn");
        assertSays(error?.code, error!.message);
        assertEquals(watched.events.map(({ type }) => type), ["status", "spawnFailed", "finish"]);
      });
      const program = stage.run("api/register", {
        args: [JSON.stringify(named)],
        env: { TMPDIR },
      });
      assertEquals(await program.exited, { code: 3, signal: null });
      const failures = stage.lines("failed");
      assertEquals(failures.length, 2);
      for (const { code, message, state, isSamError } of failures) {
        assertSays(code, message);
        assertEquals([state, isSamError], ["initialized", true]);
      }
      if (which === "too long") assertEquals(readdirSync(TMPDIR), []);
    },
  );
}

processTest("a pipe needs no TMPDIR", async (stage) => {
  const program = stage.run("api/register", {
    args: [JSON.stringify({ ...options, transport: "pipe" })],
    env: { TMPDIR: join(stage.directory, "missing") },
  });
  assertEquals(await program.exited, { code: 0, signal: null });
  assertEquals(stage.lines("registered").map(({ instance }) => instance), [1]);
});

// Custom transports.

const quit = { timeInterval: 60_000, recoveryPolicy: "quit" } as const;
const mine: Transport = { ...unix, name: "mine" };

processTest("a custom transport works if both sides pass it", async (stage) => {
  const watched = stage.supervise("api/transport", { ...quit, transport: mine }, {
    args: ["mine"],
  });
  const { reason, code } = await watched.finished();
  assertEquals([reason, code], ["exit", 0], JSON.stringify(stage.lines()));
  assertEquals(stage.lines("stopped").map(({ size }) => size), [3]);
  assertEquals(watched.supervisor.status.transport, "mine");
});

processTest(
  "a program with another transport than its server gets an error that says so",
  async (stage) => {
    const cases = [
      { transport: mine, program: "yours" },
      { transport: "unix", program: "mine" },
      { transport: "pipe", program: "mine" },
    ] as const;
    for (const { transport, program } of cases) {
      const watched = stage.supervise(
        { ...stage.program("api/transport", { args: [program] }), stdio: "ignore" },
        { ...quit, transport },
      );
      const { reason, code, error } = await watched.finished();
      assertEquals([reason, code, error?.code], ["exit", 4, "LIBRARY"]);
    }
    const failures = stage.lines("failed");
    assertEquals(failures.map(({ code }) => code), cases.map(() => "INVALID_PARAM"));
    cases.forEach(({ transport, program }, at) => {
      const name = typeof transport === "string" ? transport : transport.name;
      for (const part of [`"${name}"`, `"${program}"`]) {
        assert(failures[at]!["message"].includes(part), failures[at]!["message"]);
      }
    });
  },
);

processTest("a program that names a built-in transport uses that of its server", async (stage) => {
  for (const transport of transports) {
    for (const own of transports) {
      const watched = stage.supervise(
        "api/register",
        { ...quit, transport },
        { args: [JSON.stringify({ ...quit, transport: own })] },
      );
      assertEquals((await watched.finished()).code, 0, JSON.stringify(stage.lines()));
    }
  }
  assertEquals(stage.lines("registered").length, 9);
});

processTest("a program that cannot connect gets LIBRARY with the cause", async (stage) => {
  const watched = stage.supervise(
    { ...stage.program("api/transport", { args: ["mine", "fail"] }), stdio: "ignore" },
    { ...quit, transport: mine },
  );
  assertEquals((await watched.finished()).code, 4);
  const { code, message } = await stage.line("failed");
  assertEquals(code, "LIBRARY");
  assertMatch(message, /"mine".*no way to the server/);
});

processTest("a transport that cannot open ends supervision with its error", async (stage) => {
  const open = () => Promise.reject(new Error("no room"));
  const watched = stage.supervise({ command: "true" }, {
    ...quit,
    transport: { ...mine, open },
  });
  const { reason, error } = await watched.finished();
  assertEquals([reason, error?.code], ["spawn", "LIBRARY"]);
  assertMatch(error!.message, /no room/);
});

// Calls.

test("initialize() in a worker thread is NOT_SUPPORTED", async () => {
  const url = pathToFileURL(fixture("api/worker"));
  const { code, message } = await new Promise<{ code: string; message: string }>(
    (resolve, reject) => {
      if (currentRuntime === "deno") {
        const worker = new (globalThis as unknown as { Worker: typeof DenoWorker }).Worker(url, {
          type: "module",
        });
        worker.onmessage = ({ data }) => {
          worker.terminate();
          resolve(data);
        };
        worker.onerror = (event) => reject(new Error(event.message));
      } else {
        const worker = new Worker(url);
        worker.once("error", reject);
        worker.once("message", (data) => void worker.terminate().then(() => resolve(data)));
      }
    },
  );
  assertEquals(code, "NOT_SUPPORTED", message);
  assertMatch(message, /main thread/);
});

/** The part of Deno's global `Worker` that this test uses. */
declare class DenoWorker {
  constructor(url: URL, options: { type: "module" });
  onmessage: (event: { data: { code: string; message: string } }) => void;
  onerror: (event: { message: string }) => void;
  terminate(): void;
}

const refused = "BAD_HANDLE";
const invalid = "INVALID_PARAM";
/** The code that each call gets in each state. "none" means success. */
const table: Readonly<Record<string, readonly string[]>> = {
  //                        initialized registered started  stopped  finalized
  "initialize": [refused, refused, refused, refused, refused],
  "initialize(wrong)": [refused, refused, refused, refused, refused],
  "register": ["none", refused, refused, refused, refused],
  "heartbeat": [refused, refused, "none", refused, refused],
  "setHealthCheck(null)": [refused, invalid, refused, invalid, refused],
  "setHealthCheck(wrong)": [refused, invalid, refused, invalid, refused],
  "setWarnSignal": ["none", "none", "none", "none", refused],
  "setWarnSignal(wrong)": [invalid, invalid, invalid, invalid, refused],
  "note": ["none", "none", "none", "none", refused],
  "note(wrong)": [invalid, invalid, invalid, invalid, refused],
  "data.size": ["none", "none", "none", "none", refused],
  "data.store": ["none", "none", "none", "none", refused],
  "data.store(null)": ["none", "none", "none", "none", refused],
  "data.store(wrong)": [invalid, invalid, invalid, invalid, refused],
  "data.store(too big)": ["none", "TOO_BIG", "TOO_BIG", "TOO_BIG", refused],
  "data.restore": ["none", "none", "none", "none", refused],
  "markFailed": [refused, invalid, invalid, invalid, refused],
};
const more: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  initialized: { start: refused, stop: refused },
  registered: { stop: refused },
  started: { start: refused },
  stopped: { stop: refused },
  finalized: { start: refused, stop: refused, finalize: refused },
};
const stateNames = ["initialized", "registered", "started", "registered", "finalized"];

for (const transport of transports) {
  processTest(`every call in every state, ${transport}`, async (stage) => {
    const server: SuperviseOptions = { ...quit, transport, maxDataSize: 10 };
    const status = await stage.supervise("api/states", server).finished();
    assertEquals([status.reason, status.code], ["exit", 0], JSON.stringify(stage.lines()));
    Object.keys(more).forEach((state, at) => {
      const [line] = stage.lines(state);
      const expected = Object.fromEntries(
        Object.entries(table).map(([call, codes]) => [call, codes[at]]),
      );
      assertEquals(line?.["codes"], { ...expected, ...more[state] }, state);
      assertEquals(line?.["state"], stateNames[at]);
      assertEquals(line?.["instance"], at === 0 ? null : 1);
    });
    const codeAfter = (event: string) => stage.lines(event).map(({ code }) => code);
    assertEquals(codeAfter("register at once again"), [refused]);
    assertEquals(codeAfter("start at once again"), [refused]);
    assertEquals(codeAfter("stop at once again"), [refused]);
    assertEquals(codeAfter("heartbeat while stop() waits"), ["none"]);
    assertEquals(codeAfter("setHealthCheck while started"), [refused]);
    assertEquals(codeAfter("setHealthCheck(null)"), ["none"]);
  });
}

processTest("with a time interval of 0 there is no health check", async (stage) => {
  const server = { timeInterval: 0, recoveryPolicy: "quit" } as const;
  assertEquals((await stage.supervise("api/no_limit", server).finished()).code, 0);
  assertEquals(
    stage.lines().map(({ event, code }) => [event, code]),
    [["setHealthCheck", invalid], ["setHealthCheck(null)", invalid]],
  );
});

processTest(
  "register() rejects with TOO_BIG if the data stored before exceeds the server's maxDataSize",
  async (stage) => {
    const server = { timeInterval: 0, recoveryPolicy: "quit", maxDataSize: 10 } as const;
    const watched = stage.supervise("api/no_limit", server, { args: ["11"] });
    assertEquals((await watched.finished()).code, 0);
    assertEquals(
      stage.lines().map(({ event, code, state }) => [event, code, state]),
      [["register", "TOO_BIG", "initialized"]],
    );
  },
);
