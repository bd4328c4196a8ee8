// Keeps all cores busy during a measurement, each with an endless loop.
import { type ChildProcess, spawn } from "node:child_process";
import { availableParallelism } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";

/** Starts the loops and resolves to a function that ends them. They also end when this process ends. */
export async function busyCores(): Promise<() => void> {
  const program = "const parent = process.ppid; while (process.ppid === parent);";
  const loops = Array.from(
    { length: availableParallelism() },
    (): ChildProcess => spawn(process.execPath, ["-e", program], { stdio: "ignore" }),
  );
  await sleep(300);
  return () => loops.forEach((loop) => loop.kill("SIGKILL"));
}
