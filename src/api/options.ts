/** The options of a SAM server, with their defaults and checks. */
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
  type Rules,
  withDefault,
} from "./validate.ts";

export type { TransportName } from "../../transports/builtin.ts";

/**
 * Options for the supervision of a program. Times are integer milliseconds, 0 to 2^31-1. A wrong option
 * throws or rejects with INVALID_PARAM.
 *
 * ```ts
 * import { type SamOptions, supervise } from "@x/sam";
 *
 * const options: SamOptions = { timeInterval: 500, recoveryPolicy: "quit", transport: "shm" };
 * await supervise({ command: "true" }, options).finished;
 * ```
 */
export interface SamOptions {
  /** Longest time without a heartbeat, in milliseconds. With 0 there is no limit: SAM notices only the end of the process. */
  readonly timeInterval: number;
  /** Action after a failure: `"restart"` starts a new instance, `"quit"` ends the server with the status of the process. */
  readonly recoveryPolicy: "quit" | "restart";
  /** Carries the heartbeats: see `TransportName`. Default `"unix"`, or `"pipe"` if no socket can be created. */
  readonly transport?: TransportName | Transport;
  /**
   * Signal that warns the process before SIGKILL. `"SIGKILL"` leaves out the warning. Default `"SIGTERM"`.
   *
   * A recovery sends this signal, waits up to one `timeInterval`, and then sends SIGKILL.
   */
  readonly warnSignal?: Signal;
  /** Restart limit and backoff. Default: at most 10 recoveries in 300,000 ms, and no delay before the first one. */
  readonly restart?: RestartOptions;
  /**
   * Time limit for the program to call `start()`, in milliseconds. Default 0: no limit. The time begins when the process starts;
   * for a command, when it calls `register()`. With `check`, the first check must also pass within this time after the start of
   * the process.
   */
  readonly startupTimeout?: number;
  /**
   * Milliseconds from the warn signal to SIGKILL when the program is stopped or restarted on request. Default 10,000. A recovery
   * uses it only if `timeInterval` is 0.
   */
  readonly stopTimeout?: number;
  /** Number of spares: processes that are parked in `register()` and take over at once. Default 0. */
  readonly standby?: 0 | 1;
  /** Largest size of the stored data, in bytes. Default 64 MiB. */
  readonly maxDataSize?: number;
  /**
   * Action of the program when its server has ended. Default `"exit"`: `Sam.signal` aborts, and the process exits at once with
   * exit code 1, or is killed if its event loop is blocked. `"continue"` leaves it running.
   */
  readonly serverLost?: "exit" | "continue";
  /**
   * Set to false to capture no JavaScript stack trace of an unresponsive process. Default true. Always off with `observe`.
   *
   * The warn signal waits for the trace, no longer than one time interval or two seconds, whichever is shorter. Costs:
   * https://github.com/x/sam/blob/main/docs/runtimes.md
   */
  readonly captureStack?: boolean;
  /**
   * Set to true for a dry run. SAM then reports missed deadlines, failed health checks, startup timeouts and losses of quorum
   * with the event `observed`, and does not warn or kill the process. A process that ends is restarted as usual. Default false.
   */
  readonly observe?: boolean;
  /**
   * Processes that SAM ends with an instance. Default `"group"`. Named after `KillMode` of systemd.
   *
   * - `"group"`: the instance, and all processes that the instance has started.
   * - `"process"`: only the instance.
   */
  readonly killMode?: "group" | "process";
  /** Log of the events. Default `"text"` for `initialize()`, and `"none"` for `supervise()`, which has `events()`. */
  readonly log?: Log;
  /** Source of quorum: `start()` waits until the cluster is quorate. A loss of quorum starts a recovery. Default none. */
  readonly quorum?: QuorumSource;
  /** Cluster map in which SAM shows the state of the program. Default none. */
  readonly clusterMap?: ClusterMap;
}

/**
 * The log of a server.
 *
 * - `"text"` writes readable lines about important events to standard error.
 * - `"json"` writes a line of JSON for each event to standard error.
 * - `"none"` writes nothing.
 * - A function is called with each event, and with the lines that `"text"` would write for it.
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

/** The options with all defaults filled in. */
type Complete =
  & Omit<Required<SamOptions>, "restart" | "quorum" | "clusterMap">
  & {
    readonly restart: Required<RestartOptions>;
    readonly quorum: QuorumSource | undefined;
    readonly clusterMap: ClusterMap | undefined;
  };

/** The checked options with all defaults filled in. */
export interface CheckedOptions extends Omit<Complete, keyof ServerSettings> {
  // The options for the state machine.
  readonly settings: Omit<ServerSettings, "program" | "startedAtSpawn" | "heartbeatWindow">;
  // True if the user named the transport.
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
      value === Infinity ? value : integerFrom(0, name, value, "restarts, or Infinity"),
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
      checkParts(name, withDefault(value, {}), restartRules, (key) => nameOf(`restart.${key}`)),
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
 * Checks the options of `initialize()` or `supervise()`. Throws INVALID_PARAM or NOT_SUPPORTED. `nameOf` returns the name of an
 * option in messages.
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
    throw invalid(`${name}.name`, own, "a name of letters, digits, dots, dashes and underscores");
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
