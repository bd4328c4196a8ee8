// The JSON schema of the configuration file.
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { Ajv } from "ajv";
import { flags } from "../../src/cli/command_line/flags.ts";
import { Settings } from "../../src/cli/command_line/settings.ts";
import { checkConfig } from "../../src/cli/run/check_config.ts";
import { configSchema } from "../../src/cli/run/schema.ts";
import { test } from "../support/harness.ts";
import { noFiles } from "../support/no_files.ts";

const ajv = new Ajv({ strict: true, strictTypes: false, allErrors: true });
const accepts = ajv.compile(configSchema());

/** Checks a configuration as `sam run` does. */
const check = (value: unknown) =>
  checkConfig("f", value, [], () => new Settings(), {
    cwd: "/d",
    runtime: "node",
    files: noFiles,
    cores: 2,
  });
/** A configuration with one program. */
const withProgram = (program: object) => ({
  programs: { web: { program: "./web.js", ...program } },
});

test("the schema and sam accept the same configurations", () => {
  const good = [
    { $schema: "x", name: "s", metrics: 9090, strategy: "one_for_all", ...withProgram({}) },
    withProgram({ args: ["a"], after: [], runtime: "deno", runtimeFlags: ["-A"], preload: false }),
    withProgram({ env: { A: "1" }, envFile: ".env", stdio: "tee", cwd: "/" }),
    withProgram({ envFile: [".env", "b.env"], instances: "auto", minReady: 0, maxAge: 1 }),
    withProgram({ restart: "always", timeInterval: 500, transport: "shm", warnSignal: "SIGINT" }),
    withProgram({ restart: { policy: "never", intensity: 3, period: 1000, maxDelay: 5 } }),
    withProgram({ check: { http: "http://127.0.0.1/", period: 500, progress: 1000 } }),
    withProgram({ listen: 8080, quorum: false, clusterMap: false, observe: true }),
    withProgram({ listen: ["8080", 8081], instances: 3, maxMemory: 1e9, log: "json" }),
  ];
  for (const config of good) {
    assert(accepts(config), `${JSON.stringify(config)}: ${ajv.errorsText(accepts.errors)}`);
    check(config);
  }
});

test("the schema and sam refuse the same mistakes", () => {
  const bad = [
    {},
    { programs: {} },
    { programs: { "a b": { program: "x" } } },
    { programs: { web: {} } },
    { ...withProgram({}), more: 1 },
    { ...withProgram({}), strategy: "all" },
    { ...withProgram({}), name: "" },
    withProgram({ program: "" }),
    withProgram({ timeinterval: 500 }),
    withProgram({ timeInterval: "5s" }),
    withProgram({ timeInterval: -1 }),
    withProgram({ args: "a" }),
    withProgram({ env: { A: 1 } }),
    withProgram({ envFile: 1 }),
    withProgram({ restart: "sometimes" }),
    withProgram({ restart: { policy: "always", more: 1 } }),
    withProgram({ restart: { intensity: "3" } }),
    withProgram({ check: { udp: "x" } }),
    withProgram({ instances: 0 }),
    withProgram({ instances: "all" }),
    withProgram({ stdio: "pipe" }),
    withProgram({ preload: "yes" }),
  ];
  for (const config of bad) {
    assert(!accepts(config), JSON.stringify(config));
    assertThrows(() => check(config), Error, undefined, JSON.stringify(config));
  }
});

test("the schema has each option with its description and unit", () => {
  const text = JSON.stringify(configSchema());
  for (const { help } of flags) assert(text.includes(JSON.stringify(help).slice(1, -1)), help);
  assertMatch(text, /\(5s\), in milliseconds"/);
  assertEquals(text.includes("undefined"), false);
});
