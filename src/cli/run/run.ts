/** `sam run`: supervises one program, or those of a configuration file, and ends with their status. */
import { Fleet, type FleetProgram } from "../../supervisor/fleet.ts";
import type { SamError } from "../../errors.ts";
import { childWithSameExecutable } from "../../runtime/procfs.ts";
import { loadRuntime } from "../../runtime/load.ts";
import type { Runtime } from "../../runtime/runtime.ts";
import * as host from "../host/host.ts";
import { Lines, logger } from "../../supervisor/log.ts";
import { notifierOf, onEnding } from "../../supervisor/own_process/serve_self.ts";
import type { Address } from "../command_line/address.ts";
import type { CheckedConfig } from "./check_config.ts";
import { openControl } from "../serve/control_server.ts";
import { exitCodeOfSpawn } from "../command_line/exit.ts";
import { Journal } from "../serve/journal.ts";
import { readPlan } from "./plan.ts";

/** Runs until all programs have ended; resolves to the exit code. */
export async function run(words: readonly string[]): Promise<number> {
  const plan = await readPlan(words);
  const runtime = await loadRuntime();
  await runtime.freeInspectorPort?.([]);
  const lines = new Lines(runtime);
  try {
    return await supervisePlan(plan, runtime, lines);
  } finally {
    await lines.written();
  }
}

async function supervisePlan(
  plan: CheckedConfig,
  runtime: Runtime,
  lines: Lines,
): Promise<number> {
  const several = plan.programs.length > 1;
  const loggers = new Map(plan.programs.map(({ name, options }) => {
    return [name, logger(options.log, name, several ? `${name}: ` : "", lines.write)];
  }));
  const warn = (name: string, detail: string | undefined, instanceId = 1) => {
    const at = Date.now();
    if (detail) loggers.get(name)!({ type: "fallback", side: "server", detail, at, instanceId });
  };
  for (const each of plan.programs) warn(each.name, unwatched(each));
  /** Programs whose child processes are still to be searched for one that SAM does not watch. */
  const unseen = new Set(plan.programs.filter(isPreloaded).map(({ name }) => name));
  let spawnError: SamError | undefined;
  const made = plan.programs.length === 1 ? plan.programs[0]!.name : "sam";
  const control = await openControl(runtime, plan.name, made, lines.write);
  const http = plan.metrics &&
    await openEndpoints(plan.metrics, plan, lines.write).catch(async (error) => {
      await control?.close();
      throw error;
    });
  const notifier = await notifierOf(runtime, {
    programs: () =>
      plan.programs.map(({ name, options: { settings } }) => ({
        name,
        settings,
        status: fleet.status(name),
      })),
    isReady: () => fleet.allReady,
  }, (error) => lines.write(`sam: systemd cannot be told: ${(error as Error).message}`));
  const fleet = new Fleet(plan.programs, plan.strategy);
  fleet.subscribe((name, event) => {
    notifier?.hear(name, event);
    if (event.type === "finish" && event.status.reason === "spawn") spawnError = event.status.error;
    loggers.get(name)!(event);
    if (event.type !== "start" || !unseen.delete(name)) return;
    runtime.schedule(
      () => {
        const { pid } = fleet.supervisor(name).status;
        const twin = pid === null ? undefined : childWithSameExecutable(runtime, pid);
        if (twin !== undefined) warn(name, unwatchedChild(pid!, twin), event.instanceId);
      },
      childrenAfterMs,
      false,
    );
  });
  runtime.takeOver((error) => lines.write(`sam: a problem of sam's own: ${String(error)}`));
  onEnding(runtime, (signal, delivered) => {
    notifier?.stopping();
    fleet.stop(signal, delivered);
  });
  host.onNpmEnd(() => {
    // A second stop kills the programs. They got the first one together with npm: the terminal was closed, say.
    if (fleet.isStopping) return;
    lines.write("sam: npm, which started sam, has ended: the programs are stopped");
    fleet.stop("SIGTERM");
  });
  const { strategy } = plan;
  const journal = new Journal(runtime, fleet, {
    name: control?.name ?? made,
    strategy,
    url: http?.url,
  });
  http?.serve(runtime, fleet, journal);
  control?.serve(fleet, journal);
  const code = await fleet.finished;
  await control?.close();
  http?.close();
  await notifier?.close();
  return spawnError === undefined ? code : exitCodeOfSpawn(spawnError);
}

/** The warning that SAM does not watch the event loop of a program, where the user may expect that; undefined for none. */
function unwatched({ program, options, instead }: FleetProgram): string | undefined {
  const { timeInterval } = options.settings;
  const { name, isCommand, preload, restarts } = program;
  if (!isCommand || preload || options.check !== undefined) return undefined;
  if (timeInterval === 0 && instead === undefined) return undefined;
  const unless = restarts ? "" : ", unless the program below it calls register()";
  const interval = timeInterval > 0 &&
    `, and the time interval of ${timeInterval} ms has no effect${unless}`;
  return `only the end of ${name} is watched, not the event loop of the program that it runs${
    interval || ""
  }: ` +
    `${instead ?? "name that program itself (sam run server.js)"}, or add a check`;
}

/** Time after which a program has started the child process that does its work. */
const childrenAfterMs = 1500;

/** True if SAM watches the event loop of the program's own process and nothing else. */
function isPreloaded({ program, options }: FleetProgram): boolean {
  return program.preload === true && options.check === undefined;
}

function unwatchedChild(pid: number, child: number): string {
  return `process ${pid} has started process ${child} of the same runtime, whose event loop is not watched: if that one ` +
    "does the work, run its program by itself, or add a check (--check-http)";
}

/** Listens before any program starts, so that a port that is taken ends `sam` at once. */
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
