// Processes that send no heartbeat because they get no CPU time, by the state of their threads in /proc.
import { assertEquals } from "@std/assert";
import { Starvation } from "../../src/supervisor/instance/starvation.ts";
import { emptyRuntime } from "../support/empty_runtime.ts";
import { test } from "../support/harness.ts";

const T = 400;
/** Milliseconds until a starved process is examined again. */
const soon = T / 16;
const [pid, worker, other] = [7, 8, 9];

/** Process 7 and its threads: state, milliseconds of running and of waiting to run, page faults. */
type Threads = Record<
  number,
  readonly [state: "R" | "S" | "D" | "T", ranMs: number, waitedMs: number, faults?: number]
>;

class Scene {
  now = 1000;
  threads: Threads;
  /** The kernel function in which the main thread sleeps. */
  waitsIn = "futex_do_wait";
  readonly starvation: Starvation;

  constructor(threads: Threads, timeInterval = T) {
    this.threads = threads;
    this.starvation = new Starvation(
      {
        ...emptyRuntime,
        now: () => this.now,
        systemNames: () => Object.keys(this.threads),
        systemText: (path: string) => this.#text(path),
      },
      timeInterval,
    );
    this.starvation.watch(pid, this.now + timeInterval / 4);
  }

  #text(path: string): string | undefined {
    if (path === `/proc/${pid}/wchan`) return this.waitsIn;
    const [, , process, , thread, file] = path.split("/");
    const found = Number(process) === pid ? this.threads[Number(thread)] : undefined;
    if (!found) return undefined;
    const [state, ranMs, waitedMs, faults = 3] = found;
    return file === "stat"
      ? `${thread} (a) b) ${state} 1 7 7 0 -1 4194560 900 0 ${faults} 0`
      : `${ranMs * 1e6} ${waitedMs * 1e6} 12\n`;
  }

  /** Moves the clock to the deadline and sets the threads; returns the extra time. */
  after(ms: number, threads: Threads): number {
    this.now += ms;
    this.threads = threads;
    const more = this.starvation.extraTime(pid, this.starvation.deadline);
    this.starvation.postpone(this.now + more);
    return more;
  }
}

test("starvation: a process that is ready to run and gets no CPU time gets more time as long as that lasts", () => {
  const scene = new Scene({ [pid]: ["S", 50, 0] });
  assertEquals(scene.after(100, { [pid]: ["R", 50, 0] }), soon);
  for (let n = 0; n < 1000; n++) assertEquals(scene.after(soon, { [pid]: ["R", 51, 0] }), soon);
});

test("starvation: a process that used a quarter of a core gets no more time", () => {
  const after = (ms: number, ranMs: number) =>
    new Scene({ [pid]: ["R", 50, 0] }).after(ms, { [pid]: ["R", 50 + ranMs, 0] });
  assertEquals([after(100, 25), after(100, 25.1), after(100, 100)], [soon, 0, 0]);
  assertEquals([after(200, 50), after(200, 50.1)], [soon, 0]);
  assertEquals([after(9000, 100), after(9000, 100.1)], [soon, 0], "as much as was left: no more");
});

test("starvation: a process that sleeps or is stopped, and did not wait for CPU time, gets no more time", () => {
  for (const state of ["S", "T"] as const) {
    const scene = new Scene({ [pid]: ["S", 50, 40], [worker]: ["S", 10, 10] });
    assertEquals(scene.after(100, { [pid]: [state, 50, 40], [worker]: ["S", 11, 11] }), 0);
  }
});

test("starvation: a process that waited for CPU time and sleeps now gets its wait back, once and within limits", () => {
  const after = (waitedMs: number) =>
    new Scene({ [pid]: ["S", 50, 40] }).after(100, { [pid]: ["S", 60, 40 + waitedMs] });
  assertEquals([after(24), after(30), after(900)], [0, 30, T]);
  const scene = new Scene({ [pid]: ["R", 50, 40] });
  assertEquals(scene.after(100, { [pid]: ["R", 50, 40] }), soon);
  assertEquals(scene.after(soon, { [pid]: ["S", 51, 160] }), 120);
  assertEquals(scene.after(120, { [pid]: ["S", 52, 300] }), 0, "it had its chance");
});

test("starvation: a process that sleeps while another thread of it gets no CPU time gets more time as long as that lasts", () => {
  const scene = new Scene({ [pid]: ["S", 50, 0], [worker]: ["R", 10, 0] });
  for (let n = 0; n < 100; n++) {
    assertEquals(scene.after(soon, { [pid]: ["S", 50, 0], [worker]: ["R", 10, 0] }), soon);
  }
  const waited = scene.after(soon, { [pid]: ["S", 51, 0], [worker]: ["S", 11, 2500] });
  assertEquals(waited, T, "the wait of the worker was the main thread's");
  assertEquals(scene.after(T, { [pid]: ["S", 51, 0], [worker]: ["R", 11, 2500] }), 0);
});

test("starvation: other threads earn no time for a main thread that does not wait for them", () => {
  const scene = new Scene({ [pid]: ["S", 50, 0], [worker]: ["R", 10, 0] });
  scene.waitsIn = "do_epoll_wait";
  assertEquals(scene.after(100, { [pid]: ["S", 50, 0], [worker]: ["R", 10, 0] }), 0);
  const has = new Scene({ [pid]: ["S", 50, 0], [worker]: ["R", 10, 0] });
  assertEquals(has.after(100, { [pid]: ["S", 50, 0], [worker]: ["R", 10, 0] }), soon);
  has.waitsIn = "do_epoll_wait";
  const served = has.after(soon, { [pid]: ["S", 51, 0], [worker]: ["S", 11, 120] });
  assertEquals(served, 120, "it had waited for one");
});

test("starvation: threads that get CPU time earn no time for a process that sleeps", () => {
  const scene = new Scene({ [pid]: ["S", 50, 0], [worker]: ["R", 10, 0], [other]: ["S", 5, 0] });
  const busy: Threads = { [pid]: ["S", 50, 0], [worker]: ["R", 36, 60], [other]: ["R", 5, 0] };
  assertEquals(scene.after(100, busy), 0);
});

test("starvation: the longest wait of several threads counts, not their sum", () => {
  const scene = new Scene({ [pid]: ["S", 50, 0], [worker]: ["S", 10, 0], [other]: ["S", 5, 0] });
  const waited: Threads = { [pid]: ["S", 51, 50], [worker]: ["S", 11, 70], [other]: ["S", 6, 60] };
  assertEquals(scene.after(100, waited), 70);
});

test("starvation: a thread that ends does not count, and one that begins counts with all its times", () => {
  const scene = new Scene({
    [pid]: ["S", 50, 0],
    [worker]: ["R", 10, 0],
    [other]: ["S", 1e6, 1e6],
  });
  assertEquals(scene.after(100, { [pid]: ["S", 50, 0], [worker]: ["R", 60, 0] }), 0);
  const begun = new Scene({ [pid]: ["S", 50, 0] });
  assertEquals(begun.after(100, { [pid]: ["S", 50, 0], [worker]: ["R", 30, 0] }), 0);
  const idle = new Scene({ [pid]: ["S", 50, 0] });
  assertEquals(idle.after(100, { [pid]: ["S", 50, 0], [worker]: ["R", 3, 0] }), soon);
});

/** The most time that waiting for the disk earns. */
const diskMs = 5000;

test("starvation: a process that waits for the disk gets more time, five seconds at most", () => {
  const scene = new Scene({ [pid]: ["S", 50, 0] });
  for (let given = 0; given < diskMs; given += soon) {
    assertEquals(scene.after(soon, { [pid]: ["D", 51, 0] }), soon, `after ${given} ms`);
    assertEquals(scene.after(soon, { [pid]: ["R", 51, 0] }), soon, "meanwhile it waits to be run");
  }
  assertEquals(scene.after(soon, { [pid]: ["R", 51, 0] }), soon);
  assertEquals(scene.after(soon, { [pid]: ["D", 51, 0] }), 0);
  scene.starvation.watch(pid, scene.now + T / 4);
  assertEquals(
    scene.after(100, { [pid]: ["D", 51, 0] }),
    soon,
    "in doubt again, after a heartbeat",
  );
});

test("starvation: with a long time interval, the disk earns five seconds, too", () => {
  const long = 64_000;
  const scene = new Scene({ [pid]: ["S", 50, 0] }, long);
  const waiting: Threads = { [pid]: ["D", 50, 0] };
  const given = [long / 4, 4000, 1000].map((ms) => scene.after(ms, waiting));
  assertEquals(given, [long / 16, 1000, 0]);
});

test("starvation: a process that waits for the disk, and used a quarter of a core, gets no more time", () => {
  const after = (ranMs: number) =>
    new Scene({ [pid]: ["R", 50, 0] }).after(100, { [pid]: ["D", 50 + ranMs, 0] });
  assertEquals([after(25), after(25.1)], [soon, 0]);
});

test("starvation: a process that sleeps while another thread of it waits for pages gets five seconds at most", () => {
  const scene = new Scene({ [pid]: ["S", 50, 0], [worker]: ["S", 10, 0, 3] });
  for (let given = 0; given < diskMs; given += soon) {
    assertEquals(scene.after(soon, { [pid]: ["S", 50, 0], [worker]: ["D", 10, 0, 4] }), soon);
  }
  assertEquals(scene.after(soon, { [pid]: ["S", 50, 0], [worker]: ["D", 10, 0, 5] }), 0);
});

test("starvation: a thread that reads or writes files earns no time for a process that sleeps", () => {
  const start: Threads = { [pid]: ["S", 50, 0], [worker]: ["D", 10, 0, 3] };
  assertEquals(new Scene(start).after(100, { ...start, [other]: ["D", 1, 0, 0] }), 0);
  const paging: Threads = { ...start, [worker]: ["D", 10, 0, 4] };
  assertEquals(new Scene(start).after(100, paging), soon);
  const apart = new Scene(start);
  apart.waitsIn = "do_epoll_wait";
  assertEquals(apart.after(100, paging), 0, "nor does one that it does not wait for");
  const ready = new Scene(start).after(100, { ...start, [other]: ["R", 1, 0] });
  assertEquals(ready, soon, "nor does it hide one that waits to be run");
});

test("starvation: if the server got no CPU time and began to watch late, the process gets that time", () => {
  const look = (lateMs: number) => {
    const scene = new Scene({ [pid]: ["S", 50, 40] });
    scene.starvation.watch(pid, scene.now + T / 4 - lateMs);
    return scene;
  };
  for (const state of ["S", "R"] as const) {
    const scene = look(80);
    const after = (ms: number, ranMs: number) =>
      scene.after(ms, { [pid]: [state, 50 + ranMs, 40] });
    assertEquals([after(21, 10), after(80, 40)], [80, 0]);
  }
  const missed = look(T).after(1, { [pid]: ["S", 50, 40] });
  assertEquals(missed, T / 4, "the server came when the deadline had long passed");
  assertEquals(look(soon - 1).after(T / 4, { [pid]: ["S", 50, 40] }), 0);
});

test("starvation: a process is busy if it ran, or waited for CPU time, ever since its last heartbeat", () => {
  const isBusy = (state: "R" | "S" | "D", ranMs: number, waitedMs: number, sinceMs = 100) => {
    const scene = new Scene({ [pid]: ["S", 50, 40] });
    scene.now += sinceMs;
    scene.threads = { [pid]: [state, 50 + ranMs, 40 + waitedMs] };
    return scene.starvation.isBusySince(999);
  };
  assertEquals([isBusy("R", 90, 0), isBusy("R", 89, 0), isBusy("S", 100, 0)], [true, false, false]);
  assertEquals([isBusy("R", 26, 70), isBusy("R", 25, 75)], [true, false], "that it hardly ran");
  assertEquals([isBusy("D", 100, 0), isBusy("R", 49, 0, 49)], [false, false], "too short a look");
  const scene = new Scene({ [pid]: ["R", 50, 0] });
  scene.now += 100;
  scene.threads = { [pid]: ["R", 150, 0] };
  const signs = [1000, 1001, null].map((at) => scene.starvation.isBusySince(at));
  assertEquals(signs, [true, false, false], "the look began before the last sign");
  scene.threads = {};
  assertEquals(scene.starvation.isBusySince(1000), false);
});

test("starvation: another process, another deadline and an unreadable /proc earn no time", () => {
  const starving: Threads = { [pid]: ["R", 50, 0] };
  const { starvation } = new Scene(starving);
  const { deadline } = starvation;
  assertEquals(starvation.extraTime(pid, deadline), soon, "the server itself has just woken up");
  assertEquals(starvation.extraTime(worker, deadline), 0);
  assertEquals(starvation.extraTime(undefined, deadline), 0);
  assertEquals(starvation.extraTime(pid, deadline + 1), 0);
  starvation.postpone(deadline + soon);
  assertEquals(starvation.extraTime(pid, deadline), 0);
  starvation.watch(undefined, deadline);
  assertEquals(starvation.extraTime(undefined, deadline), 0);
  assertEquals(
    new Scene({ [pid]: ["R", 0, 0] }).after(100, { [pid]: ["R", 0, 0] }),
    0,
    "no counts",
  );
  assertEquals(new Scene({}).after(100, starving), 0);
  assertEquals(new Scene(starving).after(100, {}), 0);
});
