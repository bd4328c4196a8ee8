// Keeps all cores busy, each with a loop of its own, while something else is measured.
import { type ChildProcess, spawn } from "node:child_process";
import { availableParallelism } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";

/** Resolves to the end of it, when the loops run; they end with this process in any case. */
export async function busyCores(): Promise<() => void> {
  const program = "const parent = process.ppid; while (process.ppid === parent);";
  const loops = Array.from(
    { length: availableParallelism() },
    (): ChildProcess => spawn(process.execPath, ["-e", program], { stdio: "ignore" }),
  );
  await sleep(300);
  return () => loops.forEach((loop) => loop.kill("SIGKILL"));
}
