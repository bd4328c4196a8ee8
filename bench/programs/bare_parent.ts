// A parent without the library. It starts a child, waits for its line, kills it and waits for its exit event. It measures the
// time from the spawn until the line, and from SIGKILL until the exit event.
import type { ChildProcess } from "node:child_process";
import { wall } from "../support/clock.ts";
import { say, settings, sleep } from "../support/say.ts";

interface Child {
  readonly output: AsyncIterable<Uint8Array>;
  readonly exited: Promise<unknown>;
  kill(): void;
}
interface DenoChild {
  readonly stdout: AsyncIterable<Uint8Array>;
  readonly status: Promise<unknown>;
  kill(signal: string): void;
}
interface BunChild {
  readonly stdout: AsyncIterable<Uint8Array>;
  readonly exited: Promise<unknown>;
  kill(signal: string): void;
}
const { Deno, Bun } = globalThis as unknown as {
  Deno?: { Command: new (file: string, options: object) => { spawn(): DenoChild } };
  Bun?: { spawn(words: readonly string[], options: object): BunChild };
};

const { file, words, count, quietMs, method } = settings;
const spawnChild = await spawner();
wall(0); // calibrates the clock before the measurement
for (let run = 0; run < count; run++) {
  await sleep(quietMs);
  const spawned = performance.now();
  const child = spawnChild();
  const line = JSON.parse(await firstLine(child.output));
  await sleep(quietMs);
  const killed = performance.now();
  child.kill();
  await child.exited;
  const ended = performance.now();
  say("sample", { spawnMs: line.at - wall(spawned), exitMs: ended - killed });
}

async function spawner(): Promise<() => Child> {
  if (Deno) {
    return () => {
      const command = new Deno.Command(file, {
        args: words,
        stdin: "null",
        stdout: "piped",
        stderr: "inherit",
      });
      const child = command.spawn();
      return { output: child.stdout, exited: child.status, kill: () => child.kill("SIGKILL") };
    };
  }
  if (Bun) {
    return () => {
      const child = Bun.spawn([file, ...words], { stdio: ["ignore", "pipe", "inherit"] });
      return { output: child.stdout, exited: child.exited, kill: () => child.kill("SIGKILL") };
    };
  }
  const { fork, spawn } = await import("node:child_process");
  const [module, ...args] = words as string[];
  return () => {
    const child: ChildProcess = method === "fork"
      ? fork(module!, args, { execPath: file, stdio: ["ignore", "pipe", "inherit", "ipc"] })
      : spawn(file, words, { stdio: ["ignore", "pipe", "inherit"] });
    const exited = new Promise((resolve) => child.once("exit", resolve));
    return { output: child.stdout!, exited, kill: () => void child.kill("SIGKILL") };
  };
}

async function firstLine(output: AsyncIterable<Uint8Array>): Promise<string> {
  let text = "";
  for await (const bytes of output) {
    text += new TextDecoder().decode(bytes);
    if (text.includes("\n")) return text.split("\n")[0]!;
  }
  throw new Error(`the child ended before its line: ${text}`);
}
