/** `sam reload` without the name of a program: reads the configuration file again, and changes the programs. */
import { SamError } from "../../errors.ts";
import type { Fleet } from "../../supervisor/fleet.ts";
import type { FleetChange } from "../../supervisor/fleet_reloads.ts";
import { checkLimits } from "../../supervisor/replacer.ts";
import { loadRuntime } from "../../runtime/load.ts";
import { CommandError } from "../command_line/exit.ts";
import type { CheckedConfig } from "./check_config.ts";
import { readPlan } from "./plan.ts";
import type { ProgramLogs } from "./program_logs.ts";
import type { ListeningSockets } from "./sockets.ts";

/** The parts of a running server that a reload of its configuration changes. */
interface RunningServer {
  readonly fleet: Fleet;
  readonly logs: ProgramLogs;
  readonly sockets: ListeningSockets;
}

/** Reads the configuration file of one `sam run` again. */
export class ConfigReload {
  /** The configuration file. */
  readonly file: string;

  readonly #words: readonly string[];
  readonly #first: CheckedConfig;
  readonly #server: RunningServer;
  #isRunning = false;

  /** `words` are those of `sam run`, and `first` is the configuration with which it started. */
  constructor(
    file: string,
    words: readonly string[],
    first: CheckedConfig,
    server: RunningServer,
  ) {
    this.file = file;
    this.#words = words;
    this.#first = first;
    this.#server = server;
  }

  /** Changes the programs to those of the file. A mistake in the file, or an address in use, rejects and changes nothing. */
  async run(): Promise<FleetChange> {
    if (this.#isRunning) {
      const what = "cannot reload the configuration: another reload of it is running";
      throw new SamError("TRY_AGAIN", `${what}. Wait until that has ended.`);
    }
    this.#isRunning = true;
    const { fleet, logs, sockets } = this.#server;
    try {
      const programs = await sockets.addTo((await this.#read()).programs);
      logs.programs = programs;
      return await fleet.change(programs);
    } finally {
      logs.programs = fleet.programs;
      this.#isRunning = false;
    }
  }

  async #read(): Promise<CheckedConfig> {
    try {
      const next = await readPlan(this.#words, this.file);
      this.#checkFixed(next);
      checkLimits(next.programs, await loadRuntime());
      return next;
    } catch (error) {
      // The command line of `sam run` was right. So a flag that does not fit any more is a mistake of the file.
      if (!(error instanceof CommandError) || error.reason !== "usage") throw error;
      throw new CommandError("config", error.message, { code: error.code });
    }
  }

  #checkFixed(next: CheckedConfig): void {
    const textsOf = ({ name, strategy, metrics }: CheckedConfig) => ({
      name,
      strategy,
      metrics: metrics && `${metrics.host}:${metrics.port}`,
    });
    const [before, now] = [textsOf(this.#first), textsOf(next)];
    for (const key of ["name", "strategy", "metrics"] as const) {
      if (before[key] === now[key]) continue;
      throw new CommandError(
        "config",
        `${this.file}: ${key} was ${before[key] ?? "not set"} when sam started, and is ${
          now[key] ?? "not set"
        } now. It cannot change while sam runs. Restore it, or start sam again.`,
      );
    }
  }
}
