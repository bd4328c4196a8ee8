/** The options of a server: what the user may say, what holds otherwise, and the check of every value. */
import { isTransportName, type TransportName } from "../../transports/builtin.ts";
import type { Transport } from "../../transports/transport.ts";
import type { ClusterMap, QuorumSource } from "./cluster.ts";
import { restartDefaults, type RestartOptions } from "../core/server/restart_policy.ts";
import type { ServerSettings } from "../core/server/types.ts";
import type { SupervisorEvent } from "./events.ts";
import { isSignal, type Signal } from "../core/signals.ts";
import { SamError } from "../errors.ts";

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
  /** How long the active process may stay silent; 0 = no limit, only its end is noticed. */
  readonly timeInterval: number;
  /** What follows a failure: the server's end, with the status of the process, or a new instance. */
  readonly recoveryPolicy: "quit" | "restart";
  /** What carries the heartbeats. Default `"unix"`, and where the system has no room for that, `"pipe"`. */
  readonly transport?: TransportName | Transport;
  /** Sent before the kill; `"SIGKILL"` = no warning. Default `"SIGTERM"`. */
  readonly warnSignal?: Signal;
  /** How often, and how soon, a new instance is started. */
  readonly restart?: RestartOptions;
  /** From the spawn to `start()`; 0 = no limit. Default 0. */
  readonly startupTimeout?: number;
  /** From the warning to SIGKILL in an orderly stop, and in a recovery when `timeInterval` is 0. Default 10,000. */
  readonly stopTimeout?: number;
  /** Spare processes, started and parked in `register()`, to take over at once. Default 0. */
  readonly standby?: 0 | 1;
  /** The most bytes `data.store()` takes. Default 64 MiB. */
  readonly maxDataSize?: number;
  /** What the active process does when its server is gone. Default `"exit"`. */
  readonly serverLost?: "exit" | "continue";
  /**
   * Whether the JavaScript stack of a process that hangs is taken before the warning; the signal waits for it, at most one
   * time interval and at most two seconds. Default true. See "Why was it replaced?" in the docs, also for the price.
   */
  readonly captureStack?: boolean;
  /**
   * A dry run: a silence, an unhealthy answer, a start that takes too long and a loss of quorum are reported by the event
   * `observed`; nobody is warned or killed. A process that ends is recovered as ever. Default false.
   */
  readonly observe?: boolean;
  /**
   * What goes with an instance that ends: `"group"`, all that it has started; `"process"`, nothing. After systemd's
   * `KillMode`. Default `"group"`.
   */
  readonly killMode?: "group" | "process";
  /** Who is told what happens. Default `"text"`; of `supervise()`, which has `events()`, `"none"`. */
  readonly log?: Log;
  /** `start()` waits until this is quorate; a loss is a recovery. Default none. */
  readonly quorum?: QuorumSource;
  /** Where the state of the process is published. Default none. */
  readonly clusterMap?: ClusterMap;
}

/**
 * On standard error of the server a readable line for what matters, or a line of JSON for each event; or nothing; or a
 * function, which gets each event, and the lines that `"text"` would write for it.
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

/**
 * How the server finds out whether a program is healthy: exactly one of `http`, `tcp` and `command`. Before its first
 * success the program is starting, and has `startupTimeout` for it; after it, `failureThreshold` failures in a row are a
 * recovery, with the reason `unhealthy`. Times are integer milliseconds.
 *
 * ```ts
 * import { type CheckOptions, supervise } from "@x/sam";
 *
 * const check: CheckOptions = { command: "test -d /tmp", period: 100 };
 * const program = supervise({ command: "sleep", args: ["60"] }, { recoveryPolicy: "restart", check });
 * for await (const event of program.events()) {
 *   if (event.type === "check" && event.healthy) program.stop();
 * }
 * ```
 */
export interface CheckOptions {
  /** A URL, without a password: healthy is an answer with a status from 200 to 399. A redirection is not followed. */
  readonly http?: string;
  /** `"host:port"`: healthy is a connection. */
  readonly tcp?: string;
  /** A command line for `sh -c`: healthy is exit code 0. It has a process group of its own, which is killed where it is late. */
  readonly command?: string;
  /** From the begin of one check to the begin of the next. Default 1,000. */
  readonly period?: number;
  /** So long a check may take. Default 1,000. */
  readonly timeout?: number;
  /** So many failures in a row. Default 3. */
  readonly failureThreshold?: number;
}

/** The options, checked and complete. */
export interface CheckedOptions {
  readonly settings: Omit<ServerSettings, "program" | "startedAtSpawn" | "heartbeatWindow">;
  readonly transport: TransportName | Transport;
  /** The user named it. */
  readonly transportChosen: boolean;
  readonly killMode: "group" | "process";
  readonly log: Log;
  readonly quorum: QuorumSource | undefined;
  readonly clusterMap: ClusterMap | undefined;
}

/** The names of all options. */
export const optionNames: readonly string[] = [
  "timeInterval",
  "recoveryPolicy",
  "transport",
  "warnSignal",
  "restart",
  "startupTimeout",
  "stopTimeout",
  "standby",
  "maxDataSize",
  "serverLost",
  "captureStack",
  "observe",
  "killMode",
  "log",
  "quorum",
  "clusterMap",
];
const maxMs = 2 ** 31 - 1;
const defaultMaxDataSize = 64 * 1024 * 1024;

/** Checks the options of `initialize` or `supervise`; throws INVALID_PARAM or NOT_SUPPORTED. */
export function checkOptions(options: unknown, defaultTimeInterval?: number): CheckedOptions {
  const given = checkObject("options", options, optionNames);
  const restart = checkRestart(given["restart"]);
  const standby = oneOf("standby", or(given["standby"], 0), [0, 1]);
  const transport = checkTransport(or(given["transport"], "unix"));
  const timeInterval = integer(
    "timeInterval",
    or(given["timeInterval"], defaultTimeInterval),
    "milliseconds",
  );
  return {
    transport,
    transportChosen: given["transport"] !== undefined,
    killMode: oneOf("killMode", or(given["killMode"], "group"), ["group", "process"]),
    log: checkLog(or(given["log"], "text")),
    quorum: checkInterface("quorum", given["quorum"], ["watch"]) as QuorumSource | undefined,
    clusterMap: checkInterface("clusterMap", given["clusterMap"], ["set", "delete"]) as
      | ClusterMap
      | undefined,
    settings: {
      timeInterval,
      recoveryPolicy: oneOf("recoveryPolicy", given["recoveryPolicy"], ["quit", "restart"]),
      warnSignal: checkSignal("warnSignal", or(given["warnSignal"], "SIGTERM")),
      restart,
      startupTimeout: integer("startupTimeout", or(given["startupTimeout"], 0), "milliseconds"),
      stopTimeout: integer("stopTimeout", or(given["stopTimeout"], 10_000), "milliseconds"),
      maxDataSize: integer("maxDataSize", or(given["maxDataSize"], defaultMaxDataSize), "bytes"),
      serverLost: oneOf("serverLost", or(given["serverLost"], "exit"), ["exit", "continue"]),
      captureStack: oneOf("captureStack", or(given["captureStack"], true), [true, false]),
      observe: oneOf("observe", or(given["observe"], false), [true, false]),
      standby,
      hasQuorum: given["quorum"] !== undefined,
      hasClusterMap: given["clusterMap"] !== undefined,
    },
  };
}

/** What was given, null included; `otherwise` only where there is nothing. */
export function or(given: unknown, otherwise: unknown): unknown {
  return given === undefined ? otherwise : given;
}

/** A check, checked and complete. */
export interface CheckedCheck {
  readonly kind: "http" | "tcp" | "command";
  readonly target: string;
  readonly period: number;
  readonly timeout: number;
  readonly failureThreshold: number;
}

const targets: Readonly<
  Record<CheckedCheck["kind"], readonly [may: string, (target: string) => boolean]>
> = {
  http: [
    "a URL that begins with http:// or https://",
    (target) => /^https?:\/\/[^\s/]/.test(target) && URL.canParse(target),
  ],
  tcp: ['a text "host:port", with a port from 1 to 65535', (target) => {
    const port = /^(?:\[[\da-f:.]+\]|[^\s:]+):(\d{1,5})$/i.exec(target)?.[1];
    return Number(port) >= 1 && Number(port) <= 65535;
  }],
  command: ["a text that is not empty and has no NUL", (target) => /^[^\0]+$/.test(target)],
};

/** The ports that `fetch` refuses, on whichever runtime it keeps to its standard: https://fetch.spec.whatwg.org/#bad-port. */
const badPorts =
  ("0 1 7 9 11 13 15 17 19 20 21 22 23 25 37 42 43 53 69 77 79 87 95 101 102 103 104 109 110 111 113 " +
    "115 117 119 123 135 137 139 143 161 179 389 427 465 512 513 514 515 526 530 531 532 540 548 554 556 563 587 601 636 " +
    "989 990 993 995 1719 1720 1723 2049 3659 4045 4190 5060 5061 6000 6566 6665 6666 6667 6668 6669 6679 6697 10080")
    .split(" ");

/** What `fetch` would refuse at every check; undefined for nothing. A password is shown to nobody. */
function refusedByFetch(url: string): string | undefined {
  const parsed = targets.http[1](url) ? new URL(url) : undefined;
  const hasUser = parsed ? parsed.username + parsed.password !== "" : url.includes("@");
  if (hasUser) return "has a user or a password";
  return parsed && badPorts.includes(parsed.port) ? `has the port ${parsed.port}` : undefined;
}
const checkTimes = { period: 1000, timeout: 1000, failureThreshold: 3 };

/** The names of what a check is told. */
export const checkNames: readonly string[] = [...Object.keys(targets), ...Object.keys(checkTimes)];

/** Checks the option `check`; throws INVALID_PARAM. */
export function checkCheck(value: unknown): CheckedCheck | undefined {
  if (value === undefined) return undefined;
  const kinds = Object.keys(targets) as CheckedCheck["kind"][];
  const given = checkObject("check", value, checkNames);
  const [kind, another] = kinds.filter((kind) => given[kind] !== undefined);
  if (kind === undefined || another !== undefined) {
    throw invalid("check", value, 'an object with one of "http", "tcp", "command"');
  }
  const target = given[kind];
  const [may, isRight] = targets[kind];
  const refused = kind === "http" && typeof target === "string" && refusedByFetch(target);
  if (refused) {
    throw new SamError(
      "INVALID_PARAM",
      `check.http ${refused}, which fetch refuses: use check.command, with curl for example`,
    );
  }
  if (typeof target !== "string" || !isRight(target)) throw invalid(`check.${kind}`, target, may);
  const [period, timeout, failureThreshold] = (["period", "timeout", "failureThreshold"] as const)
    .map((name) => {
      const unit = name === "failureThreshold" ? "failures" : "milliseconds";
      return integerFrom(1, `check.${name}`, or(given[name], checkTimes[name]), unit);
    });
  return {
    kind,
    target,
    period: period!,
    timeout: timeout!,
    failureThreshold: failureThreshold!,
  };
}

function checkRestart(value: unknown): Required<RestartOptions> {
  if (value === undefined) return restartDefaults;
  const given = {
    ...restartDefaults,
    ...defined(checkObject("restart", value, Object.keys(restartDefaults))),
  };
  for (const name of ["period", "initialDelay", "maxDelay", "resetAfter"] as const) {
    integer(`restart.${name}`, given[name], "milliseconds");
  }
  if (given.intensity !== Infinity) {
    integer("restart.intensity", given.intensity, "recoveries, or Infinity");
  }
  oneOf("restart.on", given.on, ["started", "failure", "always"]);
  return given;
}

function defined(given: Readonly<Record<string, unknown>>): Record<string, never> {
  return Object.fromEntries(
    Object.entries(given).filter(([, value]) => value !== undefined),
  ) as Record<string, never>;
}

function checkTransport(value: unknown): TransportName | Transport {
  if (isTransportName(value)) return value;
  if (typeof value === "object" && value !== null) {
    checkInterface("transport", value, ["open", "connect"]);
    const { name } = value as { name?: unknown };
    if (typeof name === "string" && /^[\w.-]+$/.test(name)) return value as Transport;
    throw invalid("transport.name", name, "a name of letters, digits, dots and dashes");
  }
  throw invalid(
    "transport",
    value,
    'one of "unix", "pipe", "shm", or an object that implements Transport',
  );
}

function checkLog(value: unknown): Log {
  if (typeof value === "function") return value as Log;
  const words = ["text", "json", "none"] as const;
  if (words.includes(value as "text")) return value as Log;
  throw invalid("log", value, 'one of "text", "json", "none", or a function');
}

/** Checks that `value` is an object with no other keys than `keys`. */
export function checkObject(
  name: string,
  value: unknown,
  keys: readonly string[],
): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalid(name, value, "an object");
  }
  for (const key of Object.keys(value)) {
    if (!keys.includes(key)) {
      throw new SamError(
        "INVALID_PARAM",
        `${name} has no "${key}"; it may have ${keys.join(", ")}`,
      );
    }
  }
  return value as Readonly<Record<string, unknown>>;
}

function checkInterface(
  name: string,
  value: unknown,
  methods: readonly string[],
): object | undefined {
  if (value === undefined) return undefined;
  const given = value as Readonly<Record<string, unknown>> | null;
  if (
    typeof value === "object" && methods.every((method) => typeof given?.[method] === "function")
  ) return value as object;
  throw invalid(
    name,
    value,
    `an object with ${methods.map((method) => `${method}()`).join(" and ")}`,
  );
}

/** Checks the name of a signal. */
export function checkSignal(name: string, value: unknown): Signal {
  if (isSignal(value)) return value;
  throw invalid(name, value, 'the name of a signal, in capitals, like "SIGTERM"');
}

/** Checks that `value` is one of `allowed`. */
export function oneOf<const T>(name: string, value: unknown, allowed: readonly T[]): T {
  if ((allowed as readonly unknown[]).includes(value)) return value as T;
  throw invalid(name, value, `one of ${allowed.map((each) => JSON.stringify(each)).join(", ")}`);
}

function integer(name: string, value: unknown, unit: string): number {
  return integerFrom(0, name, value, unit);
}

/** Checks that `value` is an integer from `least` on. */
export function integerFrom(
  least: number,
  name: string,
  value: unknown,
  unit = "milliseconds",
): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= least && value <= maxMs) {
    return value;
  }
  throw invalid(name, value, `an integer from ${least} to ${maxMs} (${unit})`);
}

/** An INVALID_PARAM that names the argument, what it was, and what it may be. */
export function invalid(name: string, value: unknown, allowed: string): SamError {
  return new SamError("INVALID_PARAM", `${name} is ${describe(value)}; it must be ${allowed}`);
}

function describe(value: unknown): string {
  if (typeof value === "string") {
    return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}\u2026` : value);
  }
  if (typeof value === "function") return "a function";
  if (typeof value === "object" && value !== null) {
    return Array.isArray(value)
      ? "an array"
      : `an object (${value.constructor?.name ?? "no prototype"})`;
  }
  return String(value);
}
