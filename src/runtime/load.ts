/** Detects the runtime, and loads its adapter. */
import { SamError } from "../errors.ts";
import type { Runtime, RuntimeName } from "./runtime.ts";

interface Globals {
  readonly Deno?: { readonly build: { readonly os: string } };
  readonly Bun?: unknown;
  readonly process: { readonly platform: string };
}

/** The name of the runtime that runs this process. */
export function runtimeName(): RuntimeName {
  const { Deno, Bun } = globalThis as unknown as Globals;
  return Deno !== undefined ? "deno" : Bun !== undefined ? "bun" : "node";
}

/** The operating system, as `process.platform` or `Deno.build.os` names it. */
function platformName(): string {
  const globals = globalThis as unknown as Globals;
  // On Deno, access to `process` loads the Node layer (13 ms).
  return globals.Deno ? globals.Deno.build.os : globals.process.platform;
}

/** Throws NOT_SUPPORTED if SAM does not work on this operating system. */
export function checkPlatform(platform: string = platformName()): void {
  if (platform === "linux" || platform === "darwin") return;
  const name = /^win/.test(platform) ? "Windows" : platform;
  throw new SamError(
    "NOT_SUPPORTED",
    `SAM does not run on ${name}: use Linux (on Windows, in WSL 2 or a container), or macOS (not tested)`,
  );
}

let loaded: Promise<Runtime> | undefined;

/** Loads the adapter of this process's runtime, once. */
export function loadRuntime(): Promise<Runtime> {
  return loaded ??= load(runtimeName());
}

async function load(name: RuntimeName): Promise<Runtime> {
  switch (name) {
    case "deno":
      return (await import("./deno.ts")).deno;
    case "bun":
      return (await import("./bun.ts")).bun;
    case "node":
      return (await import("./node.ts")).node;
  }
}
