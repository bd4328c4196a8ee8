/** Requests on the control socket that need several steps: restarts and reloads. */
import { SamError } from "../../errors.ts";
import type { Fleet } from "../../supervisor/fleet.ts";
import type { FleetChange } from "../../supervisor/fleet_reloads.ts";
import { report } from "../../supervisor/report.ts";
import type { ReloadAnswer } from "../control/protocol.ts";

/** The programs and instances that a request names: all of the server without a name. */
export function named(fleet: Fleet, program: string | undefined): readonly string[] {
  return program === undefined ? fleet.names : fleet.select(program);
}

/** Restarts a program, or all programs that run. Programs restart at the same time, and instances side by side in turn. */
export async function restart(fleet: Fleet, program: string | undefined): Promise<void> {
  if (program === undefined) {
    // A program that the user has stopped stays stopped.
    const isSelected = (name: string) =>
      fleet.names.includes(name) && !(fleet.waitsFor(name) || fleet.isStopped(name));
    await Promise.all(fleet.services.map(async (service) => {
      for (const name of fleet.select(service)) {
        if (!isSelected(name)) continue;
        await fleet.restartProgram(name).catch((error: SamError) => {
          if (error.code !== "BAD_HANDLE") throw error; // a finished program is not restarted
        });
      }
    }));
    return;
  }
  const names = fleet.select(program);
  const waitsFor = names.map((name) => fleet.waitsFor(name)).find((others) => others !== undefined);
  if (waitsFor) {
    throw new SamError(
      "BAD_HANDLE",
      `cannot restart ${program}: it is waiting for ${waitsFor.join(", ")}`,
    );
  }
  await fleet.restartProgram(program).catch((error: SamError) => {
    if (error.code !== "BAD_HANDLE") throw error;
    throw new SamError(
      "BAD_HANDLE",
      `${program} has finished. Start it again with a new sam run.`,
    );
  });
}

/** Reloads a program, or the configuration. Without a configuration file, reloads all programs that run. */
export async function reload(
  fleet: Fleet,
  program: string | undefined,
  config: ConfigSource | undefined,
): Promise<ReloadAnswer> {
  if (program === undefined && config !== undefined) return await reloadConfig(config);
  const isRunning = (name: string) =>
    fleet.select(name).some((each) =>
      !fleet.isStopped(each) && fleet.supervisor(each).status.state !== "finished"
    );
  const names = program !== undefined ? [program] : fleet.services.filter(isRunning);
  const reloaded: string[] = [];
  for (const name of names) {
    const result = await fleet.reloadProgram(name);
    reloaded.push(...result.reloaded);
    if (result.failed) {
      return { reloaded, failure: report(result.failed.event, { name: result.failed.name }) };
    }
  }
  return { reloaded, failure: null };
}

/** The configuration of a server, which can be read again. */
export interface ConfigSource {
  /** The configuration file. */
  readonly file: string;
  run(): Promise<FleetChange>;
}

async function reloadConfig(config: ConfigSource): Promise<ReloadAnswer> {
  const { started, stopped, reloaded, failed, notStarted } = await config.run();
  const failure = failed
    ? report(failed.event, { name: failed.name })
    : notStarted && [`${notStarted.name} was not started: it ${notStarted.detail}`];
  return { reloaded, failure, changes: { file: config.file, started, stopped } };
}
