// A runtime in virtual time: processes follow scripts, timers are late or early, the server's process may be stalled.

import type { Exit } from "../../src/runtime/runtime.ts";
import type { InstanceRuntime } from "../../src/supervisor/instance/instance.ts";
import { emptyRuntime } from "./empty_runtime.ts";
import { linkVariable } from "../../src/runtime/launch.ts";
import { Process } from "./sim_process.ts";
import type { World } from "./sim_world.ts";

/** The shortest time that `settle()` takes. Without it the clock would stand still. */
const leastMs = 0.05;

/** Makes the runtime of a world. `timers` holds the timers that are set. */
export function simulatedRuntime(world: World, timers: Set<object>): InstanceRuntime {
  const { clock, dice, plan } = world;
  return {
    ...emptyRuntime,
    settleMs: plan.settleMs,
    now: () => clock.now,
    schedule(callback, delayMs) {
      const timer = {};
      timers.add(timer);
      const early = Math.min(0.9, delayMs / 2);
      const jitter = plan.timerMs === 0 ? 0 : dice.number() * (plan.timerMs + early) - early;
      world.answer(clock.now + delayMs + jitter, () => {
        if (timers.delete(timer)) callback();
      }, "timer");
      return () => void timers.delete(timer);
    },
    settle() {
      const at = clock.now + leastMs + dice.number() * plan.settleMs;
      return new Promise((resolve) => world.answer(at, resolve, "settled"));
    },
    spawn(command) {
      const [server, number] = command.args.map(Number) as [number, number];
      const judge = world.judges[server]!;
      const start = judge.starts[number]!;
      world.attempt(() => judge.spawning(start));
      const { script } = start;
      start.address = command.env[linkVariable]!.replace("memory:", "");
      const at = clock.now + script.spawnMs;
      if (script.spawnFails) {
        return new Promise((_, reject) => {
          world.answer(at, () => reject(new Error("no process")));
        });
      }
      const pid = world.nextPid();
      let process: Process | null = null;
      let exit!: (how: Exit) => void;
      const exited = new Promise<Exit>((resolve) => exit = resolve);
      clock.at(clock.now + script.spawnMs * script.born, () => {
        if (world.isServerDead) return;
        process = start.process = new Process(world, judge, script, pid, command.env, (how) => {
          world.processes.delete(pid);
          exit(how);
        });
        world.processes.set(pid, process);
        judge.born(start);
      });
      return new Promise((resolve) => {
        world.answer(at, () =>
          resolve({
            pid,
            exited,
            stream: null,
            outputs: [],
            kill(signal) {
              world.attempt(() => judge.signalled(start, signal));
              process!.signal(signal);
            },
            release() {},
          }));
      });
    },
    systemText(path) {
      const [, pid, file] = /^\/proc\/(\d+)\/task\/\1\/(\w+)$/.exec(path) ?? [];
      const process = world.processes.get(Number(pid));
      return file === "stat"
        ? process?.stat
        : file === "schedstat"
        ? process?.schedstat
        : undefined;
    },
  };
}
