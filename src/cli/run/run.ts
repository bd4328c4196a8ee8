/** `sam run`: supervises one program, or the programs of a configuration file, and exits with their exit code. */
import { Fleet } from "../../supervisor/fleet.ts";
import type { SamError } from "../../errors.ts";
import { loadRuntime } from "../../runtime/load.ts";
import type { Runtime } from "../../runtime/runtime.ts";
import * as host from "../host/host.ts";
import { Lines } from "../../supervisor/log.ts";
import { checkLimits, Replacer } from "../../supervisor/replacer.ts";
import { notifierOf, onEnding } from "../../supervisor/own_process/serve_self.ts";
import type { Address } from "../command_line/address.ts";
import type { CheckedConfig } from "./check_config.ts";
import { openControl } from "../serve/control_server.ts";
import { exitCodeOfSpawn } from "../command_line/exit.ts";
import { Journal } from "../serve/journal.ts";
import { ConfigReload } from "./config_reload.ts";
import { readPlan } from "./plan.ts";
import { ProgramLogs } from "./program_logs.ts";
import { ListeningSockets } from "./sockets.ts";

/** Supervises the programs until all have ended. Resolves to the exit code of `sam`. */
export async function run(words: readonly string[]): Promise<number> {
  const plan = await readPlan(words);
  const runtime = await loadRuntime();
  await runtime.freeInspectorPort?.([]);
  const lines = new Lines(runtime);
  try {
    return await supervisePlan(words, plan, runtime, lines);
  } finally {
    await lines.written();
  }
}

async function supervisePlan(
  words: readonly string[],
  plan: CheckedConfig,
  runtime: Runtime,
  lines: Lines,
): Promise<number> {
  checkLimits(plan.programs, runtime);
  const logs = new ProgramLogs(runtime, lines.write);
  logs.programs = plan.programs;
  const services = new Set(plan.programs.map(({ name, service = name }) => service));
  let spawnError: SamError | undefined;
  const [only] = services;
  const defaultName = services.size === 1 ? only! : "sam";
  const control = await openControl(runtime, plan.name, defaultName, lines.write);
  const http = plan.metrics &&
    await openEndpoints(plan.metrics, plan, lines.write).catch(async (error) => {
      await control?.close();
      throw error;
    });
  const sockets = new ListeningSockets(runtime);
  const programs = await sockets.addTo(plan.programs).catch(async (error) => {
    await control?.close();
    http?.close();
    throw error;
  });
  const notifier = await notifierOf(runtime, {
    programs: () =>
      fleet.programs.map(({ name, minReady, options: { settings } }) => ({
        name,
        minReady,
        settings,
        status: fleet.status(name),
      })),
    isReady: () => fleet.allReady,
  }, (error) => lines.write(`sam: cannot notify systemd: ${(error as Error).message}`));
  const fleet = new Fleet(programs, plan.strategy);
  fleet.subscribe((name, event) => {
    notifier?.hear(name, event);
    // A program that a reload has added, and that cannot be started, does not end the others.
    if (event.type === "finish" && event.status.reason === "spawn" && !fleet.isOnTrial(name)) {
      spawnError = event.status.error;
    }
    logs.hear(fleet, name, event);
  });
  runtime.takeOver((error) =>
    lines.write(`sam: internal error, please report it: ${String(error)}`)
  );
  onEnding(runtime, (signal, delivered) => {
    notifier?.stopping();
    fleet.stop(signal, delivered);
  });
  host.onNpmEnd(() => {
    // A second stop would kill the programs at once. When a terminal closes, its SIGHUP reaches npm and sam, and has already
    // stopped the programs.
    if (fleet.isStopping) return;
    lines.write("sam: npm, which started sam, has ended; stopping all programs");
    fleet.stop("SIGTERM");
  });
  const replacer = new Replacer(runtime, fleet);
  replacer.begin();
  const { strategy } = plan;
  const journal = new Journal(runtime, fleet, {
    name: control?.name ?? defaultName,
    strategy,
    url: http?.url,
  });
  http?.serve(runtime, fleet, journal);
  const config = plan.file === undefined
    ? undefined
    : new ConfigReload(plan.file, words, plan, { fleet, logs, sockets });
  control?.serve(fleet, journal, config);
  const code = await fleet.finished;
  replacer.end();
  await control?.close();
  http?.close();
  await notifier?.close();
  return spawnError === undefined ? code : exitCodeOfSpawn(spawnError);
}

/** Listens before any program starts, so that `sam` fails at once if the port is in use. */
async function openEndpoints(
  address: Address,
  { programs }: CheckedConfig,
  writeLine: (line: string) => void,
) {
  const { Endpoints } = await import("../serve/http.ts");
  const endpoints = await Endpoints.open(address);
  const { url } = endpoints;
  const logs = new Set(programs.map(({ options }) => options.log));
  if (logs.has("json")) writeLine(JSON.stringify({ type: "listening", at: Date.now(), url }));
  if (logs.has("text")) writeLine(`sam: the status page is at ${url}`);
  return endpoints;
}
