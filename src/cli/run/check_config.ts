/** Checks the configuration file and builds its programs. */
import {
  type FleetProgram,
  sortByDependencies,
  strategies,
  type Strategy,
} from "../../supervisor/fleet_program.ts";
import { includesAddress } from "../../api/supervise_options.ts";
import {
  checkObject,
  checkTexts,
  checkVariables,
  invalid,
  oneOf,
  withDefault,
} from "../../api/validate.ts";
import { SamError } from "../../errors.ts";
import { type Address, addressOf } from "../command_line/address.ts";
import { CommandError } from "../command_line/exit.ts";
import { flags, programFlags } from "../command_line/flags.ts";
import type { Settings } from "../command_line/settings.ts";
import { type BuildContext, buildProgram } from "./programs.ts";

export interface CheckedConfig {
  readonly name: string | undefined;
  readonly metrics: Address | undefined;
  readonly strategy: Strategy;
  readonly programs: readonly FleetProgram[];
  /** The configuration file. Left out for a program that the command line names. */
  readonly file?: string;
}

/** The names of servers and programs. */
export const programName: RegExp = /^[\w.-]{1,64}$/;
const outerKeys = [...new Set(flags.map(({ key }) => key.split(".")[0]!))];

/**
 * Checks a configuration. Error messages begin with `file` and name the key. `only` selects programs by name. `overrides` returns
 * the settings from flags and variables, which take precedence over the file.
 */
export function checkConfig(
  file: string,
  value: unknown,
  only: readonly string[],
  overrides: () => Settings,
  context: BuildContext,
): CheckedConfig {
  try {
    const given = checkObject("the configuration", value, [
      "$schema",
      "programs",
      "strategy",
      "name",
      "metrics",
    ]);
    const named = checkObject("programs", given["programs"], Object.keys(given["programs"] ?? {}));
    const names = Object.keys(named);
    if (names.length === 0) throw invalid("programs", {}, "an object with at least one program");
    const missing = only.find((name) => !names.includes(name));
    if (missing !== undefined) {
      throw new CommandError(
        "usage",
        `${file} has no program "${missing}". Choose from: ${names.join(", ")}.`,
      );
    }
    const wanted = only.length === 0 ? names : withDependencies(only, named);
    const config = {
      name: given["name"] === undefined ? undefined : checkName("name", given["name"]),
      metrics: given["metrics"] === undefined ? undefined : addressOf("metrics", given["metrics"]),
      strategy: oneOf("strategy", given["strategy"] ?? "one_for_one", strategies),
      programs: sortByDependencies(
        wanted.map((name) =>
          buildFromFile(
            file,
            checkName("the name of a program", name),
            named[name],
            overrides(),
            context,
          )
        ),
      ),
    };
    checkTogether(config);
    return config;
  } catch (error) {
    if (error instanceof CommandError || !(error instanceof SamError)) throw error;
    const { message } = error;
    const where = message.startsWith(`${file}: `) ? "" : `${file}: `;
    throw new CommandError("config", where + message, { code: error.code });
  }
}

/** Refuses options that cannot be combined in one server. */
function checkTogether({ strategy, programs }: Pick<CheckedConfig, "strategy" | "programs">): void {
  // With another strategy, a spare would survive while the server ends the other processes of the group.
  const spare = programs.find(({ options }) => options.settings.standby > 0);
  if (spare && strategy !== "one_for_one" && programs.length > 1) {
    throw new SamError(
      "INVALID_PARAM",
      `programs.${spare.name}.standby is ${spare.options.settings.standby}, but spares work only with the strategy ` +
        `one_for_one, and not with ${strategy}. Remove one of the two.`,
    );
  }
  checkAddresses(programs);
  for (const { name, instances = 1 } of programs) {
    const taken = programs.find((each) =>
      each.name.startsWith(`${name}.`) && /^[1-9]\d*$/.test(each.name.slice(name.length + 1)) &&
      Number(each.name.slice(name.length + 1)) <= instances
    );
    if (taken && instances > 1) {
      throw new SamError(
        "INVALID_PARAM",
        `programs.${taken.name} has the name of an instance of programs.${name}, which has ${instances} instances. ` +
          "Rename one of the two.",
      );
    }
  }
  const [one, another] = programs.filter(({ options }) => options.clusterMap);
  if (one && another) {
    throw new SamError(
      "INVALID_PARAM",
      `programs.${one.name} and programs.${another.name} both have clusterMap, so both would write the same keys: ` +
        "the names of the keys in the cluster map contain the process id of sam. Run one of the programs with a separate " +
        "sam run.",
    );
  }
}

/** Refuses an address that two programs name: connections would go to either of them. */
function checkAddresses(programs: readonly FleetProgram[]): void {
  const known = programs.flatMap(({ name, options: { listen = [] } }) =>
    listen.map((address) => ({ name, address }))
  );
  for (const one of known) {
    const another = known.find(({ name, address }) =>
      name !== one.name && includesAddress(one.address, address)
    );
    if (another === undefined) continue;
    const [{ name, address: { text } }, { name: other, address: part }] = [one, another];
    throw new SamError(
      "INVALID_PARAM",
      text === part.text
        ? `programs.${name}.listen and programs.${other}.listen both contain ${text}. Give each program an address of its own.`
        : `programs.${name}.listen contains ${text}, which includes ${part.text} of programs.${other}.listen. ` +
          "Give each program an address of its own.",
    );
  }
}

function withDependencies(
  only: readonly string[],
  all: Readonly<Record<string, unknown>>,
): string[] {
  const wanted = new Set<string>();
  const want = (name: string) => {
    if (wanted.has(name)) return;
    wanted.add(name);
    const { after } = (all[name] ?? {}) as { after?: unknown };
    if (Array.isArray(after)) { for (const each of after) if (each in all) want(each); }
  };
  only.forEach(want);
  return Object.keys(all).filter((name) => wanted.has(name));
}

/** Checks the name of a server or a program. */
export function checkName(what: string, value: unknown): string {
  if (typeof value === "string" && programName.test(value)) return value;
  throw invalid(what, value, "1 to 64 letters, digits, underscores, dots or dashes");
}

function buildFromFile(
  file: string,
  name: string,
  value: unknown,
  settings: Settings,
  context: BuildContext,
): FleetProgram {
  const at = `programs.${name}`;
  const own = ["program", "args", "after"];
  const given = checkObject(at, value, [...own, ...outerKeys]);
  const { program } = given;
  if (typeof program !== "string" || program === "") {
    throw invalid(`${at}.program`, program, "a module or a command");
  }
  for (const [key, each] of Object.entries(given)) {
    if (own.includes(key) || each === undefined) continue;
    const source = `${file}: ${at}.${key}`;
    for (const setting of settingsOf(key, each, source)) {
      const row = programFlags.find((row) => row.key === setting.key);
      if (row && setting.value === undefined) continue; // `policy: undefined`
      const value = row?.key === "envFile" ? listOf(setting.value) : setting.value;
      if (row) checkShape(setting.source, value, row.kind);
      settings.add(setting.key, value, setting.source);
    }
  }
  return buildProgram(
    {
      name,
      program,
      source: `${file}: ${at}.program: `,
      args: checkTexts(`${at}.args`, withDefault(given["args"], [])),
      after: checkTexts(`${at}.after`, withDefault(given["after"], [])),
    },
    settings,
    context,
  );
}

/** A setting of a program in the file. `restart.intensity` and the other keys of an object are settings of their own. */
interface FileSetting {
  readonly key: string;
  readonly value: unknown;
  readonly source: string;
}

function settingsOf(key: string, value: unknown, source: string): readonly FileSetting[] {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  if (key !== "check" && !(key === "restart" && isObject)) return [{ key, value, source }];
  const keys = new Map(
    flags.filter((row) => row.key.startsWith(`${key}.`))
      .map((row) => [row.key.slice(key.length + 1), row.key]),
  );
  if (key === "restart") keys.set("policy", key);
  const parts = Object.entries(checkObject(source, value, [...keys.keys()]));
  if (key === "check" && parts.length === 0) {
    throw invalid(
      source,
      value,
      'an object with one of "http", "tcp", "command", or with "progress"',
    );
  }
  return parts.map(([part, value]) => ({
    key: keys.get(part)!,
    value,
    source: `${source}.${part}`,
  }));
}

/** One text stands for a list of one. */
function listOf(value: unknown): unknown {
  return typeof value === "string" ? [value] : value;
}

function checkShape(
  name: string,
  value: unknown,
  kind: (typeof programFlags)[number]["kind"],
): void {
  if (typeof kind !== "string") oneOf(name, value, kind);
  else if (kind === "switch") oneOf(name, value, [true, false]);
  else if (kind === "text" && typeof value !== "string") throw invalid(name, value, "a string");
  else if (kind === "list") checkTexts(name, value);
  else if (kind === "variables") checkVariables(name, value);
}
