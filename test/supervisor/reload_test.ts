// Reloads: a replacement proves itself beside the old instance. Programs with several instances side by side.
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type CheckOptions, SamError, type SupervisorEvent } from "../../mod.ts";
import { Fleet } from "../../src/supervisor/fleet.ts";
import {
  expandInstances,
  type FleetProgram,
  type Strategy,
} from "../../src/supervisor/fleet_program.ts";
import { type LoadParts, loadParts } from "../../src/supervisor/load_parts.ts";
import { report } from "../../src/supervisor/report.ts";
import { checkProgram } from "../../src/api/program.ts";
import { checkSuperviseOptions, type SuperviseOptions } from "../../src/api/supervise_options.ts";
import { eventually, killQuietly, lives, processTest, type Stage } from "../support/processes.ts";

interface FleetEvent {
  readonly name: string;
  readonly event: SupervisorEvent;
}

interface Shell {
  readonly line: string;
  readonly check?: CheckOptions;
  readonly options?: Partial<SuperviseOptions>;
  readonly instances?: number;
  readonly after?: readonly string[];
}

/** Describes a program that is a shell. */
function shell(name: string, { line, check, options, instances, after = [] }: Shell): FleetProgram {
  const program = checkProgram({ command: "sh", args: ["-c", line], stdio: "ignore" });
  return {
    name,
    program,
    options: checkSuperviseOptions({
      recoveryPolicy: "restart",
      restart: { on: "failure", intensity: 3, maxDelay: 0 },
      ...options,
      ...(check && { check }),
    }, program),
    after,
    instances,
    minReady: 200,
  };
}

/** Runs programs, and ends them after the test. */
async function withFleet(
  programs: readonly FleetProgram[],
  use: (scene: {
    readonly fleet: Fleet;
    readonly events: readonly FleetEvent[];
    /** The events of the given types so far: `exit web1` is the exit of instance 1 of web. */
    readonly said: (...types: string[]) => readonly string[];
    /** Waits until a program is ready. Resolves to its process id. */
    readonly ready: (name: string) => Promise<number>;
  }) => Promise<void>,
  strategy: Strategy = "one_for_one",
): Promise<void> {
  const events: FleetEvent[] = [];
  const fleet = new Fleet(expandInstances(programs), strategy);
  fleet.subscribe((name, event) => void events.push({ name, event }));
  const said = (...types: string[]) =>
    events.filter(({ event }) => types.includes(event.type))
      .map(({ name, event }) => `${event.type} ${name}${event.instanceId}`);
  const ready = (name: string) =>
    eventually(`${name} is ready`, () => {
      const { ready, pid } = fleet.status(name);
      return ready && pid !== null && pid;
    });
  try {
    await use({ fleet, events, said, ready });
  } finally {
    fleet.stop(null);
    await fleet.finished;
  }
}

/** A shell that runs the text of a file, so that a test can deploy another version. The first version has a heart. */
function deployable({ directory }: Stage) {
  const [path, up] = [`${directory}/app.sh`, `${directory}/up`];
  const deploy = (text: string) => writeFileSync(path, text);
  deploy(`: >${up}; exec sleep 60`);
  return {
    deploy,
    line: `. ${path}`,
    isUp: () => eventually("the first version", () => existsSync(up)),
  };
}

const sleep = "exec sleep 60";

/** The state of a program that a failed reload must not change. */
function facts(fleet: Fleet, name: string) {
  const { pid, instanceId, restarts } = fleet.status(name);
  return { pid, instanceId, restarts, isReloading: "replacement" in fleet.status(name) };
}

processTest(
  "a reload that cannot load the parts of the new options fails, and the program can end",
  async () => {
    const program = shell("web", { line: sleep });
    const load: LoadParts = (options) =>
      options.check === undefined ? loadParts(options) : Promise.reject(new Error("EMFILE"));
    const next = shell("web", { line: sleep, check: { command: "true" } });
    const fleet = new Fleet([program], "one_for_one", load);
    await eventually("web is ready", () => fleet.status("web").ready);
    const { failed } = await fleet.change([next]);
    assertEquals(
      [failed?.event.kept, failed?.event.detail],
      [true, "cannot start supervision: EMFILE"],
    );
    assertEquals((await fleet.change([program])).failed, null);
    fleet.stop(null);
    assertEquals(await fleet.finished, 143);
  },
);

processTest("a reload replaces the instance, and the numbers of the instances go on", async () => {
  await withFleet([shell("web", { line: sleep })], async ({ fleet, said, ready }) => {
    const first = await ready("web");
    const readers = fleet.supervisor("web").events();
    assertEquals((await readers.next()).value.type, "status");
    const { reloaded, failed } = await fleet.reloadProgram("web");
    assertEquals([reloaded, failed], [["web"], null]);
    const { pid, instanceId, restarts, state } = fleet.status("web");
    assertEquals([instanceId, restarts, state, lives(first)], [2, 1, "launched", false]);
    assert(pid !== null && pid !== first);
    const types = ["spawn", "reload", "reloaded", "stopping", "exit", "finish"];
    const order = ["spawn web1", "reload web1", "reloaded web2", "stopping web1", "exit web1"];
    assertEquals(said(...types), order);
    killQuietly(pid);
    await eventually("the recovery", () => said("spawn").includes("spawn web3"));
    await fleet.reloadProgram("web");
    const after = fleet.status("web");
    assertEquals([after.instanceId, after.restarts, after.lastRecovery?.reason], [4, 3, "signal"]);
  });
});

const broken = [
  ["exits at once", "exit 3", "ended with exit code 3"],
  ["exits while it proves itself", "sleep 0.1; exit 3", "ended with exit code 3"],
  ["is killed while it proves itself", "sleep 0.1; kill -9 $$", "ended by SIGKILL"],
  ["ends without a failure", "exit 0", "ended with exit code 0"],
] as const;

for (const [what, version, why] of broken) {
  processTest(`a replacement that ${what} is ended, and the old instance stays`, async (stage) => {
    const { deploy, line, isUp } = deployable(stage);
    await withFleet([shell("web", { line })], async ({ fleet, events, said }) => {
      await isUp();
      const before = facts(fleet, "web");
      deploy(version);
      const { reloaded, failed } = await fleet.reloadProgram("web");
      assertEquals([reloaded, failed?.name, failed?.event.kept], [[], "web", true]);
      assertEquals([failed!.event.detail, facts(fleet, "web")], [why, before]);
      assertEquals(said("exit", "reloaded", "recovery"), []);
      const { event } = events.find(({ event }) => event.type === "reloadFailed")!;
      assertMatch(
        report(event, { name: "web" })[0]!,
        /^web was not reloaded: the replacement \(pid \d+\) ended .*; instance 1 stays$/,
      );
    });
  });
}

processTest(
  "a replacement that cannot be started leaves the old instance in place",
  async (stage) => {
    const web = shell("web", { line: sleep });
    let cwd = stage.directory;
    const program = {
      ...web.program,
      command: async (runtime: Parameters<typeof web.program.command>[0]) => ({
        ...await web.program.command(runtime),
        cwd,
      }),
    };
    await withFleet([{ ...web, program }], async ({ fleet, ready }) => {
      await ready("web");
      const before = facts(fleet, "web");
      cwd = `${stage.directory}/missing`;
      const { failed } = await fleet.reloadProgram("web");
      assertMatch(failed!.event.detail, /missing|does not exist/);
      assertEquals(facts(fleet, "web"), before);
    });
  },
);

for (const isReadyFirst of [false, true]) {
  const what = isReadyFirst ? "fails its check while it proves itself" : "never passes its check";
  processTest(`a replacement that ${what} is ended, and the old instance stays`, async (stage) => {
    const healthy = `${stage.directory}/healthy`;
    writeFileSync(healthy, "");
    const check = { command: `test -e ${healthy}`, period: 20, failureThreshold: 1000 };
    const web = shell("web", { line: sleep, check, options: { startupTimeout: 500 } });
    await withFleet([{ ...web, minReady: 20_000 }], async ({ fleet, said, ready }) => {
      await ready("web");
      const before = facts(fleet, "web");
      if (!isReadyFirst) rmSync(healthy);
      const reload = fleet.reloadProgram("web");
      if (isReadyFirst) {
        await eventually("a ready replacement", () => fleet.status("web").replacement?.ready);
        rmSync(healthy);
      }
      const { failed } = await reload;
      const why = isReadyFirst ? /^failed its health check: / : /not healthy within 500 ms/;
      assertMatch(`${failed!.event.detail} ${failed!.event.evidence?.detail}`, why);
      assertEquals([facts(fleet, "web"), said("exit")], [before, []]);
    });
  });
}

processTest("a second reload, and the reload of a stopped program, are refused", async () => {
  const programs = [shell("web", { line: sleep }), shell("db", { line: sleep })];
  await withFleet(programs, async ({ fleet, ready }) => {
    await ready("web");
    const reload = fleet.reloadProgram("web");
    const again = await assertRejects(() => fleet.reloadProgram("web"), SamError);
    assertEquals(again.code, "TRY_AGAIN");
    assertMatch(again.message, /^cannot reload web: another reload of it is running/);
    assertEquals((await reload).failed, null);
    await fleet.stopProgram("web");
    const stopped = await assertRejects(() => fleet.reloadProgram("web"), SamError);
    assertEquals(stopped.code, "BAD_HANDLE");
    assertMatch(stopped.message, /^cannot reload web: it is stopped/);
  });
});

for (const action of ["stop", "restart", "end"] as const) {
  processTest(
    `a reload is canceled by a ${action} of the program, and its replacement ends`,
    async () => {
      const web = { ...shell("web", { line: sleep }), minReady: 20_000 };
      await withFleet([web, shell("db", { line: sleep })], async ({ fleet, said, ready }) => {
        await ready("web");
        const reload = fleet.reloadProgram("web");
        const replacement = await eventually("a ready replacement", () => {
          const { replacement } = fleet.status("web");
          return (replacement?.ready && replacement.pid) || undefined;
        });
        if (action === "stop") await fleet.stopProgram("web");
        if (action === "restart") await fleet.restartProgram("web");
        if (action === "end") fleet.stop(null);
        const { failed } = await reload;
        assertMatch(
          failed!.event.detail,
          /^was ended, because the program is being (stopped|restarted)$/,
        );
        assertEquals([lives(replacement), said("reloaded")], [false, []]);
      });
    },
  );
}

processTest(
  "the old instance may fail and recover while its replacement proves itself",
  async () => {
    const web = shell("web", { line: sleep, options: { restart: { on: "failure", maxDelay: 0 } } });
    await withFleet([web], async ({ fleet, events, said, ready }) => {
      const old = await ready("web");
      const reload = fleet.reloadProgram("web");
      await eventually("a replacement", () => fleet.status("web").replacement?.pid);
      killQuietly(old);
      await eventually("the recovery", () => said("spawn").includes("spawn web3"));
      const { event: recovery } = events.find(({ event }) => event.type === "recovery")!;
      assertMatch(report(recovery)[0]!, /; instance 3 starts now$/);
      assertEquals((await reload).failed, null);
      assertEquals(said("recovery", "reloaded"), ["recovery web1", "reloaded web2"]);
      assertEquals(fleet.isReady("web"), true);
      killQuietly(await ready("web"));
      await eventually(
        "an instance with a number of its own",
        () => said("spawn").includes("spawn web4"),
      );
    });
  },
);

processTest(
  "a program that has ended for good during its reload goes on with the replacement",
  async (stage) => {
    const { deploy, line, isUp } = deployable(stage);
    await withFleet(
      [shell("web", { line, options: { recoveryPolicy: "quit" } })],
      async ({ fleet, said, ready }) => {
        const old = await ready("web");
        await isUp();
        deploy(sleep);
        const reload = fleet.reloadProgram("web");
        await eventually("a replacement", () => fleet.status("web").replacement?.pid);
        killQuietly(old);
        assertEquals((await reload).failed, null);
        assertEquals([said("finish"), fleet.status("web").state], [[], "launched"]);
      },
    );
  },
);

processTest("many reloads, each of them broken or not, leave no descriptor open", async (stage) => {
  const { deploy, line, isUp } = deployable(stage);
  await withFleet([{ ...shell("web", { line }), minReady: 50 }], async ({ fleet, said, ready }) => {
    await ready("web");
    await isUp();
    const descriptors = () => readdirSync("/proc/self/fd").length;
    let before = 0;
    for (let reloads = 0; reloads < 40; reloads++) {
      if (reloads === 10) before = descriptors();
      deploy(reloads % 2 === 0 ? sleep : "exit 3");
      await fleet.reloadProgram("web");
    }
    assertEquals([said("reloaded").length, said("reloadFailed").length], [20, 20]);
    await eventually("the descriptors of before", () => descriptors() <= before);
  });
});

// Several instances side by side.

processTest(
  "instances side by side have names, numbers in their environment, and are reloaded one after the other",
  async ({ directory }) => {
    const file = `${directory}/numbers`;
    const line = `echo $SAM_INSTANCE >>${file}; ${sleep}`;
    const web = shell("web", { line, instances: 3 });
    await withFleet([web], async ({ fleet, said, ready }) => {
      assertEquals(fleet.names, ["web.1", "web.2", "web.3"]);
      assertEquals([fleet.select("web"), fleet.select("web.2")], [fleet.names, ["web.2"]]);
      await Promise.all(fleet.names.map(ready));
      const numbers = () => existsSync(file) ? readFileSync(file, "utf8") : "";
      await eventually("their numbers", () => numbers().length === 6);
      assertEquals(numbers().split("\n").sort(), [
        "",
        "1",
        "2",
        "3",
      ]);
      const { reloaded } = await fleet.reloadProgram("web");
      assertEquals(reloaded, fleet.names);
      assertEquals(
        said("reloaded", "exit"),
        [1, 2, 3].flatMap((n) => [`reloaded web.${n}2`, `exit web.${n}1`]),
      );
      await fleet.restartProgram("web");
      assertEquals(said("exit").slice(3), [1, 2, 3].map((n) => `exit web.${n}2`));
      assertEquals(said("spawn").slice(3), [1, 2, 3].map((n) => `spawn web.${n}3`));
      assertEquals(fleet.allReady, true);
    });
  },
);

processTest("a reload of several instances stops at the first failure", async (stage) => {
  const { deploy, line, isUp } = deployable(stage);
  await withFleet([shell("web", { line, instances: 2 })], async ({ fleet, said, ready }) => {
    await Promise.all(fleet.names.map(ready));
    await isUp();
    await new Promise((resolve) => setTimeout(resolve, 200));
    const before = fleet.names.map((name) => facts(fleet, name));
    deploy("exit 3");
    const { reloaded, failed } = await fleet.reloadProgram("web");
    assertEquals([reloaded, failed?.name, said("reload")], [[], "web.1", ["reload web.11"]]);
    assertEquals(fleet.names.map((name) => facts(fleet, name)), before);
  });
});

processTest(
  "an instance at its restart limit leaves the others running; the program fails when none is left",
  async () => {
    const line = `test $SAM_INSTANCE = 1 && exit 9; ${sleep}`;
    const programs = [shell("db", { line: sleep }), shell("web", { line, instances: 2 })];
    await withFleet(programs, async ({ fleet, said, ready }) => {
      await eventually("the end of web.1", () => said("finish").length > 0);
      const second = await ready("web.2");
      assertEquals([fleet.isStopping, fleet.allReady], [false, true]);
      await fleet.reloadProgram("web");
      assertEquals(said("reloaded"), ["reloaded web.22"]);
      assertEquals(lives(second), false);
      for (let kills = 0; kills < 4; kills++) {
        const { pid, restarts } = fleet.status("web.2");
        killQuietly(pid!);
        await eventually(
          "the next",
          () => fleet.isStopping || fleet.status("web.2").restarts > restarts,
        );
        await eventually(
          "its process",
          () => fleet.isStopping || fleet.status("web.2").pid !== null,
        );
      }
      assertEquals(await fleet.finished, 9);
      assertEquals(said("exit").at(-1), "exit db1");
    });
  },
);

processTest(
  "rest_for_one: programs go on when an instance fails and another one is ready",
  async () => {
    const programs = [
      shell("web", { line: sleep, instances: 2 }),
      shell("job", { line: sleep, after: ["web"] }),
    ];
    await withFleet(programs, async ({ fleet, said, ready }) => {
      for (const name of fleet.names) await ready(name);
      killQuietly(fleet.status("web.1").pid!);
      await eventually("its recovery", () => said("spawn").includes("spawn web.12"));
      assertEquals(said("exit"), ["exit web.11"]);
    }, "rest_for_one");
  },
);
