// Several programs: the order in which they start and end, and the effect of a failure on the other programs.
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type CheckOptions, SamError, type SupervisorEvent } from "../../mod.ts";
import { Fleet } from "../../src/supervisor/fleet.ts";
import { sortByDependencies, type Strategy } from "../../src/supervisor/fleet_program.ts";
import { type CheckedProgram, checkProgram } from "../../src/api/program.ts";
import { report } from "../../src/supervisor/report.ts";
import { checkSuperviseOptions } from "../../src/api/supervise_options.ts";
import { Supervision } from "../../src/supervisor/supervise.ts";
import { eventually, killQuietly, processTest, type Stage } from "../support/processes.ts";
import { test } from "../support/harness.ts";

interface FleetEvent {
  readonly name: string;
  readonly event: SupervisorEvent;
}

/** A fleet of shells. Each name has a script and the programs that it starts after. */
function fleetOf(
  strategy: Strategy,
  shells: Readonly<Record<string, readonly [line: string, ...after: string[]]>>,
  checks: Readonly<Record<string, CheckOptions>> = {},
) {
  const events: FleetEvent[] = [];
  const fleet = new Fleet(
    sortByDependencies(
      Object.entries(shells).map(([name, [line, ...after]]) => {
        const program = checkProgram({ command: "sh", args: ["-c", line], stdio: "ignore" });
        const options = checkSuperviseOptions(
          {
            recoveryPolicy: "restart",
            restart: { on: "failure", intensity: 3, maxDelay: 0 },
            ...(checks[name] && { check: checks[name] }),
          },
          program,
        );
        return { name, program, options, after };
      }),
    ),
    strategy,
  );
  fleet.subscribe((name, event) => void events.push({ name, event }));
  const said = () =>
    events.filter(({ event }) => event.type === "spawn" || event.type === "exit")
      .map(({ name, event }) => `${event.type} ${name}${event.instanceId}`);
  return {
    fleet,
    events,
    said,
    reached: (text: string) => eventually(`${text} in ${said()}`, () => said().includes(text)),
  };
}

const sleep = "exec sleep 60";
const strategies = [
  ["one_for_one", ["exit b1", "spawn b2"]],
  ["rest_for_one", ["exit b1", "exit c1", "spawn b2", "spawn c2"]],
  ["one_for_all", ["exit b1", "exit c1", "exit a1", "spawn a2", "spawn b2", "spawn c2"]],
] as const;

for (const [strategy, after] of strategies) {
  processTest(
    `${strategy}: the second of three programs fails, and the right programs restart`,
    async () => {
      const { fleet, said, reached } = fleetOf(strategy, {
        c: [sleep, "b"],
        b: [sleep, "a"],
        a: [sleep],
      });
      await reached("spawn c1");
      assertEquals([fleet.names, said()], [["a", "b", "c"], ["spawn a1", "spawn b1", "spawn c1"]]);
      killQuietly(fleet.supervisor("b").status.pid!);
      await reached(after.at(-1)!);
      fleet.stop(null);
      assertEquals(await fleet.finished, 0);
      const names = strategy === "one_for_all"
        ? ["c2", "b2", "a2"]
        : strategy === "rest_for_one"
        ? ["c2", "b2", "a1"]
        : ["c1", "b2", "a1"];
      assertEquals(said().slice(3), [...after, ...names.map((name) => `exit ${name}`)]);
    },
  );
}

processTest(
  "a program with a check is ready when it is healthy, and its dependents wait until then",
  async (stage) => {
    const flag = `${stage.directory}/healthy`;
    const { fleet, said, reached } = fleetOf("one_for_one", { b: [sleep, "a"], a: [sleep] }, {
      a: { command: `test -e ${flag}`, period: 20 },
    });
    await reached("spawn a1");
    assertEquals(fleet.supervisor("b").status.pid, null);
    writeFileSync(flag, "");
    await reached("spawn b1");
    fleet.stop(null);
    await fleet.finished;
    assertEquals(said(), ["spawn a1", "spawn b1", "exit b1", "exit a1"]);
  },
);

processTest(
  "a program at its restart limit ends the others, and the fleet ends with its exit code",
  async () => {
    const { fleet, said } = fleetOf("one_for_one", {
      a: [sleep],
      b: ["exit 9", "a"],
      done: ["exit 0"],
    });
    assertEquals(await fleet.finished, 9);
    assertEquals(said().at(-1), "exit a1");
  },
);

processTest("a fleet that is stopped during its start starts no other program", async () => {
  const { fleet, said } = fleetOf("one_for_all", { a: [sleep], b: [sleep, "a"] });
  fleet.stop("SIGTERM");
  assertEquals(await fleet.finished, 0);
  assertEquals(said().filter((each) => each.startsWith("spawn b")), []);
});

processTest(
  "a program that fails while its dependents are being stopped is not restarted, and does not count as failed",
  async ({ directory }) => {
    const [up, go] = [`${directory}/up`, `${directory}/go`];
    const wait = `while [ ! -e ${go} ]; do sleep 0.02; done`;
    const { fleet, said, reached } = fleetOf("one_for_one", {
      a: [sleep],
      b: [`trap "${wait}; exit" TERM; : >${up}; ${wait}`, "a"],
    });
    let refused = 0;
    const texts: string[] = [];
    fleet.subscribe((_, event) => {
      if (event.type === "spawnFailed") refused++;
      texts.push(...report(event));
    });
    await eventually("b", () => existsSync(up));
    fleet.stop(null);
    killQuietly(fleet.supervisor("a").status.pid!);
    await reached("exit a1");
    writeFileSync(go, "");
    assertEquals([await fleet.finished, refused], [0, 0]);
    assertEquals(texts, ["instance 1 ended by SIGKILL; it is not restarted"]);
    assertEquals(said(), ["spawn a1", "spawn b1", "exit a1", "exit b1"]);
  },
);

const stoppedAlone = [
  ["b", "a program that waits for another is never started"],
  ["a", "it has not done its work, and what comes after it is not started"],
] as const;
for (const [stopped, what] of stoppedAlone) {
  processTest(`stopped alone: ${what}`, async () => {
    const never = { a: { command: "false", period: 20 } };
    const shells = { a: [sleep], b: [sleep, "a"] } as const;
    const { fleet, events, said, reached } = fleetOf("one_for_one", shells, never);
    await reached("spawn a1");
    const { state, waitsFor: others } = fleet.status("b");
    assertEquals([state, others, "waitsFor" in fleet.status("a")], ["pending", ["a"], false]);
    await fleet.stopProgram(stopped);
    const waitsFor = [fleet.waitsFor("a"), fleet.waitsFor("b")];
    assertEquals(waitsFor, [undefined, stopped === "a" ? ["a"] : undefined]);
    fleet.stop(null);
    assertEquals(await fleet.finished, 0);
    assertEquals(said(), ["spawn a1", "exit a1"]);
    assertEquals(events.filter(({ event }) => event.type === "spawnFailed"), []);
  });
}

for (const strategy of ["rest_for_one", "one_for_all"] as const) {
  processTest(
    `${strategy}: a program that was stopped alone stays stopped, delays no other program, and can be restarted`,
    async () => {
      const { fleet, said, reached } = fleetOf(strategy, {
        a: [sleep],
        b: [sleep, "a"],
        c: [sleep, "b"],
      });
      await reached("spawn c1");
      await fleet.stopProgram("b");
      assertEquals([fleet.isStopped("b"), fleet.isReady("b"), fleet.allReady], [true, false, true]);
      killQuietly(fleet.supervisor("a").status.pid!);
      await reached("spawn c2");
      assertEquals(said().slice(3), ["exit b1", "exit a1", "exit c1", "spawn a2", "spawn c2"]);
      await fleet.restartProgram("b");
      assertEquals([fleet.isStopped("b"), fleet.supervisor("b").status.instanceId], [false, 2]);
      killQuietly(fleet.supervisor("a").status.pid!);
      await reached("spawn c3");
      assertEquals(said().slice(-3), ["spawn a3", "spawn b3", "spawn c3"]);
      fleet.stop(null);
      assertEquals(await fleet.finished, 0);
    },
  );
}

processTest(
  "a program that is being stopped does not restart with the others, but at once when a restart is asked for",
  async (stage) => {
    const [up, go] = [`${stage.directory}/up`, `${stage.directory}/go`];
    const wait = `while [ ! -e ${go} ]; do sleep 0.02; done`;
    const slow = `trap "${wait}; exit" TERM; : >${up}; ${wait}`;
    const { fleet, said, reached } = fleetOf("one_for_all", { a: [sleep], b: [slow, "a"] });
    await eventually("b", () => existsSync(up));
    const stopped = fleet.stopProgram("b");
    killQuietly(fleet.supervisor("a").status.pid!);
    await reached("exit a1");
    writeFileSync(go, "");
    await stopped;
    await reached("spawn a2");
    assertEquals(said(), ["spawn a1", "spawn b1", "exit a1", "exit b1", "spawn a2"]);
    rmSync(go);
    rmSync(up);
    await fleet.restartProgram("b");
    await eventually("b again", () => existsSync(up));
    const again = fleet.stopProgram("b");
    const restarted = fleet.restartProgram("b");
    writeFileSync(go, "");
    await Promise.all([again, restarted]);
    assertEquals(said().slice(5, 8), ["spawn b2", "exit b2", "spawn b3"]);
    fleet.stop(null);
    await fleet.finished;
  },
);

processTest(
  "a restart during the stop of all programs is refused, and the programs keep their time to end",
  async (stage) => {
    const [up, go] = [`${stage.directory}/up`, `${stage.directory}/go`];
    const wait = `while [ ! -e ${go} ]; do sleep 0.02; done`;
    const slow = `trap "${wait}; exit" TERM; : >${up}; ${wait}`;
    const { fleet, said, reached } = fleetOf("one_for_one", { a: [sleep], b: [slow] });
    await eventually("b", () => existsSync(up));
    await reached("spawn a1");
    fleet.stop(null);
    const { code } = await assertRejects(() => fleet.restartProgram("a"), SamError);
    assertEquals([code, said()], ["INTERRUPT", ["spawn a1", "spawn b1"]]);
    writeFileSync(go, "");
    assertEquals(await fleet.finished, 0);
    assertEquals(said().slice(2), ["exit b1", "exit a1"]);
  },
);

processTest(
  "a program that is stopped during its start is gone when the stop resolves",
  async (stage) => {
    const up = `${stage.directory}/up`;
    const command = checkProgram({
      command: "sh",
      args: ["-c", `trap "sleep 0.2; exit" TERM; while :; do sleep 0.02; done`],
      stdio: "ignore",
    });
    let go = () => {};
    const held = new Promise<void>((resolve) => go = resolve);
    const program: CheckedProgram = {
      ...command,
      async command(runtime) {
        writeFileSync(up, "");
        await held;
        return await command.command(runtime);
      },
    };
    const options = checkSuperviseOptions({ recoveryPolicy: "restart" }, program);
    const supervision = new Supervision(program, options);
    await eventually("its start", () => existsSync(up));
    const halted = supervision.halt();
    go();
    await halted;
    const { state, pid } = supervision.status;
    await supervision.stop();
    assertEquals([state, pid], ["stopped", null]);
  },
);

processTest(
  "a restart waits for the programs that must end, and its log line says so",
  async (stage) => {
    const [up, go] = [`${stage.directory}/up`, `${stage.directory}/go`];
    const wait = `while [ ! -e ${go} ]; do sleep 0.02; done`;
    const slow = `trap "${wait}; exit" TERM; : >${up}; ${wait}`;
    const { fleet, said, reached } = fleetOf("rest_for_one", { a: [sleep], b: [slow, "a"] });
    const texts: string[] = [];
    fleet.subscribe((_, event) => void texts.push(...report(event)));
    await eventually("b", () => existsSync(up));
    killQuietly(fleet.supervisor("a").status.pid!);
    await reached("exit a1");
    await eventually("its report", () => texts.length > 0);
    assertEquals(texts, ["instance 1 ended by SIGKILL; instance 2 waits for b"]);
    writeFileSync(go, "");
    await reached("spawn a2");
    killQuietly(fleet.supervisor("a").status.pid!); // b is ending or waiting, so a need not wait
    await reached("spawn a3");
    assertEquals(said().slice(0, 5), ["spawn a1", "spawn b1", "exit a1", "exit b1", "spawn a2"]);
    fleet.stop(null);
    await fleet.finished;
  },
);

/** Program `a` is ready while the file `healthy` exists, as `command` checks. Program `b`, which has a spare, comes after it. */
function fleetWithSpare(stage: Stage, healthy: string, command: string): Fleet {
  writeFileSync(healthy, "");
  const check = { command, period: 20, failureThreshold: 1000 };
  const shell = checkProgram({ command: "sh", args: ["-c", sleep], stdio: "ignore" });
  const a = checkSuperviseOptions({ recoveryPolicy: "restart", check }, shell);
  const spared = checkProgram(stage.program("supervisor/standby", { args: ["unix", "stays"] }));
  const b = checkSuperviseOptions(
    { timeInterval: 5000, recoveryPolicy: "restart", standby: 1 },
    spared,
  );
  return new Fleet([
    { name: "a", program: shell, options: a, after: [] },
    { name: "b", program: spared, options: b, after: ["a"] },
  ], "one_for_one");
}

processTest(
  "the log line of a recovery names no programs to wait for if a parked spare takes over",
  async (stage) => {
    const healthy = `${stage.directory}/healthy`;
    const fleet = fleetWithSpare(stage, healthy, `test -e ${healthy}`);
    const waits: unknown[] = [];
    fleet.subscribe((name, event) => {
      if (name === "b" && event.type === "recovery") waits.push(event.waitsFor);
    });
    await eventually("a spare", () => fleet.supervisor("b").status.spare?.state === "parked");
    rmSync(healthy);
    await eventually("a is not ready", () => !fleet.isReady("a"));
    killQuietly(fleet.supervisor("b").status.pid!);
    await eventually("the recovery", () => waits.length > 0);
    fleet.stop(null);
    await fleet.finished;
    assertEquals(waits, [undefined]);
  },
);

processTest("a spare waits for the programs that come before its program", async (stage) => {
  const [healthy, checks] = [`${stage.directory}/healthy`, `${stage.directory}/checks`];
  const fleet = fleetWithSpare(stage, healthy, `echo >>${checks}; test -e ${healthy}`);
  const spares: string[] = [];
  fleet.subscribe((name, event) => {
    if (name === "b" && event.type === "spare") spares.push(event.state);
  });
  try {
    const spare = () => fleet.status("b").spare;
    await eventually("a spare", () => spare()?.state === "parked");
    rmSync(healthy);
    await eventually("a is not ready", () => !fleet.isReady("a"));
    killQuietly(spare()!.pid!);
    await eventually("the next spare is due", () => spare()?.state === "starting");
    const checked = () => readFileSync(checks, "utf8").length;
    const before = checked();
    await eventually("more checks of a", () => checked() > before + 20);
    assertEquals(spares, ["starting", "parked", "ended"]);
    assertEquals(fleet.waitsFor("b"), undefined, "the program itself runs");
    writeFileSync(healthy, "");
    await eventually("the next spare", () => spare()?.state === "parked");
  } finally {
    fleet.stop(null);
    await fleet.finished;
  }
});

processTest("stopping the last running program ends the fleet", async () => {
  const { fleet, reached } = fleetOf("one_for_one", { a: [sleep], b: [sleep], c: ["exit 0"] });
  await reached("spawn b1");
  await reached("exit c1");
  await Promise.all([fleet.stopProgram("a"), fleet.stopProgram("b")]);
  assertEquals(await fleet.finished, 0);
});

processTest("a listener for the event finish finds the program ready", async () => {
  const { fleet } = fleetOf("one_for_one", { a: [sleep], seed: ["exit 0"] });
  const ready = new Promise<boolean>((resolve) =>
    fleet.subscribe((name, event) => event.type === "finish" && resolve(fleet.isReady(name)))
  );
  assertEquals(await ready, true);
  fleet.stop(null);
  assertEquals(await fleet.finished, 0);
});

test("circular and unknown dependencies are refused by name", () => {
  const message = (shells: Parameters<typeof fleetOf>[1]) =>
    (assertThrows(() => fleetOf("one_for_one", shells)) as SamError).message;
  assertEquals(
    message({ a: [sleep, "b"], b: [sleep, "a"] }),
    "programs.a.after is circular (a after b after a): remove one of these dependencies",
  );
  assertEquals(
    message({ a: [sleep, "x"] }),
    'programs.a.after names "x", which is not a program: use a',
  );
});
