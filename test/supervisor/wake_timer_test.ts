// One timer for many sleepers, on a virtual clock.
import { assertEquals } from "@std/assert";
import { type Sleeper, WakeTimer } from "../../src/supervisor/wake_timer.ts";
import { test } from "../support/harness.ts";
import { Clock } from "../support/timers.ts";

class Program implements Sleeper {
  readonly woken: number[] = [];
  due: number;
  readonly #clock: Clock;
  readonly #period: number;

  constructor(clock: Clock, due: number, period = Infinity) {
    this.#clock = clock;
    this.due = due;
    this.#period = period;
  }

  wake(): void {
    this.woken.push(this.#clock.time);
    this.due += this.#period;
  }
}

test("wake timer: one timer wakes each sleeper when it is due, and keeps the process alive", () => {
  const clock = new Clock();
  const timer = new WakeTimer(clock.runtime);
  const programs = [1300, 1100, 1200, Infinity].map((due) => new Program(clock, due));
  for (const program of programs) {
    timer.add(program);
    timer.arm(program.due);
    assertEquals(clock.timers.length, 1);
  }
  assertEquals(clock.timers[0]!.hold, true);
  clock.pass(2000);
  assertEquals(programs.map(({ woken }) => woken), [[1300], [1100], [1200], []]);
  assertEquals(clock.timers, []);
});

test("wake timer: one firing wakes all sleepers that are due within a millisecond", () => {
  const clock = new Clock();
  const timer = new WakeTimer(clock.runtime);
  const programs = Array.from({ length: 1000 }, () => new Program(clock, 1125, 125));
  let fired = 0;
  for (const program of programs) timer.add(program);
  timer.add({
    get due() {
      fired++; // `due` is read once at each firing, and once more after a wake
      return Infinity;
    },
    wake() {},
  });
  timer.arm(1125);
  clock.pass(2000, -0.9);
  for (const { woken } of programs) assertEquals(woken.length, 8);
  assertEquals(fired, 16);
});

test("wake timer: a deadline that moves to a later time sets no timer until its old time", () => {
  const clock = new Clock();
  const timer = new WakeTimer(clock.runtime);
  const program = new Program(clock, 1100);
  timer.add(program);
  timer.arm(program.due);
  program.due = 1900;
  timer.arm(program.due);
  assertEquals(clock.timers.map(({ at }) => at), [1100]);
  clock.pass(1899);
  assertEquals([program.woken, clock.timers.map(({ at }) => at)], [[], [1900]]);
  program.due = 1899.5;
  timer.arm(program.due);
  assertEquals(clock.timers.map(({ at }) => at), [1899.5]);
});

test("wake timer: without sleepers there is no timer; a time beyond the longest delay takes several timers", () => {
  const clock = new Clock();
  const timer = new WakeTimer(clock.runtime);
  const program = new Program(clock, 1000 + 3 * 2 ** 31);
  timer.add(program);
  timer.arm(program.due);
  clock.pass(1000 + 2 ** 32);
  assertEquals([program.woken, clock.timers.length], [[], 1]);
  clock.pass(program.due + 1);
  assertEquals(program.woken.length, 1);
  timer.arm(program.due = clock.time + 5);
  timer.remove(program);
  assertEquals(clock.timers, []);
});
