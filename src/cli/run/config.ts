/** The types of the configuration file: several programs, their dependencies and their options. */
import type { SamOptions } from "../../api/options.ts";
import type { CheckOptions } from "../../api/supervise_options.ts";
import type { RestartOptions } from "../../core/server/restart_policy.ts";
import type { RuntimeName } from "../../runtime/runtime.ts";

/**
 * One program of a configuration file. Times are integer milliseconds. For an example, see `SamConfig`.
 *
 * `timeInterval` is 5,000 by default, and 0 for a command whose event loop is not watched.
 */
export interface ProgramConfig
  extends Omit<Partial<SamOptions>, "recoveryPolicy" | "restart" | "quorum" | "clusterMap"> {
  /** A module or a command, as for `sam run`. A relative path starts at the directory of the configuration file. */
  readonly program: string;
  /** The arguments of the program. Default none. */
  readonly args?: readonly string[];
  /**
   * The dependencies: names of programs that must be ready before this one starts. Default none.
   *
   * - A program with a health check is ready when the check passes.
   * - A program whose event loop is watched, or that calls `start()`, is ready when it has started.
   * - Any other command is ready when it runs.
   *
   * With a strategy other than `one_for_one`, each program also waits for all programs before it in the file.
   */
  readonly after?: readonly string[];
  /** The runtime of a module. Default: detected from its `#!` line or from lock files, else the runtime of `sam`. */
  readonly runtime?: RuntimeName;
  /** Flags for the runtime. Default: the flags in the `#!` line of the module. */
  readonly runtimeFlags?: readonly string[];
  /**
   * Watches the event loop of a program that does not call `register()`. Default true for modules and for the commands `node`,
   * `deno run` and `bun FILE`, except with `--watch` or `--hot`.
   */
  readonly preload?: boolean;
  /** The working directory of the program. Default: the directory of the configuration file. */
  readonly cwd?: string;
  /**
   * Time limit for the startup of an instance, in milliseconds. Default 60,000 if its event loop is watched or it has a check,
   * else 0: no limit.
   */
  readonly startupTimeout?: number;
  /** Environment variables of the program, in addition to those of `sam`. */
  readonly env?: Readonly<Record<string, string>>;
  /**
   * Files with environment variables, one NAME=VALUE per line. A later file overrides an earlier one, and `env` and the
   * environment of `sam` override the files. A relative path starts at the directory of the configuration file. Default none.
   */
  readonly envFile?: string | readonly string[];
  /** The standard streams. `"tee"` passes the output on, and stores its last lines as evidence. Default `"inherit"`. */
  readonly stdio?: "inherit" | "ignore" | "tee";
  /**
   * The number of instances that run side by side, or `"auto"` for one per available core. They are named `web.1`, `web.2` … for
   * the program `web`. Each has its number in the variable `SAM_INSTANCE`. Default: one, named like the program.
   */
  readonly instances?: number | "auto";
  /** Time for which a replacement must stay ready before `sam reload` ends the old instance. Default 1,000. */
  readonly minReady?: number;
  /**
   * The most resident memory of an instance, in bytes. An instance that uses more is replaced, as by `sam reload`. The memory of
   * the processes that the instance has started counts, too. Default: no limit.
   */
  readonly maxMemory?: number;
  /**
   * The longest time that an instance runs, in milliseconds, varied at random by up to 10 %. After that it is replaced, as by
   * `sam reload`. Default: no limit.
   */
  readonly maxAge?: number;
  /** Source of quorum: `start()` waits until the cluster is quorate. `true` stands for the quorum of Corosync. Default none. */
  readonly quorum?: SamOptions["quorum"] | boolean;
  /** The map in which the state of the program is published. `true` stands for the cluster map of Corosync. Default none. */
  readonly clusterMap?: SamOptions["clusterMap"] | boolean;
  /** Addresses on which `sam` listens for the program, so that connections wait while no instance runs. Default none. */
  readonly listen?: string | number | readonly (string | number)[];
  /** A health check that `sam` makes. Default none. */
  readonly check?: CheckOptions;
  /** The exits that lead to a restart, or an object that also has the restart limit and the backoff. Default `"on-failure"`. */
  readonly restart?: RestartConfig["policy"] | RestartConfig;
}

/** The exits that lead to a restart, the restart limit and the backoff. */
export interface RestartConfig extends Omit<RestartOptions, "on"> {
  /**
   * The exits that lead to a restart. Default `"on-failure"`.
   *
   * - `"always"`: every exit.
   * - `"on-failure"`: every exit except exit code 0.
   * - `"never"`: none. A program that stops responding is ended, and not restarted.
   */
  readonly policy?: "always" | "on-failure" | "never";
}

/**
 * The default export of a configuration file: `sam.config.ts`, `.js`, `.mjs` or `.json`.
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
  /** The JSON schema with which an editor checks a `.json` file. `sam` does not read it. */
  readonly $schema?: string;
  /** The programs. A key is the name of a program: 1 to 64 letters, digits, underscores, dots or dashes. */
  readonly programs: Readonly<Record<string, ProgramConfig>>;
  /**
   * The programs that restart when one of them fails. Default `"one_for_one"`. The names are those of Erlang/OTP.
   *
   * - `"one_for_one"`: only that program.
   * - `"one_for_all"`: all programs.
   * - `"rest_for_one"`: that program, and all that start after it.
   */
  readonly strategy?: "one_for_one" | "one_for_all" | "rest_for_one";
  /** The name of the server, for example in `sam status NAME`. Default: the name of its only program, else `"sam"`. */
  readonly name?: string;
  /** The address for metrics, probes and the status page: `"HOST:PORT"`, or a port on 127.0.0.1. Default none. */
  readonly metrics?: string | number;
}
