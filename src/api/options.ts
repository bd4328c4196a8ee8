/** The options of a server: what the user may say, the default of each, and the check of each value. */
import { isTransportName, type TransportName } from "../../transports/builtin.ts";
import type { Transport } from "../../transports/transport.ts";
import type { ClusterMap, QuorumSource } from "./cluster.ts";
import type { RestartOptions } from "../core/server/restart_policy.ts";
import type { ServerSettings } from "../core/server/types.ts";
import type { SupervisorEvent } from "./events.ts";
import type { Signal } from "../core/signals.ts";
import {
  among,
  type Check,
  checkMethods,
  checkParts,
  checkSignal,
  integer,
  integerFrom,
  invalid,
  orDefault,
  type Rules,
} from "./validate.ts";

export type { TransportName } from "../../transports/builtin.ts";

/**
 * How a program is supervised. Times are integer milliseconds, 0 to 2^31-1.
 *
 * ```ts
 * import { type SamOptions, supervise } from "@x/sam";
 *
 * const options: SamOptions = { timeInterval: 500, recoveryPolicy: "quit", transport: "shm" };
 * await supervise({ command: "true" }, options).finished;
 * ```
 */
export interface SamOptions {
  /** The longest silence of the active process. With 0 there is no limit, and SAM notices only the end of the process. */
  readonly timeInterval: number;
  /** After a failure, `"restart"` starts a new instance. `"quit"` ends the server with the status of the process. */
  readonly recoveryPolicy: "quit" | "restart";
  /** The transport of the heartbeats. Default `"unix"`, or `"pipe"` if the system has no room for a socket. */
  readonly transport?: TransportName | Transport;
  /** The signal before SIGKILL. `"SIGKILL"` leaves out the warning. Default `"SIGTERM"`. */
  readonly warnSignal?: Signal;
  /** How often, and how soon, a new instance starts. */
  readonly restart?: RestartOptions;
  /** Time limit from the spawn to `start()`. With 0 there is no limit. Default 0. */
  readonly startupTimeout?: number;
  /** Grace period of an orderly stop, and of a recovery when `timeInterval` is 0. Default 10,000. */
  readonly stopTimeout?: number;
  /** Number of spare processes, which are parked in `register()` and take over at once. Default 0. */
  readonly standby?: 0 | 1;
  /** The most bytes that `data.store()` takes. Default 64 MiB. */
  readonly maxDataSize?: number;
  /** What the active process does when its server has ended. Default `"exit"`. */
  readonly serverLost?: "exit" | "continue";
  /**
   * True if SAM captures the JavaScript stack of an unresponsive process before the warning. The signal waits for it, at most
   * one time interval and at most two seconds. Default true; with `observe`, false. See "Why was it replaced?" in the docs for
   * the costs.
   */
  readonly captureStack?: boolean;
  /**
   * A dry run: silence, an unhealthy answer, a startup timeout and a loss of quorum are reported by the event `observed`, and
   * SAM warns and kills nothing. A process that ends is recovered as usual. Default false.
   */
  readonly observe?: boolean;
  /**
   * What ends with an instance: `"group"`, all processes that it has started; `"process"`, only the instance. Named after
   * systemd's `KillMode`. Default `"group"`.
   */
  readonly killMode?: "group" | "process";
  /** Where events are reported. Default `"text"`. Default of `supervise()`, which has `events()`: `"none"`. */
  readonly log?: Log;
  /** `start()` waits until this source is quorate. A loss of quorum is a recovery. Default none. */
  readonly quorum?: QuorumSource;
  /** The cluster map that shows the state of the process. Default none. */
  readonly clusterMap?: ClusterMap;
}

/**
 * `"text"` writes readable lines about important events to standard error of the server, `"json"` a line of JSON for each event,
 * `"none"` nothing. A function is called with each event, and with the lines that `"text"` would write for it.
 *
 * ```ts
 * import { supervise } from "@x/sam";
 *
 * const levels: Record<string, string> = { recovery: "warn", failed: "error" };
 * await supervise({ command: "true" }, {
 *   recoveryPolicy: "quit",
 *   log: ({ type, instanceId }, lines) => {
 *     for (const line of lines) console.log({ level: levels[type] ?? "info", instanceId, line });
 *   },
 * }).finished;
 * ```
 */
export type Log =
  | "text"
  | "json"
  | "none"
  | ((event: SupervisorEvent, lines: readonly string[]) => void);

/** The options, complete. */
type Complete =
  & Omit<Required<SamOptions>, "restart" | "quorum" | "clusterMap">
  & {
    readonly restart: Required<RestartOptions>;
    readonly quorum: QuorumSource | undefined;
    readonly clusterMap: ClusterMap | undefined;
  };

/** The options, checked and complete. */
export interface CheckedOptions extends Omit<Complete, keyof ServerSettings> {
  /** The options that the core knows. */
  readonly settings: Omit<ServerSettings, "program" | "startedAtSpawn" | "heartbeatWindow">;
  /** True if the user named the transport. */
  readonly transportChosen: boolean;
}

/** The methods of the options that are interfaces. */
export const methodsOf = { quorum: ["watch"], clusterMap: ["set", "delete"] } as const;

const milliseconds = integer("milliseconds");
const flag = among(true, false);
const implementation = <T>(methods: readonly string[]): Check<T | undefined> => (name, value) =>
  value === undefined ? undefined : checkMethods(name, value, methods) as T;

const restartRules: Rules<Required<RestartOptions>> = {
  on: [among("started", "failure", "always"), "started"],
  intensity: [
    (name, value) =>
      value === Infinity ? value : integerFrom(0, name, value, "recoveries, or Infinity"),
    10,
  ],
  period: [milliseconds, 300_000],
  initialDelay: [milliseconds, 0],
  maxDelay: [milliseconds, 30_000],
  resetAfter: [milliseconds, 60_000],
};

/** The checks and the defaults of all options. */
const rules: Rules<Complete> = {
  timeInterval: [milliseconds],
  recoveryPolicy: [among("quit", "restart")],
  transport: [checkTransport, "unix"],
  warnSignal: [checkSignal, "SIGTERM"],
  restart: [
    (name, value, nameOf) =>
      checkParts(name, orDefault(value, {}), restartRules, (key) => nameOf(`restart.${key}`)),
  ],
  startupTimeout: [milliseconds, 0],
  stopTimeout: [milliseconds, 10_000],
  standby: [among(0, 1), 0],
  maxDataSize: [integer("bytes"), 64 * 1024 * 1024],
  serverLost: [among("exit", "continue"), "exit"],
  captureStack: [flag, true],
  observe: [flag, false],
  killMode: [among("group", "process"), "group"],
  log: [checkLog, "text"],
  quorum: [implementation(methodsOf.quorum)],
  clusterMap: [implementation(methodsOf.clusterMap)],
};

/** The names of all options. */
export const optionNames: readonly string[] = Object.keys(rules);

/**
 * Checks the options of `initialize` or `supervise`; throws INVALID_PARAM or NOT_SUPPORTED, in which an option has the name that
 * `nameOf` gives it.
 */
export function checkOptions(
  options: unknown,
  defaults: Partial<Complete> = {},
  nameOf: (key: string) => string = (key) => key,
): CheckedOptions {
  const { transport, killMode, log, quorum, clusterMap, ...settings } = checkParts(
    "options",
    options,
    rules,
    nameOf,
    defaults,
  );
  return {
    transport,
    transportChosen: (options as SamOptions).transport !== undefined,
    killMode,
    log,
    quorum,
    clusterMap,
    settings: {
      ...settings,
      captureStack: settings.captureStack && !settings.observe,
      hasQuorum: quorum !== undefined,
      hasClusterMap: clusterMap !== undefined,
    },
  };
}

function checkTransport(name: string, value: unknown): TransportName | Transport {
  if (isTransportName(value)) return value;
  if (typeof value === "object" && value !== null) {
    checkMethods(name, value, ["open", "connect"]);
    const { name: own } = value as { name?: unknown };
    if (typeof own === "string" && /^[\w.-]+$/.test(own)) return value as Transport;
    throw invalid(`${name}.name`, own, "a name of letters, digits, dots and dashes");
  }
  throw invalid(
    name,
    value,
    'one of "unix", "pipe", "shm", or an object that implements Transport',
  );
}

function checkLog(name: string, value: unknown): Log {
  if (typeof value === "function") return value as Log;
  const words = ["text", "json", "none"] as const;
  if (words.includes(value as "text")) return value as Log;
  throw invalid(name, value, 'one of "text", "json", "none", or a function');
}
