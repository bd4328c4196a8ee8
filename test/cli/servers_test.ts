// Failures of the control socket: servers that do not answer or answer nonsense, clients that do not read, names in use, and
// paths that are too long.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { openControl } from "../../src/cli/serve/control_server.ts";
import type { Journal } from "../../src/cli/serve/journal.ts";
import type { SupervisorEvent } from "../../mod.ts";
import type { Fleet } from "../../src/supervisor/fleet.ts";
import { loadRuntime } from "../../src/runtime/load.ts";
import type { Stream } from "../../src/runtime/runtime.ts";
import { JsonLineConnection } from "../../src/cli/control/control_socket.ts";
import { commandTest } from "../support/command.ts";
import { test } from "../support/harness.ts";
import { eventually, type Stage } from "../support/processes.ts";

/** Listens as a server of this user. `answer` returns the lines to send for a request; `null` ends the connection. */
async function fakeServer(
  stage: Stage,
  name: string,
  answer: (ask: string) => readonly (string | null)[],
): Promise<() => Promise<void>> {
  mkdirSync(`${stage.directory}/sam`, { recursive: true, mode: 0o700 });
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.setEncoding("utf8").on("data", (text) => {
      for (const line of answer(JSON.parse(String(text)).ask)) {
        if (line === null) socket.end();
        else socket.write(`${line}\n`);
      }
    });
  });
  await new Promise<void>((resolve) =>
    server.listen(`${stage.directory}/sam/${name}.sock`, resolve)
  );
  return () =>
    new Promise((resolve) => {
      server.close(() => resolve());
      for (const socket of sockets) socket.destroy();
    });
}

const program = (name: string) => ({
  name,
  state: "started",
  pid: 1,
  ready: true,
  instanceId: 1,
  restarts: 0,
  lastRecovery: null,
  heartbeatAge: null,
  slack: { min: null },
  memory: null,
  uptime: 1,
});

const statusOf = (name: string, programs: readonly unknown[] = [program(name)]) =>
  JSON.stringify({ ok: { name, pid: 1, strategy: "one_for_one", programs } });

commandTest("output that exceeds the buffer of a pipe is complete", async (sam, stage) => {
  const programs = Array.from({ length: 2000 }, (_, at) => program(`program-${at}`));
  const close = await fakeServer(stage, "large", () => [statusOf("large", programs)]);
  const status = sam(["status", "--json"]);
  assertEquals(await status.exited, 0, status.stderr);
  assertEquals(JSON.parse(status.stdout)[0].programs.length, 2000);
  await close();
});

commandTest("an unknown answer ends a command with an error", async (sam, stage) => {
  for (const answer of ["null", "5", '{"ok":null}', '{"ok":{"name":"odd"}}']) {
    const close = await fakeServer(stage, "odd", () => [answer]);
    for (const command of ["status", "stop", "events"]) {
      const asked = sam([command]);
      assertEquals(await asked.exited, 69, `${command} ${answer}: ${asked.stderr}`);
      assertStringIncludes(asked.stderr, "sam: the SAM server odd sent an unknown answer.");
    }
    await close();
  }
});

commandTest(
  "the end of the connection answers only stop; events need their last line",
  async (sam, stage) => {
    const event = JSON.stringify({ program: "gone", type: "start", at: 1, instanceId: 1 });
    const close = await fakeServer(
      stage,
      "gone",
      (ask) => ask === "status" ? [statusOf("gone")] : ask === "events" ? [event, null] : [null],
    );
    assertEquals(await sam(["stop"]).exited, 0);
    const restart = sam(["restart"]);
    assertEquals(await restart.exited, 69);
    assertStringIncludes(restart.stderr, "the SAM server gone ended before it answered");
    assertEquals(await sam(["signal", "HUP", "gone"]).exited, 69);
    for (const words of [["events", "--json"], ["events", "--json", "--follow"]]) {
      const events = sam(words);
      assertEquals(await events.exited, 69);
      assertEquals(events.stdout, `${event}\n`);
      assertStringIncludes(
        events.stderr,
        "the SAM server gone closed the connection before its last event.",
      );
    }
    await close();
  },
);

commandTest("sam events shows the newest event among very many", async (sam, stage) => {
  // Each recovery contains the last lines of output, so that the events exceed the buffer of a socket.
  const code = `n=$(cat n); echo $((n + 1)) > n; [ $n -lt 150 ] || exec sleep 60
    for i in 1 2 3 4 5 6 7 8 9 10; do printf '%0200d\\n' $i; done; exit 1`;
  writeFileSync(`${stage.directory}/n`, "1");
  const often = ["--restart-intensity", "1000", "--restart-max-delay", "1", "--stdio", "tee"];
  const run = sam(
    ["run", "--name", "much", "--json", ...often, "--", "sh", "-c", code],
    {},
    stage.directory,
  );
  await run.event("spawn", 150);
  const events = sam(["events", "--json"]);
  assertEquals(await events.exited, 0, events.stderr);
  assert(events.stdout.length > 300_000, `${events.stdout.length}`);
  const last = JSON.parse(events.stdout.trim().split("\n").at(-1)!);
  assertEquals([last.type, last.instanceId], ["spawn", 150]);
  const followed = sam(["events", "--json", "--follow"]);
  await followed.text(/"type":"spawn"[^\n]*"instanceId":150/);
  assertEquals(await sam(["stop"]).exited, 0);
  assertEquals(await followed.exited, 0, followed.stderr);
  assertStringIncludes(followed.stdout, '"type":"finish"');
  await run.exited;
});

commandTest("a follower that does not read is disconnected", async (sam, stage) => {
  const before = process.env["XDG_RUNTIME_DIR"];
  process.env["XDG_RUNTIME_DIR"] = stage.directory;
  const runtime = await loadRuntime();
  let publish: Parameters<Journal["follow"]>[0] = () => {};
  const control = (await openControl(runtime, "chatty", "chatty", () => {}))!;
  try {
    const journal = {
      status: JSON.parse(statusOf("chatty")).ok,
      entries: [],
      follow: (follower: typeof publish) => (publish = follower, () => false),
    };
    control.serve({ names: ["chatty"] } as unknown as Fleet, journal as unknown as Journal);
    const event = { type: "check", healthy: true, detail: "x".repeat(64 * 1024), at: 1 };
    const entry = { program: "chatty", event: event as unknown as SupervisorEvent };
    const follower = sam(["events", "--follow", "--json"]);
    await eventually("a follower", () => {
      publish(entry);
      return follower.stdout !== "";
    });
    follower.kill("SIGSTOP");
    for (let at = 0; at < 200; at++) {
      publish(entry);
      await runtime.settle();
    }
    follower.kill("SIGCONT");
    assertEquals(await follower.exited, 69);
    assert(follower.stdout.length < 8 * 1024 * 1024, `${follower.stdout.length}`);
  } finally {
    await control.close();
    if (before === undefined) delete process.env["XDG_RUNTIME_DIR"];
    else process.env["XDG_RUNTIME_DIR"] = before;
  }
});

commandTest(
  "a stopped server does not delay commands for another server",
  async (sam) => {
    const stopped = sam(["run", "--json", "--name", "still", "sleep", "60"]);
    const other = sam(["run", "--json", "--name", "lively", "sleep", "60"]);
    await Promise.all([stopped.event("spawn"), other.event("spawn")]);
    const watch = sam(["status", "--watch"]);
    await watch.text(/still: ready/);
    stopped.kill("SIGSTOP");
    const asked = sam(["stop", "still"]); // waits until its time limit
    const silence = "sam: the SAM server still does not answer. Is its process stopped (Ctrl-Z)?\n";
    const status = sam(["status", "--json"]);
    assertEquals([await status.exited, status.stderr], [0, silence]);
    assertEquals(JSON.parse(status.stdout).map(({ name }: { name: string }) => name), ["lively"]);
    assertEquals(await sam(["signal", "CONT", "lively"]).exited, 0);
    const unnamed = sam(["stop"]);
    assertEquals(await unnamed.exited, 64);
    assertStringIncludes(
      unnamed.stderr,
      "several SAM servers are running: lively, still. Name one of them, as in sam stop NAME.",
    );
    await watch.text(/does not answer/, "stderr");
    assertEquals(await sam(["stop", "lively"]).exited, 0);
    await other.exited;
    assertEquals([await asked.exited, asked.stderr], [69, silence]);
    stopped.kill("SIGCONT");
    assertEquals(await sam(["stop"]).exited, 0);
    await stopped.exited;
    assertEquals(await watch.exited, 0, watch.stderr);
  },
  { timeoutMs: 60_000, leg: "bun" }, // the test waits for 10 seconds, so one runtime is enough
);

commandTest(
  "the socket of a server with a full queue stays, and so does a directory with the name of a socket",
  async (sam, stage) => {
    const directory = `${stage.directory}/sam`;
    mkdirSync(`${directory}/no.sock`, { recursive: true, mode: 0o700 });
    assertEquals(await sam(["status"]).exited, 69);
    const nameless = sam(["run", "--name", "no", "--restart", "never", "sh", "-c", "exit 3"]);
    assertEquals(await nameless.exited, 3);
    assertStringIncludes(nameless.stderr, "sam: no control socket");
    const run = sam(["run", "--json", "--name", "full", "sleep", "60"]);
    await run.event("spawn");
    run.kill("SIGSTOP");
    const sockets: Socket[] = [];
    for (let refused = false; !refused;) {
      refused = await new Promise((resolve) => {
        const socket = connect(`${directory}/full.sock`);
        sockets.push(socket);
        socket.on("connect", () => resolve(false)).on("error", () => resolve(true));
      });
    }
    const status = sam(["status"]);
    assertEquals(await status.exited, 69);
    assertStringIncludes(status.stderr, "the SAM server full is running but accepts no connection");
    const taken = sam(["run", "--name", "full", "true"]);
    assertEquals(await taken.exited, 64);
    assert(existsSync(`${directory}/full.sock`) && existsSync(`${directory}/no.sock`));
    for (const socket of sockets) socket.destroy();
    run.kill("SIGCONT");
    await eventually("an empty queue", async () => await sam(["stop"]).exited === 0);
    await run.exited;
  },
);

commandTest(
  "servers that start together get different names, and only one of them gets a given name",
  async (sam) => {
    const same = Array.from({ length: 4 }, () => sam(["run", "--name", "same", "sleep", "60"]));
    const refused = await eventually("three refused", () => {
      const ended = same.filter(({ child }) => child.exitCode !== null);
      return ended.length === 3 && ended;
    });
    for (const each of refused) {
      assertEquals(await each.exited, 64);
      assertStringIncludes(each.stderr, "a SAM server named same is already running.");
    }
    assertEquals(await sam(["stop", "same"]).exited, 0);
    const made = Array.from({ length: 4 }, () => sam(["run", "sleep", "60"]));
    const names = ["sleep", "sleep-2", "sleep-3", "sleep-4"];
    await eventually("all four", async () => {
      const status = sam(["status", "--json"]);
      if (await status.exited !== 0) return false;
      return JSON.parse(status.stdout).length === 4 && !status.stderr;
    });
    for (const name of names) assertEquals(await sam(["stop", name]).exited, 0);
    for (const each of made) {
      await each.exited;
      assert(!each.stderr.includes("no control socket"), each.stderr);
    }
  },
);

commandTest(
  "programs run although the path of the control socket is too long",
  async (sam, stage) => {
    const deep = `${stage.directory}/${"d".repeat(100)}`;
    mkdirSync(deep);
    const end = ["sh", "-c", "exit 3"];
    const never = ["run", "--restart", "never"];
    const run = sam([...never, ...end], { XDG_RUNTIME_DIR: deep });
    assertEquals(await run.exited, 3, run.stderr);
    assertMatch(run.stderr, /no control socket[^\n]*Set a shorter XDG_RUNTIME_DIR\.\n/);
    const status = sam(["status"], { XDG_RUNTIME_DIR: deep });
    assertEquals(await status.exited, 78);
    assertMatch(
      status.stderr,
      /^sam: cannot use [^\n]* for control sockets: the path is too long [^\n]*Set a shorter XDG_RUNTIME_DIR\.\n$/,
    );

    const file = `${stage.directory}/${"f".repeat(100)}`;
    writeFileSync(file, "#!/bin/sh\nexit 4\n", { mode: 0o755 });
    const long = sam([...never, file]);
    assertEquals(await long.exited, 4, long.stderr);
    assertStringIncludes(long.stderr, "no control socket");

    const near = `${stage.directory}/${"n".repeat(90 - stage.directory.length)}`;
    mkdirSync(near);
    const named = sam([...never, "--name", "a".repeat(30), ...end], { XDG_RUNTIME_DIR: near });
    assertEquals(await named.exited, 64);
    assertStringIncludes(named.stderr, "Choose a shorter --name");
  },
);

commandTest(
  "sam restart skips programs that have finished or wait, and refuses them by name; a signal needs a process",
  async (sam, stage) => {
    const programs = {
      done: { program: "true" },
      web: { program: "sleep", args: ["60"] },
      flaky: {
        program: "false",
        restart: { initialDelay: 60_000, maxDelay: 60_000 },
      },
      ill: { program: "sleep", args: ["60"], check: { command: "false" } },
      waits: { program: "sleep", args: ["60"], after: ["ill"] },
    };
    writeFileSync(`${stage.directory}/sam.config.json`, JSON.stringify({ name: "some", programs }));
    const run = sam(["run", "--json"], {}, stage.directory);
    await run.event("finish", 1, "done");
    await run.event("spawn", 1, "web");
    await run.event("recovery", 1, "flaky");
    for (const name of ["done", "flaky"]) {
      const signal = sam(["signal", "HUP", name]);
      assertEquals(await signal.exited, 69, name);
      assertEquals(signal.stderr, `sam: cannot send SIGHUP: ${name} has no running process\n`);
    }
    const done = sam(["restart", "done"]);
    assertEquals(await done.exited, 69);
    assertEquals(done.stderr, "sam: done has finished. Start it again with a new sam run.\n");
    const waits = sam(["restart", "waits"]);
    assertEquals(await waits.exited, 69);
    assertEquals(waits.stderr, "sam: cannot restart waits: it is waiting for ill\n");
    const restart = sam(["restart"]);
    assertEquals([await restart.exited, restart.stderr], [0, ""]);
    await run.event("spawn", 2, "web");
    await run.event("spawn", 2, "flaky");
    assertEquals(await sam(["signal", "CONT"]).exited, 0); // goes to the programs that have a process
    assertEquals(await sam(["stop"]).exited, 0);
    await run.exited;
  },
);

test("a listener that comes after the end of a connection still learns of the end", async () => {
  let end = () => {};
  const lines = new JsonLineConnection(
    { read: (_: unknown, onEnd: () => void) => end = onEnd } as unknown as Stream,
  );
  lines.receive(() => {}, () => {});
  end();
  await new Promise<void>((resolve) => lines.receive(() => {}, resolve));
});
