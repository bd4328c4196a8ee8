// For the programs of bench/programs: their settings, and lines to the bench, without anything of `node:`.

interface DenoLike {
  readonly args: readonly string[];
  readonly pid: number;
}
const Deno = (globalThis as unknown as { Deno?: DenoLike }).Deno;

/** The arguments of this program: one JSON text. */
// deno-lint-ignore no-explicit-any
export const settings: any = JSON.parse((Deno ? Deno.args[0] : process.argv[2]) ?? "{}");
export const pid: number = Deno ? Deno.pid : process.pid;

/** Tells the bench one thing, as any program says a line. */
export function say(event: string, more: Readonly<Record<string, unknown>> = {}): void {
  console.log(JSON.stringify({ event, pid, ...more }));
}

/** Waits, as an ordinary program does. */
export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
