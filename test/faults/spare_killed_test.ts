// Kills the spare, the instance, both, or the server at each moment of a spare's life. There are never two instances at once,
// the instance ids rise by one, stored data stay, a new spare comes, and supervision ends only when it is asked to.
import { assert, assertEquals, assertGreaterOrEqual } from "@std/assert";
import { setTimeout as sleep } from "node:timers/promises";
import { memoryClusterMap } from "../../src/testing/mod.ts";
import {
  eventually,
  killQuietly,
  lives,
  processTest,
  type Stage,
  transports,
} from "../support/processes.ts";
import { seed } from "../support/property.ts";
import { quickFixture } from "../support/runtimes.ts";
import { casesTest, moments, programName, Scene, stateOf } from "../support/standby_scene.ts";

/** The moments at which the spare has a process. */
const withSpare = Object.keys(moments).filter((when) =>
  !moments[when]!.promoted && moments[when]!.held !== "open"
);
const casesOf = (names: readonly string[]) =>
  Object.fromEntries(names.map((when) => [`the spare ${when}`, moments[when]!]));

casesTest(
  "standby, the spare is killed: another one comes, and the instance goes on",
  casesOf(withSpare),
  async (stage, moment) => {
    const scene = new Scene(stage, moment);
    await scene.reach();
    const { active, spare } = scene;
    const parked = scene.happens(
      "spare",
      ({ state, pid }) => state === "parked" && pid !== spare,
    );
    process.kill(spare, "SIGKILL");
    scene.release();
    await parked;
    await scene.whole();
    assertEquals([scene.active, scene.watched.all("recovery")], [active, []]);
    scene.judge();
  },
);

casesTest(
  "standby, the instance is killed: the spare takes over, whatever it has reached",
  casesOf(Object.keys(moments)),
  async (stage, moment) => {
    const scene = new Scene(stage, moment);
    await scene.reach();
    const { spare, instanceId } = scene.watched.supervisor.status;
    process.kill(scene.active, "SIGKILL");
    const next = await eventually("a recovery", () => {
      const { status } = scene.watched.supervisor;
      return status.instanceId > instanceId && status.pid !== null && status;
    });
    if (spare?.pid) assertEquals(next.pid, spare.pid);
    if (stateOf(next.pid!) === "T") process.kill(next.pid!, "SIGCONT");
    scene.release();
    await scene.whole();
    scene.judge();
  },
);

const orders = [["spare", "active"], ["active", "spare"]] as const;
const both = orders.flatMap((order) =>
  ["was just spawned", "is connected, not parked", "is parked"].map((when) =>
    [`the ${order[0]} first while the spare ${when}`, { order, moment: moments[when]! }] as const
  )
);
casesTest(
  "standby, both are killed in one turn: both are replaced",
  Object.fromEntries(both),
  async (stage, { order, moment }) => {
    const scene = new Scene(stage, moment);
    await scene.reach();
    const { active, spare } = scene;
    for (const one of order) process.kill({ active, spare }[one], "SIGKILL");
    scene.release();
    await eventually("another instance", () => {
      const { pid, state } = scene.watched.supervisor.status;
      return state === "started" && pid !== active && pid !== spare;
    });
    await scene.whole();
    scene.judge();
  },
);

const seeds = { [`SAM_TEST_SEED=${seed}, first half`]: seed, [`SAM_TEST_SEED=${seed}`]: ~seed };
casesTest("standby, killed at random: both are replaced", seeds, async (stage, itsSeed) => {
  let state = itsSeed;
  const random = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * below);
  };
  const done: string[] = [];
  const scene = new Scene(stage, moments["is parked"]!);
  const { supervisor } = scene.watched;
  let renewed = 0;
  try {
    await scene.reach();
    for (let round = 0; round < 15; round++) {
      const ms = random(3) === 0 ? 300 + random(300) : random(150);
      await sleep(ms);
      const { pid, spare } = supervisor.status;
      const what = ["spare", "active", "spare active", "active spare", "restart"][random(5)]!;
      done.push(`${ms} ms: ${what}`);
      for (const one of what.split(" ")) {
        const target = { active: pid, spare: spare?.pid }[one];
        if (target) killQuietly(target);
      }
      if (what !== "restart") continue;
      await supervisor.restart();
      renewed++;
    }
    await scene.whole();
    scene.judge(renewed);
  } catch (cause) {
    throw new Error(`after ${done.join(", ")}: ${(cause as Error).message}`, { cause });
  }
});

// Spares that fail.

/** Asserts that the instance was not disturbed. */
async function unharmed(scene: Scene, active: number): Promise<void> {
  await scene.whole();
  assertEquals([scene.active, scene.watched.all("recovery")], [active, []]);
  scene.judge();
}

casesTest<(stage: Stage) => Promise<void>>(
  "standby: a spare that fails does not disturb the instance, and is replaced",
  {
    "it exits with 0 while it is parked": async (stage) => {
      const scene = new Scene(stage, moments["is parked"]!, { behavior: "exits" });
      await scene.reach();
      const { active, spare } = scene;
      stage.go("exit");
      const ended = () => scene.watched.all("spare").find(({ state }) => state === "ended");
      assertEquals((await eventually("its end", ended)).pid, spare);
      await unharmed(scene, active);
    },

    "it fails before register(), ever more slowly": async (stage) => {
      const restart = { maxDelay: 400 };
      const scene = new Scene(stage, moments["is parked"]!, { restart, behavior: "fails" });
      const spares = (state: string) =>
        scene.watched.all("spare").filter((event) => event.state === state);
      await eventually("four failures", () => spares("ended")[3]);
      const { active } = scene;
      const waits = spares("starting").slice(1).map(({ at }, each) =>
        at - spares("ended")[each]!.at
      );
      for (const [each, least] of [250, 330, 410].entries()) {
        assertGreaterOrEqual(waits[each]!, least - 20, `${waits}`);
      }
      stage.go("well");
      await unharmed(scene, active);
    },

    "it is stopped, promoted, and replaced when its startup limit is over": async (stage) => {
      const scene = new Scene(stage, moments["is parked and stopped"]!, { startupTimeout: 2500 });
      await scene.reach();
      const { active, spare } = scene;
      process.kill(active, "SIGKILL");
      const late = () => scene.watched.all("recovery").find(({ reason }) => reason === "startup");
      const { instanceId, evidence } = await eventually("its recovery", late);
      assertEquals([instanceId, evidence.signal], [2, "SIGKILL"]);
      await scene.whole();
      assert(!lives(spare));
      scene.judge();
    },
  },
  (stage, run) => run(stage),
);

processTest(
  "standby: a spare that exits with 0 at the moment of its promotion does not end the program",
  async (stage) => {
    // The server is this process. It learns of both exits at once, before it learns that the spare's link has ended.
    const moment = { ...moments["is parked"]!, held: "end" } as const;
    const scene = new Scene(stage, moment, { behavior: "exits" });
    await scene.reach();
    await stage.line("ready exit");
    const { active, spare } = scene;
    stage.go("exit");
    blockUntilDead(spare);
    process.kill(active, "SIGKILL");
    blockUntilDead(active);
    await eventually("another instance", () => scene.watched.supervisor.status.restarts > 0);
    scene.release();
    await scene.whole();
    scene.judge();
  },
);

function blockUntilDead(pid: number): void {
  for (const end = performance.now() + 10_000; lives(pid) && performance.now() < end;);
}

casesTest(
  "standby: a parked spare sends nothing, gets nothing, and is not polled",
  { unix: "unix", pipe: "pipe", shm: "shm" } as const,
  async (stage, transport) => {
    const beating = { timeInterval: 2000, behavior: "beats", transport } as const;
    const scene = new Scene(stage, moments["is parked"]!, beating);
    await scene.reach();
    const { 1: active, 2: spare } = { ...scene.passed };
    await eventually("signs of life", () => scene.passed[1]! > active! + 5);
    assertEquals(scene.passed[2], spare);
  },
);

// The end of supervision.

casesTest(
  "standby, stop(): no process is left",
  casesOf(Object.keys(moments)),
  async (stage, moment) => {
    const scene = new Scene(stage, moment);
    await scene.reach();
    const stopped = scene.watched.supervisor.stop();
    scene.gate.open(); // a process that is being spawned cannot be killed yet
    assertEquals((await stopped).reason, "stopped");
    await scene.watched.ended;
    scene.judgeEnd();
  },
);

casesTest(
  "standby, restart(): the next instance is a new process, and gets a new spare",
  casesOf([
    "is being spawned",
    "is connected, not parked",
    "is parked",
    "was promoted, register() has not returned",
  ]),
  async (stage, moment) => {
    const scene = new Scene(stage, moment);
    await scene.reach();
    const old = stage.lines("born").map(({ pid }) => pid);
    const renewed = scene.watched.supervisor.restart();
    scene.release();
    await renewed;
    assert(!old.includes(scene.active));
    await scene.whole();
    assert(!old.includes(scene.spare));
    scene.judge(1);
  },
);

casesTest(
  "standby, the restart limit: no process is left",
  casesOf([
    "is starting",
    "is connected, not parked",
    "is parked",
    "was promoted, start() was not called",
  ]),
  async (stage, moment) => {
    const restart = { intensity: moment.promoted ? 1 : 0 };
    const scene = new Scene(stage, moment, { restart });
    await scene.reach();
    process.kill(scene.active, "SIGKILL");
    assertEquals((await scene.watched.finished()).reason, "restart-limit");
    scene.judgeEnd();
  },
);

casesTest(
  "standby, markFailed(): no process is left",
  casesOf(["was just spawned", "is connected, not parked", "is parked and stopped"]),
  async (stage, moment) => {
    const scene = new Scene(stage, moment, { clusterMap: memoryClusterMap(), behavior: "marks" });
    await scene.reach();
    stage.go("mark");
    assertEquals((await scene.watched.finished()).reason, "failed");
    scene.judgeEnd();
  },
);

/** The moments of a spare of a program that is its own server: where the spare is held, and how the test gets there. */
const ofServer: Readonly<
  Record<string, [held: string, reach: (stage: Stage) => Promise<unknown>]>
> = {
  "is starting": ["born", (stage) => stage.line("ready born")],
  "is connected, not parked": ["hello", (stage) => stage.line("ready hello")],
  "is parked": ["", (stage) => stage.line("parked")],
  "is needed in the same instant": ["", async (stage) => {
    await stage.line("parked");
    process.kill(stage.lines("born")[1]!.pid, "SIGKILL");
  }],
  "was promoted, register() has not returned": ["", async (stage) => {
    await stage.line("parked");
    process.kill(stage.lines("born")[2]!.pid, "SIGSTOP");
    process.kill(stage.lines("born")[1]!.pid, "SIGKILL");
    await stage.line("welcomed");
  }],
  "was promoted, start() was not called": ["registered", async (stage) => {
    await stage.line("parked");
    process.kill(stage.lines("born")[1]!.pid, "SIGKILL");
    await stage.line("ready registered");
  }],
  "was promoted and has just started": ["", async (stage) => {
    await stage.line("parked");
    process.kill(stage.lines("born")[1]!.pid, "SIGKILL");
    await stage.line("started", 2);
  }],
};

casesTest("standby, the server is killed: all end", ofServer, async (stage, [held, reach]) => {
  const transport = transports[
    Object.values(ofServer).findIndex(([, each]) => each === reach) % 3
  ]!;
  const server = stage.run(programName, {
    script: quickFixture(programName),
    args: [transport, "3", held],
  });
  await reach(stage);
  server.kill("SIGKILL");
  await server.exited;
  if (held === "born") stage.go("born"); // the spare learns of the end when it connects
  const pids = stage.lines("born").map(({ pid }) => pid);
  for (const pid of pids) if (stateOf(pid) === "T") process.kill(pid, "SIGCONT");
  await eventually("the end of all", () => stage.lines("born").every(({ pid }) => !lives(pid)));
  assertEquals(stage.lines("together"), []);
});
