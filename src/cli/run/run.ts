/** `sam run`: supervises one program, or the programs of a configuration file, and exits with their exit code. */
import { Fleet } from "../../supervisor/fleet.ts";
import type { FleetProgram } from "../../supervisor/fleet_program.ts";
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
import { openSockets } from "./sockets.ts";

/** Supervises the programs until all have ended. Resolves to the exit code of `sam`. */
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
    const prefix = several ? `${name}: ` : "";
    return [name, logger(options.log, name, { name, prefix }, lines.write)];
  }));
  const warn = (name: string, detail: string | undefined, instanceId = 1) => {
    const at = Date.now();
    if (detail) loggers.get(name)!({ type: "fallback", side: "server", detail, at, instanceId });
  };
  const services = new Set(plan.programs.map(({ name, service = name }) => service));
  for (const service of services) {
    const first = plan.programs.find(({ name, service: own = name }) => own === service)!;
    warn(first.name, unwatchedWarning(first));
    warn(first.name, unlistenedWarning(first));
  }
  /** The programs for which SAM has not yet looked for an unwatched child process. */
  const unchecked = new Set(plan.programs.filter(isPreloaded).map(({ name }) => name));
  let spawnError: SamError | undefined;
  const [only] = services;
  const defaultName = services.size === 1 ? only! : "sam";
  const control = await openControl(runtime, plan.name, defaultName, lines.write);
  const http = plan.metrics &&
    await openEndpoints(plan.metrics, plan, lines.write).catch(async (error) => {
      await control?.close();
      throw error;
    });
  const programs = await openSockets(plan.programs, runtime).catch(async (error) => {
    await control?.close();
    http?.close();
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
  }, (error) => lines.write(`sam: cannot notify systemd: ${(error as Error).message}`));
  const fleet = new Fleet(programs, plan.strategy);
  fleet.subscribe((name, event) => {
    notifier?.hear(name, event);
    if (event.type === "finish" && event.status.reason === "spawn") spawnError = event.status.error;
    loggers.get(name)!(event);
    if (event.type !== "start" || !unchecked.delete(name)) return;
    runtime.schedule(
      () => {
        const { pid } = fleet.supervisor(name).status;
        const twin = pid === null ? undefined : childWithSameExecutable(runtime, pid);
        if (twin !== undefined) warn(name, unwatchedChildWarning(pid!, twin), event.instanceId);
      },
      childrenAfterMs,
      false,
    );
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
  const { strategy } = plan;
  const journal = new Journal(runtime, fleet, {
    name: control?.name ?? defaultName,
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

/** Returns a warning if SAM cannot watch the event loop of a program, but the user may expect it. */
function unwatchedWarning({ program, options, advice }: FleetProgram): string | undefined {
  const { timeInterval } = options.settings;
  const { name, isCommand, preload, restarts } = program;
  if (!isCommand || preload || options.check !== undefined) return undefined;
  if (timeInterval === 0 && advice === undefined) return undefined;
  const target = advice === undefined ? name : `the program that ${name} runs`;
  const unless = restarts ? "" : " unless the program calls register()";
  const interval = timeInterval > 0
    ? `; the time interval of ${timeInterval} ms has no effect${unless}`
    : "";
  return `cannot detect a hang of ${target}, only its exit${interval}. To detect hangs, ` +
    `${
      advice ?? "run a JavaScript program directly (sam run web.js)"
    }, or add a health check (--check-http).`;
}

/** Returns a warning if a known wrapper keeps the sockets of the option `listen` from its program. */
function unlistenedWarning({ program, options, advice }: FleetProgram): string | undefined {
  if (advice === undefined || program.restarts || (options.listen ?? []).length === 0) {
    return undefined;
  }
  return `${program.name} does not pass the sockets of --listen on to the program that it runs. To use them, ${advice}.`;
}

/** The delay of the search for child processes. Programs usually start the process that does the work within this time. */
const childrenAfterMs = 1500;

/** True if SAM watches the event loop of the program's own process, and makes no other check. */
function isPreloaded({ program, options }: FleetProgram): boolean {
  return program.preload === true && options.check === undefined;
}

function unwatchedChildWarning(pid: number, child: number): string {
  return `watching process ${pid}, but not its child process ${child}. If the child process does the work, run its program ` +
    "directly (sam run web.js), or add a health check (--check-http).";
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
