// The notifications to systemd: their contents and times in virtual time, then real datagrams, which only the server sends.
import { assert, assertEquals, assertMatch } from "@std/assert";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import type { SupervisorEvent, SupervisorStatus } from "../../mod.ts";
import { wakeTimerOf } from "../../src/supervisor/wake_timer.ts";
import { loadRuntime } from "../../src/runtime/load.ts";
import {
  Notifier,
  programChannel,
  sender,
} from "../../src/supervisor/own_process/systemd_notifier.ts";
import { commandTest } from "../support/command.ts";
import { test } from "../support/harness.ts";
import { noReceiver, NotifyReceiver } from "../support/notify_receiver.ts";
import { eventually, processTest } from "../support/processes.ts";
import { Clock } from "../support/timers.ts";

/** A notifier whose channel is an array. */
function notifierOn(clock: Clock, watchdogMs?: number) {
  const sent: string[][] = [];
  const status: { -readonly [Name in keyof SupervisorStatus]?: SupervisorStatus[Name] } = {
    state: "idle",
    restarts: 0,
    lastRecovery: null,
    ready: false,
  };
  const channel = {
    send: (lines: readonly string[]) => void sent.push([...lines]),
    close: () => Promise.resolve(),
  };
  const notifier = new Notifier(clock.runtime, channel, watchdogMs, {
    programs: () => [{
      name: "web",
      settings: { timeInterval: 500, startupTimeout: 60_000, stopTimeout: 10_000 },
      status: status as SupervisorStatus,
    }],
    isReady: () => status.ready!,
  });
  const happens = (event: object, now: Partial<SupervisorStatus> = {}) => {
    Object.assign(status, now);
    notifier.hear("web", event as SupervisorEvent);
    return sent.splice(0).flat();
  };
  return { notifier, sent, happens };
}

test("systemd gets each change, and the time limit of what has begun", async () => {
  const { notifier, happens, sent } = notifierOn(new Clock());
  assertEquals(happens({ type: "spawn" }, { state: "launched" }), [
    "EXTEND_TIMEOUT_USEC=65000000",
    "STATUS=starting",
  ]);
  assertEquals(happens({ type: "recovery", delay: 3000 }, { state: "backoff" }), [
    "EXTEND_TIMEOUT_USEC=8000000",
    "STATUS=backoff",
  ]);
  assertEquals(happens({ type: "start" }, { state: "started", ready: true }), [
    "READY=1",
    "STATUS=ready",
  ]);
  assertEquals(happens({ type: "check" }), []);
  const failing = { ready: false, check: "failing" } as const;
  assertEquals(happens({ type: "check" }, failing), ["STATUS=unhealthy"]);
  assertEquals(happens({ type: "check" }, { ready: true, check: "passing" }), ["STATUS=ready"]);
  const lastRecovery = { reason: "timeout" } as SupervisorStatus["lastRecovery"];
  assertEquals(happens({ type: "spawn" }, { state: "launched", restarts: 1, lastRecovery }), [
    "STATUS=ready, 1 restart (last reason: timeout)",
  ]);
  assertEquals(happens({ type: "reload" }), ["EXTEND_TIMEOUT_USEC=65000000"]);
  assertEquals(happens({ type: "reloaded" }), ["EXTEND_TIMEOUT_USEC=15000000"]);
  notifier.stopping();
  notifier.stopping();
  assertEquals(sent.splice(0), [["STOPPING=1"]]);
  assertEquals(happens({ type: "stopping" })[0], "EXTEND_TIMEOUT_USEC=15000000");
  await notifier.close();
});

test("systemd gets three watchdog messages in its interval while the drivers are woken", async () => {
  const clock = new Clock();
  const timer = wakeTimerOf(clock.runtime);
  const driver = { due: 1300, wake: () => void (driver.due += 300) };
  timer.add(driver);
  timer.arm(driver.due);
  const { notifier, sent } = notifierOn(clock, 3000);
  clock.pass(5500);
  assertEquals(sent.splice(0).flat(), Array(5).fill("WATCHDOG=1"));
  driver.wake = () => {}; // it no longer meets its deadlines
  clock.pass(15_000, 5);
  assert(sent.splice(0).length <= 2, "a server that does not supervise is not alive");
  driver.wake = () => void (driver.due = clock.time + 300);
  clock.pass(18_000);
  assert(sent.splice(0).length >= 2, "and it is, when it does again");
  timer.remove(driver);
  await notifier.close();
  assertEquals(clock.timers, []);
});

commandTest(
  "sam run notifies systemd when its programs are ready, that it is alive, and when it stops",
  async (sam, stage) => {
    const path = `${stage.directory}/notify`;
    await using receiver = await listening(path);
    const line = 'echo "[$NOTIFY_SOCKET$WATCHDOG_USEC]"; exec sleep 60';
    const run = sam(
      ["run", "--name", "web", "--check-command", `test -e ${stage.directory}/healthy`]
        .concat(["--check-period", "50", "sh", "-c", line]),
      {
        NOTIFY_SOCKET: path,
        WATCHDOG_USEC: "300000",
      },
    );
    await run.text(/^\[\]$/m);
    await receiver.notice(/^WATCHDOG=1$/, 3);
    await receiver.notice(/^EXTEND_TIMEOUT_USEC=65000000$/);
    assert(!receiver.lines.includes("READY=1"), "not before it is healthy");
    await sam(["run", "touch", `${stage.directory}/healthy`]).exited;
    const { pid } = await receiver.notice(/^READY=1$/);
    assertEquals(pid, run.child.pid, "NotifyAccess=main");
    run.kill("SIGTERM");
    await run.exited;
    await receiver.notice(/^STOPPING=1$/);
    await receiver.notice(/^EXTEND_TIMEOUT_USEC=15000000$/);
    await receiver.notice(/^STATUS=finished$/);
  },
  { skip: noReceiver },
);

processTest("a program that is its own server: only the server notifies systemd", async (stage) => {
  const path = `${stage.directory}/notify`;
  await using receiver = await listening(path);
  const server = stage.run("supervisor/self_again", {
    env: { NOTIFY_SOCKET: path, SAM_TEST_VARIABLE: "x" },
  });
  assertEquals((await server.exited).code, 0, server.stderr());
  const { pid } = await receiver.notice(/^STOPPING=1$/);
  assertEquals(pid, server.pid);
  assert(receiver.lines.includes("READY=1"), receiver.lines.join());
  assertEquals([...new Set(receiver.notices.slice(1).map(({ pid }) => pid))], [server.pid]);
}, { skip: noReceiver });

const listenVariables = { LISTEN_FDS: "1", LISTEN_PID: "4711", LISTEN_FDNAMES: "web" };

commandTest(
  "a program gets no variables of systemd's sockets, which it does not inherit",
  async (sam) => {
    const line = 'echo "[$LISTEN_FDS$LISTEN_PID$LISTEN_FDNAMES]"';
    const run = sam(["run", "sh", "-c", line], listenVariables);
    assertEquals([await run.exited, run.stdout], [0, "[]\n"], run.stderr);
  },
);

processTest("a program that is its own server does not get them either", async (stage) => {
  const server = stage.run("faults/program", { env: listenVariables });
  const { pid } = await stage.line("started");
  const variables = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");
  assertEquals(variables.filter((variable) => variable.startsWith("LISTEN_")), []);
  server.kill("SIGTERM");
  await server.exited;
});

const hasNotify = spawnSync("systemd-notify", ["--version"]).status === 0;
processTest(
  "without the C library, systemd-notify sends one message after the other",
  async (stage) => {
    const path = `${stage.directory}/notify`;
    await using receiver = await listening(path);
    const problems: unknown[] = [];
    const channel = programChannel(await loadRuntime(), path, (error) => void problems.push(error));
    channel.send(["READY=1", "STATUS=a b"]);
    channel.send(["STATUS=c"]);
    channel.send(["STOPPING=1"]);
    await channel.close();
    await receiver.notice(/^STOPPING=1$/);
    assertEquals(receiver.lines.filter((line) => line !== "BARRIER=1"), [
      "READY=1",
      "STATUS=a b",
      "STATUS=c",
      "STOPPING=1",
    ]);
    const nowhere = programChannel(
      await loadRuntime(),
      `${path}s`,
      (error) => void problems.push(error),
    );
    nowhere.send(["READY=1"]);
    await nowhere.close();
    assertMatch(String(problems), /^Error: systemd-notify ended with exit code \d+$/);
  },
  { skip: noReceiver || (hasNotify ? false : "systemd-notify is not installed") },
);

test("what systemd does not take is sent again, together with newer lines", async () => {
  const taken: string[][] = [];
  let refusals = 2;
  const problems: unknown[] = [];
  const channel = sender(await loadRuntime(), (lines) => {
    if (refusals-- > 0) throw new Error("full");
    taken.push(lines);
  }, (error) => void problems.push(error));
  channel.send(["READY=1", "STATUS=a"]);
  channel.send(["STATUS=b"]);
  await eventually("a message", () => taken.length === 1);
  channel.send(["STOPPING=1"]);
  await channel.close();
  assertEquals(taken, [["READY=1", "STATUS=b"], ["STOPPING=1"]]);
  assertEquals(problems.length, 2);
  refusals = 1;
  channel.send(["STATUS=c"]); // close() does not wait for systemd
  await channel.close();
  assertEquals(taken.length, 2);
});

async function listening(path: string) {
  const receiver = await NotifyReceiver.listen(path);
  return Object.assign(receiver, { [Symbol.asyncDispose]: () => receiver.close() });
}
