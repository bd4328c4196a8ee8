// Where the six runtimes and the fixtures are, for sources and for their compiled copies in .build/.

import { fileURLToPath } from "node:url";

export const runtimeNames = ["node20", "node22", "node24", "node26", "deno", "bun"] as const;
export type RuntimeName = typeof runtimeNames[number];

/** The newest leg of each runtime: where the versions of one are much alike, these are enough in the short form. */
export const newest: readonly RuntimeName[] = ["node26", "deno", "bun"];

const compiled = import.meta.url.endsWith(".js");
const root = new URL(compiled ? "../../../" : "../../", import.meta.url);
const path = (relative: string): string => fileURLToPath(new URL(relative, root));

const binaries: Record<RuntimeName, string> = {
  node20: "node-20/bin/node",
  node22: "node-22/bin/node",
  node24: "node-24/bin/node",
  node26: "node-26/bin/node",
  deno: "@deno/linux-x64-glibc/deno",
  bun: "@oven/bun-linux-x64/bin/bun",
};

/** The absolute path of a runtime's binary; the environment (SAM_TEST_NODE22=/path) goes first. */
export function runtimePath(name: RuntimeName): string {
  return process.env[`SAM_TEST_${name.toUpperCase()}`] ??
    path(`test/runtimes/node_modules/${binaries[name]}`);
}

/** The runtime that this very process is. */
export const currentRuntime: RuntimeName = "Deno" in globalThis
  ? "deno"
  : "Bun" in globalThis
  ? "bun"
  : `node${parseInt(process.versions.node)}` as RuntimeName;

/** test/fixtures/NAME as the current runtime runs it: .ts, or compiled .js where this module is. */
export function fixture(name: string): string {
  return compiled ? path(`.build/test/fixtures/${name}.js`) : sourceFixture(name);
}

/** test/fixtures/NAME.ts, always the source. */
export function sourceFixture(name: string): string {
  return path(`test/fixtures/${name}.ts`);
}

/** test/fixtures/NAME as `runtime` runs it: Node 20 cannot run TypeScript. */
export function fixtureFor(runtime: RuntimeName, name: string): string {
  return runtime === "node20" ? path(`.build/test/fixtures/${name}.js`) : sourceFixture(name);
}

/**
 * test/fixtures/NAME as the current runtime starts it soonest: Node strips the types of all modules for three times the
 * processor time that the rest takes, which counts where many processes are started at once.
 */
export function quickFixture(name: string): string {
  return currentRuntime.startsWith("node") ? fixtureFor("node20", name) : fixture(name);
}

/** docs/, which some tests try out. */
export const documentation: string = path("docs/");

/** The configuration with which Deno finds all packages without jsr.io; setup.mjs writes it. */
export const offlineDenoConfig: string = path(".build/deno/deno.json");

/** dist/, the package. */
export const distribution: string = path("dist/");

/** A command of one of the packages that the tests use. */
export function packageCommand(name: string): string {
  return path(`node_modules/.bin/${name}`);
}

/** A program that lab.mjs has compiled. */
export function compiledProgram(name: string): string {
  return path(`.build/cluster/${name}`);
}

/** The arguments of a fixture program. */
export function programArguments(): string[] {
  return process.argv.slice(2);
}
