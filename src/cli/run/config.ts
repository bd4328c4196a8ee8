/** The configuration file as its user writes it: several programs, what they depend on, and their options. */
import type { SamOptions } from "../../api/options.ts";
import type { CheckOptions } from "../../api/supervise_options.ts";
import type { RestartOptions } from "../../core/server/restart_policy.ts";
import type { RuntimeName } from "../../runtime/runtime.ts";

/** A program of a configuration file. */
export interface ProgramConfig
  extends Omit<Partial<SamOptions>, "recoveryPolicy" | "restart" | "quorum" | "clusterMap"> {
  /** A module or a command, as after `sam run`. */
  readonly program: string;
  /** Its arguments. */
  readonly args?: readonly string[];
  /**
   * The programs that must be ready before this one starts: healthy, started, or, for a command without a check, running. With
   * another strategy than `one_for_one`, all programs before it in the file must be ready too.
   */
  readonly after?: readonly string[];
  /** The runtime for a module. Default: the runtime that its first line or the files beside it name. */
  readonly runtime?: RuntimeName;
  /** Flags for the runtime. */
  readonly runtimeFlags?: readonly string[];
  /** True if the event loop of a program that does not call `register()` is watched. Default true where that is possible. */
  readonly preload?: boolean;
  /** Its working directory. Default: that of the configuration file. */
  readonly cwd?: string;
  /** Milliseconds for an instance to become healthy. Default 60,000 if its event loop is watched or it has a check, else 0. */
  readonly startupTimeout?: number;
  /** Environment variables, added to those of sam. */
  readonly env?: Readonly<Record<string, string>>;
  /** Its standard streams. Default `"inherit"`. */
  readonly stdio?: "inherit" | "ignore" | "tee";
  /** `start()` waits until this source is quorate. `true` is the quorum of Corosync. */
  readonly quorum?: SamOptions["quorum"] | boolean;
  /** Where the state of the program is published. `true` is the cluster map of Corosync. */
  readonly clusterMap?: SamOptions["clusterMap"] | boolean;
  /** A health check made by sam. */
  readonly check?: CheckOptions;
  /** Which end of a process is followed by a restart, or an object that also says how often. Default `"on-failure"`. */
  readonly restart?: RestartConfig["policy"] | RestartConfig;
}

/** Which end of a process is followed by a restart, how often and how soon. */
export interface RestartConfig extends Omit<RestartOptions, "on"> {
  /** Any end, any end but exit code 0, or none. Default `"on-failure"`. */
  readonly policy?: "always" | "on-failure" | "never";
}

/**
 * What `sam.config.ts`, `.js` or `.json` exports.
 *
 * ```ts
 * import type { SamConfig } from "@x/sam/cli";
 *
 * const config: SamConfig = {
 *   strategy: "rest_for_one",
 *   programs: {
 *     store: { program: "redis-server", check: { tcp: "127.0.0.1:6379" } },
 *     web: { program: "./web.ts", after: ["store"], timeInterval: 500, env: { PORT: "8080" } },
 *   },
 * };
 * export default config;
 * ```
 */
export interface SamConfig {
  /** The programs, by their names. */
  readonly programs: Readonly<Record<string, ProgramConfig>>;
  /** Which programs are restarted when one fails, in OTP's words. Default `"one_for_one"`. */
  readonly strategy?: "one_for_one" | "one_for_all" | "rest_for_one";
  /** The name of the server, for `sam status` and the like. Default: that of its one program, else `sam`. */
  readonly name?: string;
  /** Where metrics, probes and the status page are served: HOST:PORT, or a port of 127.0.0.1. Default: nowhere. */
  readonly metrics?: string | number;
}
