/**
 * The options of `sam run`, as data. Each row describes a flag, its environment variable and its key in the configuration file.
 * The parser, the help texts and the shell completion read the rows. A test compares them with the tables in docs.
 */
import { invalid } from "../../api/validate.ts";
import { signals } from "../../core/signals.ts";

/** The type of an option's value, which decides how its text is parsed. An array lists the allowed words. */
export type Kind =
  | "ms"
  | "bytes"
  | "number"
  | "count"
  | "text"
  | "switch"
  | "list"
  | "variables"
  | readonly string[];

/** An option of `sam run`. */
export interface Flag {
  /** The key of the program in the configuration file. `a.b` is the key `b` of the object `a`. */
  readonly key: string;
  readonly kind: Kind;
  /** The placeholder for the value in the help. Default: derived from `kind`. */
  readonly value?: string;
  /** The description in the help and in the docs, with the default in parentheses. */
  readonly help: string;
  /** True if `--help` lists the option. `--help-all` lists every option. */
  readonly common?: boolean;
}

/** The options of the SAM server (`SamOptions`) and of its health check (`CheckOptions`). */
export const optionFlags: readonly Flag[] = [
  {
    key: "timeInterval",
    kind: "ms",
    help: "restart if the event loop hangs for TIME (5s)",
    common: true,
  },
  {
    key: "transport",
    kind: ["unix", "pipe", "shm"],
    help: "channel for heartbeats; shm is the fastest (unix)",
  },
  {
    key: "warnSignal",
    kind: signals,
    value: "SIGNAL",
    help: "signal sent before SIGKILL (SIGTERM)",
  },
  {
    key: "startupTimeout",
    kind: "ms",
    help: "time limit for the program to become ready (60s)",
    common: true,
  },
  {
    key: "stopTimeout",
    kind: "ms",
    help: "grace period of an orderly stop (10s)",
    common: true,
  },
  {
    key: "standby",
    kind: "number",
    value: "0|1",
    help: "spare processes that can take over at once (0)",
  },
  { key: "maxDataSize", kind: "bytes", help: "size limit for data the program stores (64MiB)" },
  {
    key: "serverLost",
    kind: ["exit", "continue"],
    help: "what the program does if sam is killed (exit)",
  },
  {
    key: "killMode",
    kind: ["group", "process"],
    help: "group: also kill child processes (group)",
  },
  {
    key: "captureStack",
    kind: "switch",
    help: "capture the stack trace of a hang (on)",
  },
  { key: "log", kind: ["text", "json", "none"], help: "event log on standard error (text)" },
  { key: "observe", kind: "switch", help: "dry run: report hangs, but kill nothing (off)" },
  {
    key: "quorum",
    kind: "switch",
    help: "run only while Corosync has quorum (off)",
  },
  {
    key: "clusterMap",
    kind: "switch",
    help: "publish the state in Corosync's cluster map (off)",
  },
  {
    key: "listen",
    kind: "list",
    value: "ADDRESS",
    help: "keep the port open; may be repeated",
    common: true,
  },
  {
    key: "restart.intensity",
    kind: "number",
    help: "restart limit: restarts per --restart-period (10)",
  },
  {
    key: "restart.period",
    kind: "ms",
    help: "period of the restart limit (5m)",
  },
  { key: "restart.initialDelay", kind: "ms", help: "first delay of the restart backoff (0)" },
  { key: "restart.maxDelay", kind: "ms", help: "longest delay of the restart backoff (30s)" },
  { key: "restart.resetAfter", kind: "ms", help: "healthy time that resets the backoff (60s)" },
  {
    key: "check.http",
    kind: "text",
    value: "URL",
    help: "health check: URL answers with status 200 to 399",
    common: true,
  },
  {
    key: "check.tcp",
    kind: "text",
    value: "HOST:PORT",
    help: "health check: HOST:PORT accepts a connection",
    common: true,
  },
  {
    key: "check.command",
    kind: "text",
    value: "COMMAND",
    help: "health check: sh -c COMMAND exits with code 0",
    common: true,
  },
  {
    key: "check.period",
    kind: "ms",
    help: "time from one check to the next (1s)",
    common: true,
  },
  { key: "check.timeout", kind: "ms", help: "time limit for one check (1s)", common: true },
  {
    key: "check.failureThreshold",
    kind: "number",
    help: "consecutive failed checks before a restart (3)",
  },
  {
    key: "check.progress",
    kind: "ms",
    help: "unhealthy if no HTTP request ends for TIME (off)",
  },
  {
    key: "check.progressAction",
    kind: ["report", "restart"],
    value: "ACTION",
    help: "reaction to that: report or restart (report)",
  },
];

/** The options of the program itself. */
export const programFlags: readonly Flag[] = [
  {
    key: "restart",
    kind: ["always", "on-failure", "never"],
    value: "WHEN",
    help: "restart always, on-failure or never (on-failure)",
    common: true,
  },
  {
    key: "runtime",
    kind: ["node", "deno", "bun"],
    help: "runtime of a module (detected by lock file etc.)",
    common: true,
  },
  {
    key: "runtimeFlags",
    kind: "list",
    value: "FLAG",
    help: "flag for the runtime; may be repeated",
  },
  {
    key: "preload",
    kind: "switch",
    help: "preload a module that watches the event loop (on)",
    common: true,
  },
  { key: "cwd", kind: "text", value: "DIRECTORY", help: "working directory of the program" },
  {
    key: "env",
    kind: "variables",
    value: "NAME=VALUE",
    help: "environment variable; may be repeated",
  },
  {
    key: "envFile",
    kind: "list",
    value: "FILE",
    help: "read environment variables from a .env file",
  },
  {
    key: "stdio",
    kind: ["inherit", "ignore", "tee"],
    help: "streams; tee: show output in reports (inherit)",
  },
  {
    key: "instances",
    kind: "count",
    help: "instances side by side: a number, or auto (1)",
  },
  {
    key: "minReady",
    kind: "ms",
    help: "replacement takes over when ready for TIME (1s)",
  },
  {
    key: "maxMemory",
    kind: "bytes",
    help: "replace an instance that uses more (no limit)",
  },
  {
    key: "maxAge",
    kind: "ms",
    help: "replace an instance after TIME ± 10 % (no limit)",
  },
];

/** All options, in the order of the help. */
export const flags: readonly Flag[] = [...programFlags, ...optionFlags];

/** Flags whose names cannot be derived from their keys. */
const names: Readonly<Record<string, string>> = {
  runtimeFlags: "runtime-flag",
  "check.failureThreshold": "failure-threshold",
};

/** The flag of an option: `--time-interval`. */
export function flagOf({ key }: Pick<Flag, "key">): string {
  const name = names[key] ??
    key.replace(".", "-").replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  return `--${name}`;
}

/** The environment variable of an option: `SAM_TIME_INTERVAL`. */
export function variableOf(row: Pick<Flag, "key">): string {
  return variableOfFlag(flagOf(row));
}

/** The environment variable that belongs to a flag. */
export function variableOfFlag(flag: string): string {
  return `SAM_${flag.slice(2).replaceAll("-", "_").toUpperCase()}`;
}

/** The placeholder for the value of an option in the help. Empty for a switch. */
export function valueOf({ kind, value }: Pick<Flag, "kind" | "value">): string {
  if (kind === "switch") return "";
  return value ??
    (typeof kind === "string"
      ? { ms: "TIME", bytes: "BYTES", number: "N", count: "N" }[kind as "ms"] ?? "TEXT"
      : kind.join("|"));
}

const units = {
  ms: { ms: 1, s: 1000, m: 60_000, h: 3_600_000 },
  bytes: { KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 },
} as const;

/** Parses the value of the flag or environment variable `source`. Throws `INVALID_PARAM` with `source` in its message. */
export function parseText(source: string, kind: Kind, text: string): unknown {
  switch (kind) {
    case "text":
      return text;
    case "list":
      return [text];
    case "variables": {
      const equals = text.indexOf("=");
      if (equals > 0) return { [text.slice(0, equals)]: text.slice(equals + 1) };
      throw invalid(source, text, "NAME=VALUE");
    }
    case "switch": {
      if (["", "1", "true", "yes", "on"].includes(text)) return true;
      if (["0", "false", "no", "off"].includes(text)) return false;
      throw invalid(source, text, "true or false");
    }
    case "number":
      if (/^infinity$/i.test(text)) return Infinity;
      if (/^-?\d+(\.\d+)?$/.test(text)) return Number(text);
      throw invalid(source, text, "a number");
    case "count":
      if (text === "auto") return text;
      if (/^-?\d+(\.\d+)?$/.test(text)) return Number(text);
      throw invalid(source, text, 'a number or "auto"');
    case "ms":
    case "bytes": {
      const known: Readonly<Record<string, number>> = units[kind];
      const [, number, unit = ""] = /^(-?\d+(?:\.\d+)?)\s*([A-Za-z]*)$/.exec(text) ?? [];
      const factor = unit === "" ? 1 : known[unit];
      if (number !== undefined && factor !== undefined) return product(Number(number), factor);
      const what = kind === "ms" ? "milliseconds" : "bytes";
      throw invalid(
        source,
        text,
        `a number of ${what}, or a number with a unit: ${Object.keys(known).join(", ")}`,
      );
    }
    default:
      if (kind.includes(text)) return text;
      throw invalid(
        source,
        text,
        `one of ${kind.length > 8 ? "the signals, such as SIGTERM" : kind.join(", ")}`,
      );
  }
}

/** Multiplies without rounding errors: 2.01 s is 2010 ms. */
function product(number: number, factor: number): number {
  const exact = number * factor;
  const whole = Math.round(exact);
  return Math.abs(exact - whole) < 1e-6 ? whole : exact;
}
