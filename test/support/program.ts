// Helps the programs in test/fixtures: hides the differences between the runtimes, and prints lines for the test. It
// imports nothing of `node:`, which would make Deno programs start slower than the library does.

import type { Signal } from "../../mod.ts";

interface DenoLike {
  readonly args: readonly string[];
  readonly pid: number;
  readonly ppid: number;
  readonly Command: new (file: string, options: object) => {
    output(): Promise<{ readonly code: number; readonly stdout: Uint8Array }>;
    spawn(): { readonly pid: number; unref(): void };
  };
  readonly permissions: { querySync(what: { name: string }): { readonly state: string } };
  execPath(): string;
  readonly env: {
    get(name: string): string | undefined;
    set(name: string, value: string): void;
    has(name: string): boolean;
  };
  cwd(): string;
  chdir(path: string): void;
  exit(code?: number): never;
  addSignalListener(signal: Signal, listener: () => void): void;
  kill(pid: number, signal: Signal): void;
  writeTextFileSync(path: string, text: string, options: { append: boolean }): void;
  readTextFileSync(path: string): string;
  statSync(path: string): unknown;
  readDirSync(path: string): Iterable<{ readonly name: string }>;
  readLinkSync(path: string): string;
}
interface Fs {
  appendFileSync(path: string, text: string): void;
  readFileSync(path: string, encoding: string): string;
  existsSync(path: string): boolean;
  readdirSync(path: string): string[];
  readlinkSync(path: string): string;
}

const Deno = (globalThis as unknown as { Deno?: DenoLike }).Deno;
const fs = Deno ? undefined : process.getBuiltinModule("node:fs") as unknown as Fs;
const children = () => process.getBuiltinModule("node:child_process");

/** The arguments of this program. */
export const args: readonly string[] = Deno ? Deno.args : process.argv.slice(2);
export const pid: number = Deno ? Deno.pid : process.pid;

export const parentPid: number = Deno ? Deno.ppid : process.ppid;
export const isDeno: boolean = Deno !== undefined;

export function env(name: string): string | undefined {
  return Deno ? Deno.env.get(name) : process.env[name];
}

export function setEnv(name: string, value: string): void {
  if (Deno) Deno.env.set(name, value);
  else process.env[name] = value;
}

export function cwd(): string {
  return Deno ? Deno.cwd() : process.cwd();
}

export function chdir(path: string): void {
  if (Deno) Deno.chdir(path);
  else process.chdir(path);
}

const path = env("SAM_TEST_OUTPUT");
const began = performance.now();

/** Prints one line for the test, with the process id and the milliseconds since this process began. */
export function say(event: string, more: Readonly<Record<string, unknown>> = {}): void {
  const line = `${JSON.stringify({ event, pid, ms: performance.now() - began, ...more })}\n`;
  if (path === undefined) console.log(line);
  else if (Deno) Deno.writeTextFileSync(path, line, { append: true });
  else fs!.appendFileSync(path, line);
}

/** Waits until the test calls `go(name)`. */
export async function ready(name: string): Promise<void> {
  say(`ready ${name}`);
  while (!exists(`${path}.${name}`)) await sleep(5);
}

export function exists(file: string): boolean {
  if (!Deno) return fs!.existsSync(file);
  try {
    Deno.statSync(file);
    return true;
  } catch {
    return false;
  }
}

export function readText(file: string): string {
  return Deno ? Deno.readTextFileSync(file) : fs!.readFileSync(file, "utf8");
}

/** The descriptors of this process, and their targets. */
export function descriptors(): { readonly number: number; readonly target: string }[] {
  const numbers = Deno
    ? Array.from(Deno.readDirSync("/proc/self/fd"), ({ name }) => Number(name))
    : fs!.readdirSync("/proc/self/fd").map(Number);
  return numbers.flatMap((number) => {
    try {
      const link = `/proc/self/fd/${number}`;
      return [{ number, target: Deno ? Deno.readLinkSync(link) : fs!.readlinkSync(link) }];
    } catch {
      return []; // the descriptor that read the directory
    }
  });
}

/** Runs a command to its end. It inherits only what the runtime lets it inherit. */
export async function run(
  file: string,
  words: readonly string[],
): Promise<{ readonly code: number | null; readonly output: string }> {
  if (Deno) {
    const { code, stdout } = await new Deno.Command(file, { args: words }).output();
    return { code, output: new TextDecoder().decode(stdout) };
  }
  return new Promise((resolve) => {
    const child = children().spawn(file, words, { stdio: ["ignore", "pipe", "inherit"] });
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => output += text);
    child.on("close", (code) => resolve({ code, output }));
  });
}

/**
 * Starts a helper that outlives this process, and hands it the descriptor `inherit` where the runtime can (Deno
 * cannot).
 */
export function startHelper(
  file: string,
  words: readonly string[],
  inherit: readonly number[],
): number {
  if (Deno) {
    const child = new Deno.Command(file, {
      args: words,
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    child.unref();
    return child.pid;
  }
  const stdio = ["ignore", "ignore", "ignore", ...inherit] as ("ignore" | number)[];
  const child = children().spawn(file, words, { stdio, detached: true });
  child.unref();
  return child.pid!;
}

/** The command line that runs a program as this one was run. */
export function ownCommand(module: string, ...words: string[]): [string, string[]] {
  return Deno
    ? [Deno.execPath(), ["run", "-A", "--no-config", module, ...words]]
    : [process.execPath, [module, ...words]];
}

/** Deno's permissions with their states; empty on other runtimes. */
export function permissions(): Record<string, string> {
  const names = Deno ? ["read", "write", "net", "env", "run", "ffi", "sys"] : [];
  return Object.fromEntries(
    names.map((name) => [name, Deno!.permissions.querySync({ name }).state]),
  );
}

/** Calls `listener` when this process ends by itself. */
export function onExit(listener: () => void): void {
  if (Deno) (globalThis as unknown as EventTarget).addEventListener("unload", listener);
  else process.on("exit", listener);
}

export function exit(code = 0): never {
  return Deno ? Deno.exit(code) : process.exit(code);
}

export function kill(target: number, signal: Signal): void {
  if (Deno) Deno.kill(target, signal);
  else process.kill(target, signal);
}

/** Ends this process by a signal, and never returns. Deno survives the first SIGSEGV that is no real fault. */
export function killSelf(signal: Signal): never {
  for (;;) kill(pid, signal);
}

export function onSignal(signal: Signal, listener: () => void): void {
  if (Deno) Deno.addSignalListener(signal, listener);
  else process.on(signal, listener);
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Blocks the event loop forever. */
export function hang(): never {
  for (;;);
}

/** Blocks the event loop for a time, and calls `each` as often as possible meanwhile. */
export function block(ms: number, each: () => void = () => {}): void {
  for (const end = performance.now() + ms; performance.now() < end;) each();
}

/** Address of this process's inspector on Node; undefined if it is closed. */
export function inspectorUrl(): string | undefined {
  if (Deno || process.versions.bun) return undefined;
  return process.getBuiltinModule("node:inspector").url();
}

/** Stays alive without a heartbeat: the event loop runs, and nothing is sent. */
export function silence(): Promise<never> {
  setInterval(() => {}, 1000);
  return new Promise(() => {});
}

/** Code of the SamError that `action` throws or rejects with; "none" if it succeeds. */
export async function codeOf(action: () => unknown): Promise<string> {
  try {
    await action();
    return "none";
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}
