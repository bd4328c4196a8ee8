// Paths of the six runtimes and of the fixtures, for the sources and for their compiled copies in .build/.

import { fileURLToPath } from "node:url";

export const runtimeNames = ["node20", "node22", "node24", "node26", "deno", "bun"] as const;
export type RuntimeName = typeof runtimeNames[number];

/** The newest leg of each runtime. In the short form these are enough where versions behave alike. */
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

/** Absolute path of a runtime's binary. The environment (SAM_TEST_NODE22=/path) has precedence. */
export function runtimePath(name: RuntimeName): string {
  return process.env[`SAM_TEST_${name.toUpperCase()}`] ??
    path(`test/runtimes/node_modules/${binaries[name]}`);
}

/** The runtime of this process. */
export const currentRuntime: RuntimeName = "Deno" in globalThis
  ? "deno"
  : "Bun" in globalThis
  ? "bun"
  : `node${parseInt(process.versions.node)}` as RuntimeName;

/** Path of test/fixtures/NAME for the current runtime: .ts, or compiled .js if this module is compiled. */
export function fixture(name: string): string {
  return compiled ? path(`.build/test/fixtures/${name}.js`) : sourceFixture(name);
}

/** Path of test/fixtures/NAME.ts, always the source. */
export function sourceFixture(name: string): string {
  return path(`test/fixtures/${name}.ts`);
}

/** Path of test/fixtures/NAME for `runtime`. Node 20 cannot run TypeScript. */
export function fixtureFor(runtime: RuntimeName, name: string): string {
  return runtime === "node20" ? path(`.build/test/fixtures/${name}.js`) : sourceFixture(name);
}

/**
 * Path of test/fixtures/NAME in the form that starts fastest on the current runtime. On Node, stripping types takes
 * three times the CPU time of all the rest, which matters where many processes start at once.
 */
export function quickFixture(name: string): string {
  return currentRuntime.startsWith("node") ? fixtureFor("node20", name) : fixture(name);
}

/** The folder docs/, which some tests run. */
export const documentation: string = path("docs/");

/** The configuration with which Deno finds all packages without jsr.io; setup.mjs writes it. */
export const offlineDenoConfig: string = path(".build/deno/deno.json");

/** The folder dist/, the package. */
export const distribution: string = path("dist/");

/** Path of a command from one of the test packages. */
export function packageCommand(name: string): string {
  return path(`node_modules/.bin/${name}`);
}

/** Path of a program that lab.mjs compiled. */
export function compiledProgram(name: string): string {
  return path(`.build/cluster/${name}`);
}

/** The arguments of a fixture program. */
export function programArguments(): string[] {
  return process.argv.slice(2);
}
