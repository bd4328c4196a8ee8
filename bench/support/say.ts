// The settings of a program in bench/programs, and its lines to the benchmark. It imports nothing of `node:`, which would slow
// down the start.

interface DenoLike {
  readonly args: readonly string[];
  readonly pid: number;
}
const Deno = (globalThis as unknown as { Deno?: DenoLike }).Deno;

/** The settings of this program, from its JSON argument. */
// deno-lint-ignore no-explicit-any
export const settings: any = JSON.parse((Deno ? Deno.args[0] : process.argv[2]) ?? "{}");
export const pid: number = Deno ? Deno.pid : process.pid;

/** Writes a line for the benchmark to standard output. */
export function say(event: string, more: Readonly<Record<string, unknown>> = {}): void {
  console.log(JSON.stringify({ event, pid, ...more }));
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
