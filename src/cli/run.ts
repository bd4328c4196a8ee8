/** `sam run`: supervises a program, or those of a configuration file, and ends as they end. */
import { Fleet } from "../fleet.ts";
import type { SamError } from "../errors.ts";
import type { SupervisorEvent } from "../events.ts";
import { loadRuntime } from "../runtime/runtime.ts";
import * as host from "../runtime/host.ts";
import { report } from "../report.ts";
import { notifierOf, onEnding } from "../self.ts";
import { type Address, addressOf } from "./address.ts";
import { checkConfig, type CheckedConfig, nameOf } from "./config.ts";
import { freeName, openControl } from "./control.ts";
import { CommandError, exitCodeOfSpawn } from "./exit.ts";
import { flagOf, optionFlags, parseText, programFlags, Settings, variableOf } from "./flags.ts";
import { eventText, Journal } from "./journal.ts";
import { buildProgram, type Surroundings } from "./programs.ts";
import { type Option, parseWords } from "./words.ts";

const rows = [...programFlags, ...optionFlags];

/** The options of `sam run`. */
export const runOptions: readonly Option[] = [
  { flag: "--name", takesValue: true },
  { flag: "--config", short: "-c", takesValue: true },
  { flag: "--metrics", takesValue: true },
  { flag: "--json", takesValue: false },
  { flag: "--quiet", short: "-q", takesValue: false },
  ...rows.map((row) => ({ flag: flagOf(row), takesValue: row.kind !== "switch" })),
];

/** The files that `sam run` looks for where it is told none. */
const configFiles = ["sam.config.ts", "sam.config.js", "sam.config.mjs", "sam.config.json"];

/** What is to be run, and how it is told. */
interface Plan extends CheckedConfig {
  readonly json: boolean;
  readonly quiet: boolean;
}

/** Runs until all has ended; resolves to the exit code. */
export async function run(words: readonly string[]): Promise<number> {
  const plan = await planOf(words);
  const runtime = await loadRuntime();
  const tell = teller(plan);
  let spawnError: SamError | undefined;
  const made = plan.programs.length === 1 ? plan.programs[0]!.name : "sam";
  const serverName = await freeName(runtime, plan.name, made);
  const http = plan.metrics && await openEndpoints(plan.metrics, plan);
  const notifier = await notifierOf(runtime, {
    programs: () =>
      plan.programs.map(({ name, options: { settings } }) => ({
        name,
        settings,
        status: fleet.supervisor(name).status,
      })),
    isReady: () => fleet.names.every((name) => fleet.isReady(name)),
  }, (error) => host.stderr.write(`sam: systemd cannot be told: ${(error as Error).message}\n`));
  const fleet = new Fleet(plan.programs, plan.strategy);
  fleet.subscribe((name, event) => {
    notifier?.hear(name, event);
    if (event.type === "finish" && event.status.reason === "spawn") spawnError = event.status.error;
    tell(name, event);
  });
  runtime.takeOver((error) => host.stderr.write(`sam: a problem of sam's own: ${String(error)}\n`));
  onEnding(runtime, (signal, delivered) => {
    notifier?.stopping();
    fleet.stop(signal, delivered);
  });
  const { strategy } = plan;
  const journal = new Journal(runtime, fleet, {
    name: serverName ?? made,
    strategy,
    url: http?.url,
  });
  http?.serve(runtime, fleet, journal);
  const closeControl = serverName === undefined
    ? () => {}
    : await openControl(runtime, fleet, journal);
  const code = await fleet.finished;
  closeControl();
  http?.close();
  await notifier?.close();
  return spawnError === undefined ? code : exitCodeOfSpawn(spawnError);
}

/** Listens before anything is started: what cannot be served is found out at once. */
async function openEndpoints(address: Address, { json, quiet }: Plan) {
  const { Endpoints } = await import("./http.ts");
  const endpoints = await Endpoints.open(address);
  const { url } = endpoints;
  if (json) host.stderr.write(`${JSON.stringify({ type: "listening", at: Date.now(), url })}\n`);
  else if (!quiet) host.stderr.write(`sam: the status page is at ${url}\n`);
  return endpoints;
}

/** Writes what happens to standard error: what matters, or all of it as JSON. */
function teller(plan: Plan): (name: string, event: SupervisorEvent) => void {
  const several = plan.programs.length > 1;
  return (program, event) => {
    if (plan.json) return host.stderr.write(`${eventText(program, event)}\n`);
    for (const line of plan.quiet ? [] : linesOf(event)) {
      host.stderr.write(`sam: ${several ? `${program}: ` : ""}${line}\n`);
    }
  };
}

/** A program that could not be started is told here; elsewhere `register()` rejects with it. */
function linesOf(event: SupervisorEvent): readonly string[] {
  if (event.type === "finish" && event.status.reason === "spawn") {
    return event.status.error ? [event.status.error.message] : [];
  }
  return report(event);
}

async function planOf(words: readonly string[]): Promise<Plan> {
  const { given, operands } = parseWords(words, runOptions, true);
  const last = (flag: string) => given.findLast(([name]) => name === flag)?.[1];
  const name = last("--name");
  if (name !== undefined) nameOf("--name", name);
  const is = (flag: string) =>
    last(flag) !== undefined && parseText(flag, "switch", last(flag)!) === true;
  const how = { json: is("--json"), quiet: is("--quiet") };
  const asked = metricsOf(last("--metrics"));
  const settings = () => {
    const settings = new Settings();
    for (const [flag, text] of given) {
      const row = rows.find((row) => flagOf(row) === flag);
      if (row) settings.add(row.key, parseText(flag, row.kind, text), flag);
    }
    for (const row of rows) {
      const text = host.variable(variableOf(row));
      if (text !== undefined) settings.add(row.key, inVariable(row, text), variableOf(row));
    }
    return settings;
  };
  const { name: runtime } = await loadRuntime();
  const around: Surroundings = { cwd: host.workingDirectory(), runtime, files: host };
  const file = last("--config") ??
    (operands.length > 0 ? undefined : configFiles.find(host.exists));
  if (file !== undefined) {
    const slash = file.lastIndexOf("/");
    const own = slash < 0
      ? around
      : { ...around, cwd: absolute(file.slice(0, slash) || "/"), elsewhere: true };
    const config = checkConfig(file, await load(file), operands, settings, own);
    return { ...how, ...config, name: name ?? config.name, metrics: asked ?? config.metrics };
  }
  const [program, ...args] = operands;
  if (program === undefined) {
    throw new CommandError(
      "usage",
      `what is to be run? name a program, or write a ${configFiles[0]}; see sam run --help`,
    );
  }
  const own = program.replace(/\/+$/, "").replace(/^.*\//, "").replace(/\.[cm]?[jt]sx?$/, "");
  return {
    ...how,
    name,
    metrics: asked,
    strategy: "one_for_one",
    programs: [
      buildProgram(
        { name: name ?? (own || "program"), program, args, after: [] },
        settings(),
        around,
      ),
    ],
  };
}

/** Where to listen, as the flag says, or its variable. */
function metricsOf(flag: string | undefined): Address | undefined {
  if (flag !== undefined) return addressOf("--metrics", flag);
  const text = host.variable("SAM_METRICS");
  return text === undefined ? undefined : inSurroundings(() => addressOf("SAM_METRICS", text));
}

/** The value of an environment variable, whose mistakes are the surroundings', not the command line's. */
function inVariable(row: (typeof rows)[number], text: string): unknown {
  return inSurroundings(() => parseText(variableOf(row), row.kind, text));
}

function inSurroundings<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new CommandError("config", (error as Error).message);
  }
}

function absolute(path: string): string {
  return path.startsWith("/") ? path : `${host.workingDirectory()}/${path}`;
}

/** What a configuration file exports. */
async function load(file: string): Promise<unknown> {
  const path = absolute(file);
  if (!host.exists(path)) throw new CommandError("noInput", `${file} does not exist`);
  try {
    if (path.endsWith(".json")) return JSON.parse(host.readText(path));
    const module = await host.loadModule(path);
    if ("default" in module) return module.default;
  } catch (cause) {
    const { code, message } = cause as { code?: string; message?: string };
    const cure = code === "ERR_UNKNOWN_FILE_EXTENSION"
      ? "; this version of Node cannot load TypeScript: name it .js or .json"
      : "";
    throw new CommandError(
      "config",
      `${file} cannot be loaded: ${message ?? String(cause)}${cure}`,
      { cause },
    );
  }
  throw new CommandError(
    "config",
    `${file} exports no default: write export default { programs: … }`,
  );
}
