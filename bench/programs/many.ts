// Supervises a growing number of programs, and pauses after each step while the benchmark measures this process. With `bare`, it
// does not load the library.
import type { Program, SuperviseOptions, Supervisor } from "@x/sam";
import { listenBare } from "../support/bare_socket.ts";
import type { Step } from "../support/many.ts";
import { say, settings, sleep } from "../support/say.ts";

interface Settings {
  readonly steps: readonly Step[];
  readonly bare: boolean;
  /** With `bare`: the command line of children that the runtime starts, and the path to which they connect. */
  readonly child?: readonly [string, ...string[]];
  readonly path?: string;
  readonly program: Program;
  readonly options: SuperviseOptions;
  /** The state in which the start of a program is complete. */
  readonly state: "launched" | "started";
}

/** The number of programs that start together. If all started together, the peak memory use would be higher. */
const batch = 20;

const { steps, bare, child, path, program, options, state } = settings as Settings;
const supervisors: Supervisor[] = [];
const bareChildren: unknown[] = [];

if (path !== undefined) await listenBare(path, () => {});
for (const { programs, settleMs, windowMs } of steps) {
  if (!bare) await grow(programs);
  while (child && bareChildren.length < programs) bareChildren.push(spawnBare(child));
  await sleep(settleMs / 2);
  collectGarbage();
  await sleep(settleMs / 2);
  say("steady", { programs });
  await sleep(windowMs);
  say("over", { programs });
}
await sleep(60_000); // the benchmark kills it

async function grow(programs: number): Promise<void> {
  const { supervise } = await import("@x/sam");
  while (supervisors.length < programs) {
    const some = Math.min(batch, programs - supervisors.length);
    const added = Array.from({ length: some }, () => supervise(program, options));
    supervisors.push(...added);
    while (added.some(({ status }) => status.state !== state)) {
      if (added.some(({ status }) => status.state === "finished")) {
        throw new Error("a program has ended", { cause: await added[0]!.finished });
      }
      await sleep(2);
    }
  }
}

function spawnBare([file, ...args]: readonly [string, ...string[]]): unknown {
  const { Deno, Bun } = globalThis as unknown as {
    Deno?: { Command: new (file: string, options: object) => { spawn(): unknown } };
    Bun?: { spawn(words: readonly string[], options: object): unknown };
  };
  const none = { stdin: "null", stdout: "null", stderr: "null" };
  if (Deno) return new Deno.Command(file, { args, ...none }).spawn();
  if (Bun) return Bun.spawn([file, ...args], { stdio: ["ignore", "ignore", "ignore"] });
  const { spawn } = process.getBuiltinModule("node:child_process");
  return spawn(file, args, { stdio: "ignore" });
}

/**
 * Runs the garbage collector, on Bun or with --expose-gc. A second run frees what finalizers released in the first one. V8
 * returns unused memory to the system only in a "last-resort" collection.
 */
function collectGarbage(): void {
  const { Bun, gc } = globalThis as {
    Bun?: { gc(wait: boolean): void };
    gc?: (how: { type: "major"; execution: "sync"; flavor: "last-resort" }) => void;
  };
  for (let time = 0; time < 2; time++) {
    if (gc) gc({ type: "major", execution: "sync", flavor: "last-resort" });
    else Bun?.gc(true);
  }
}
