// Brings a spare to every moment of its life, and judges what happens then.

import { readFileSync } from "node:fs";
import { assert, assertEquals } from "@std/assert";
import type { SuperviseOptions, SupervisorEvent } from "../../mod.ts";
import { pipe } from "../../transports/pipe.ts";
import { shm } from "../../transports/shm.ts";
import { unix } from "../../transports/unix.ts";
import { gated } from "./gated_transport.ts";
import {
  eventually,
  lives,
  processTest,
  Stage,
  type TransportName,
  transports,
  type Watched,
} from "./processes.ts";
import { newest, quickFixture } from "./runtimes.ts";

/** A program of test/fixtures. */
export const programName = "faults/spare";

/** A moment in the life of the first spare. */
export interface Moment {
  /** The passage at which the transport or the program holds the spare up; "" for none. */
  readonly held: "open" | "frame" | "end" | "born" | "registered" | "";
  /** Brings the spare to the moment. */
  readonly reach: (scene: Scene) => Promise<unknown>;
  /** True if the active process has ended on the way, so that the spare is the second instance. */
  readonly promoted?: true;
}

const parked = (scene: Scene) => scene.happens("spare", ({ state }) => state === "parked");
const stopped = async (scene: Scene) => {
  await parked(scene);
  await scene.freeze();
};
const promoted = async (scene: Scene) => {
  const is = scene.happens("spare", ({ state }) => state === "promoted");
  process.kill(scene.active, "SIGKILL");
  await is;
};

/** The moments in their order. */
export const moments: Readonly<Record<string, Moment>> = {
  "is being spawned": { held: "open", reach: ({ gate }) => gate.reached },
  "was just spawned": {
    held: "",
    reach: (scene) => scene.happens("spare", ({ state }) => state === "starting"),
  },
  "is starting": { held: "born", reach: ({ stage }) => stage.line("ready born") },
  "is connected, not parked": { held: "frame", reach: ({ gate }) => gate.reached },
  "is parked": { held: "", reach: parked },
  "is parked and stopped": { held: "", reach: stopped },
  "was promoted, register() has not returned": {
    held: "",
    promoted: true,
    reach: async (scene) => {
      await stopped(scene);
      await promoted(scene);
    },
  },
  "was promoted, start() was not called": {
    held: "registered",
    promoted: true,
    reach: async (scene) => {
      await parked(scene);
      await promoted(scene);
      await scene.stage.line("ready registered");
    },
  },
  "was promoted and has just started": {
    held: "",
    promoted: true,
    reach: async (scene) => {
      await parked(scene);
      const started = scene.happens("start", () => true);
      await promoted(scene);
      await started;
    },
  },
};

/** Options of supervise(), and settings of the program. */
export interface SceneOptions extends Omit<Partial<SuperviseOptions>, "transport"> {
  /** The behavior of test/fixtures/faults/spare.ts. */
  readonly behavior?: "fails" | "exits" | "marks" | "beats" | undefined;
  readonly transport?: TransportName;
}

type EventOf<T> = SupervisorEvent & { readonly type: T };

/** A supervised program whose first spare goes to one moment of its life. */
export class Scene {
  readonly stage: Stage;
  readonly watched: Watched;
  /** The place where the transport holds the spare up. */
  readonly gate: { readonly reached: Promise<void>; readonly open: () => void };
  readonly #moment: Moment;
  /** How often something passed the server's side of the transport, by the number of the process. */
  readonly passed: Record<number, number> = { 1: 0, 2: 0 };
  #waiters: ((event: SupervisorEvent) => void)[] = [];

  constructor(stage: Stage, moment: Moment, more: SceneOptions = {}) {
    const { behavior = "", transport = Scene.#nextTransport(), ...options } = more;
    this.stage = stage;
    this.#moment = moment;
    let reach: () => void;
    let open: () => void;
    const reached = new Promise<void>((resolve) => reach = resolve);
    const opened = new Promise<void>((resolve) => open = resolve);
    this.gate = { reached, open: () => open() };
    const watching = gated({ unix, pipe, shm }[transport], (passage, nth) => {
      this.passed[nth] = (this.passed[nth] ?? 0) + 1;
      if (passage !== moment.held || nth !== 2) return;
      reach();
      return opened;
    });
    const program = stage.program(programName, {
      args: [transport, "2", moment.held, behavior],
    });
    this.watched = stage.supervise({ ...program, module: quickFixture(programName) }, {
      timeInterval: 0,
      recoveryPolicy: "restart",
      standby: 1,
      restart: { intensity: Infinity, maxDelay: 0 },
      stopTimeout: 500, // a stopped process does not react to the warning
      transport: watching,
      ...options,
    });
    void this.#listen();
  }

  static #scenes = 0;

  /** The transports take turns. */
  static #nextTransport(): TransportName {
    return transports[Scene.#scenes++ % transports.length]!;
  }

  async #listen(): Promise<void> {
    for await (const event of this.watched.supervisor.events()) {
      for (const waiter of this.#waiters) waiter(event);
    }
  }

  /** Waits for a future event, and continues in the same turn of the event loop. */
  happens<T extends SupervisorEvent["type"]>(
    type: T,
    when: (event: EventOf<T>) => boolean,
  ): Promise<void> {
    return new Promise((resolve) =>
      this.#waiters.push((event) => {
        if (event.type === type && when(event as EventOf<T>)) resolve();
      })
    );
  }

  /** Waits until the first instance has started and the spare has reached its moment. */
  async reach(): Promise<void> {
    const end = this.watched.finished().then((status) => {
      throw new Error(`it ended before: ${JSON.stringify(status)}`);
    });
    await Promise.race([this.#moment.reach(this), end]);
    await this.stage.line("stored");
  }

  /** Lets everything continue that was held up. */
  release(): void {
    this.gate.open();
    if (this.#moment.held !== "") this.stage.go(this.#moment.held);
  }

  get active(): number {
    return this.watched.supervisor.status.pid!;
  }

  get spare(): number {
    return this.watched.supervisor.status.spare!.pid!;
  }

  /** Stops the spare by SIGSTOP. */
  async freeze(): Promise<void> {
    const { spare } = this;
    process.kill(spare, "SIGSTOP");
    await eventually("the stop of the spare", () => stateOf(spare) === "T");
  }

  /** Waits until there is an active process that has stored its data, and a spare. */
  async whole(): Promise<void> {
    const { supervisor, events } = this.watched;
    await eventually(`both, after ${JSON.stringify(events)}`, () => {
      const { state, spare, instanceId, pid } = supervisor.status;
      return state === "started" && spare?.state === "parked" && lives(pid!) &&
        lives(spare.pid!) &&
        this.stage.lines("stored").some(({ instance }) => instance === instanceId);
    });
  }

  /** Checks the end of supervision: nothing is left, and every spare has ended or was promoted. */
  judgeEnd(renewed = 0): void {
    this.judge(renewed);
    assertEquals(this.watched.supervisor.status.spare, null);
    assertEquals(this.stage.lines("born").filter(({ pid }) => lives(pid)), []);
    const spares = this.watched.all("spare").filter(({ pid }) => pid !== null);
    const began = spares.filter(({ state }) => state === "starting").map(({ pid }) => pid);
    const ended = spares.filter(({ state }) => state === "ended" || state === "promoted");
    assertEquals(ended.map(({ pid }) => pid), began);
  }

  /**
   * Checks what holds for any course of events. `renewed` is the number of calls of restart(), which may have met a
   * recovery.
   */
  judge(renewed = 0): void {
    const events = this.watched.events;
    const begins = events.filter((event) =>
      event.type === "spawn" || (event.type === "spare" && event.state === "promoted")
    );
    assertEquals(
      begins.map(({ instanceId }) => instanceId),
      begins.map((_, at) => at + 1),
      "instance ids rise by one",
    );
    const recoveries = this.watched.all("recovery").filter(({ delay }) => delay !== null);
    const others = begins.length - 1 - recoveries.length;
    assert(others >= 0 && others <= renewed, "one instance per recovery");
    let living = 0;
    for (const event of events) {
      if (event.type === "exit") living--;
      if (begins.includes(event)) living++;
      assert(living === 0 || living === 1, "two active processes by the events");
    }
    assertEquals(this.stage.lines("together"), [], "two active processes");
    let stored = 0;
    for (const { event, instance, data } of this.stage.lines()) {
      if (event === "stored") stored = instance;
      if (event !== "registered") continue;
      const [restored = 0] = data;
      assert(restored >= stored && restored < instance, `${restored} restored, ${stored} stored`);
    }
  }
}

/** The state of a process as `ps` shows it; "" if it does not exist. */
export function stateOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2)[0]!;
  } catch {
    return "";
  }
}

/** Registers a test that runs several cases at once, because each of them waits most of the time. */
export function casesTest<T>(
  name: string,
  cases: Readonly<Record<string, T>>,
  run: (stage: Stage, one: T) => Promise<void>,
): void {
  processTest(name, async () => {
    const stages = Object.entries(cases).map(([which, one]) => ({
      which,
      one,
      stage: new Stage(),
    }));
    try {
      const runs = stages.map(async ({ which, one, stage }) => {
        try {
          await run(stage, one);
        } catch (cause) {
          throw new Error(`${which}: ${(cause as Error).message}`, { cause });
        }
      });
      const failed = (await Promise.allSettled(runs)).find(({ status }) => status === "rejected");
      if (failed) throw (failed as PromiseRejectedResult).reason;
    } finally {
      await Promise.all(stages.map(({ stage }) => stage.end()));
    }
  }, { timeoutMs: 90_000, leg: newest });
}
