/**
 * The options of `sam run` for a program, as data. Each row is a flag, an environment variable and a key of the configuration
 * file. The parser, the help and the completion are made of the rows; docs/cli.md has the same ones.
 */
import { invalid } from "../../api/validate.ts";
import { signals } from "../../core/signals.ts";

/** How the text of a flag or a variable is parsed; an array has the allowed words. */
export type Kind =
  | "ms"
  | "bytes"
  | "number"
  | "text"
  | "switch"
  | "list"
  | "variables"
  | readonly string[];

/** One row. */
export interface Flag {
  /** The key in the configuration file, below the program. A dot leads into an object. */
  readonly key: string;
  readonly kind: Kind;
  /** The placeholder for the value in the help. */
  readonly value?: string;
  readonly help: string;
  /** True if the short help shows it. */
  readonly common?: boolean;
}

/** The rows of `SamOptions` and `CheckOptions`. */
export const optionFlags: readonly Flag[] = [
  {
    key: "timeInterval",
    kind: "ms",
    help: "silence that is a hang (modules 5s, else 0)",
    common: true,
  },
  { key: "transport", kind: ["unix", "pipe", "shm"], help: "what carries heartbeats (unix)" },
  {
    key: "warnSignal",
    kind: signals,
    value: "SIGNAL",
    help: "sent before the kill (SIGTERM)",
  },
  {
    key: "startupTimeout",
    kind: "ms",
    help: "to become healthy (watched or checked 60s)",
    common: true,
  },
  {
    key: "stopTimeout",
    kind: "ms",
    help: "of an orderly stop, until the kill (10s)",
    common: true,
  },
  { key: "standby", kind: "number", value: "0|1", help: "spare processes (0)" },
  { key: "maxDataSize", kind: "bytes", help: "the most that data.store() takes (64MiB)" },
  {
    key: "serverLost",
    kind: ["exit", "continue"],
    help: "the program, when sam is killed (exit)",
  },
  {
    key: "killMode",
    kind: ["group", "process"],
    help: "what goes with an instance (group)",
  },
  {
    key: "captureStack",
    kind: "switch",
    help: "take the stack of a blocked loop (on)",
  },
  { key: "log", kind: ["text", "json", "none"], help: "events on standard error (text)" },
  { key: "observe", kind: "switch", help: "a dry run: report, and kill nothing (off)" },
  {
    key: "quorum",
    kind: "switch",
    help: "start only with Corosync's quorum (off)",
  },
  {
    key: "clusterMap",
    kind: "switch",
    help: "show the state in Corosync's map (off)",
  },
  { key: "restart.intensity", kind: "number", help: "so many recoveries in the period (10)" },
  { key: "restart.period", kind: "ms", help: "of run time (5m)" },
  { key: "restart.initialDelay", kind: "ms", help: "before the first restart in a row (0)" },
  { key: "restart.maxDelay", kind: "ms", help: "longest delay before a restart (30s)" },
  { key: "restart.resetAfter", kind: "ms", help: "of health: delays start over (60s)" },
  {
    key: "check.http",
    kind: "text",
    value: "URL",
    help: "healthy is a status of 200 to 399",
    common: true,
  },
  {
    key: "check.tcp",
    kind: "text",
    value: "HOST:PORT",
    help: "healthy is a connection",
    common: true,
  },
  {
    key: "check.command",
    kind: "text",
    value: "COMMAND",
    help: "healthy is exit code 0 of sh -c COMMAND",
    common: true,
  },
  { key: "check.period", kind: "ms", help: "from one check to the next (1s)", common: true },
  { key: "check.timeout", kind: "ms", help: "so long a check may take (1s)", common: true },
  {
    key: "check.failureThreshold",
    kind: "number",
    help: "so many failures in a row are one (3)",
    common: true,
  },
];

/** The rows of a program itself. */
export const programFlags: readonly Flag[] = [
  {
    key: "restart",
    kind: ["always", "on-failure", "never"],
    help: "which end starts it again (on-failure)",
    common: true,
  },
  {
    key: "runtime",
    kind: ["node", "deno", "bun"],
    help: "default: by first line, or files beside it",
    common: true,
  },
  { key: "runtimeFlags", kind: "list", value: "FLAG", help: "for the runtime; may be repeated" },
  {
    key: "preload",
    kind: "switch",
    help: "watch the event loop of a module (on)",
    common: true,
  },
  { key: "cwd", kind: "text", value: "DIRECTORY", help: "the program's working directory" },
  { key: "env", kind: "variables", value: "NAME=VALUE", help: "for the program; may be repeated" },
  {
    key: "stdio",
    kind: ["inherit", "ignore", "tee"],
    help: "its streams; tee keeps a tail (inherit)",
  },
];

/** All rows, in the order of the help. */
export const flags: readonly Flag[] = [...programFlags, ...optionFlags];

/** Flags whose names do not follow from their keys. */
const names: Readonly<Record<string, string>> = {
  runtimeFlags: "runtime-flag",
  "check.failureThreshold": "failure-threshold",
};

/** The flag of a row: `--time-interval`. */
export function flagOf({ key }: Pick<Flag, "key">): string {
  const name = names[key] ??
    key.replace(".", "-").replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  return `--${name}`;
}

/** The environment variable of a row: `SAM_TIME_INTERVAL`. */
export function variableOf(row: Pick<Flag, "key">): string {
  return variableOfFlag(flagOf(row));
}

/** The environment variable of any flag. */
export function variableOfFlag(flag: string): string {
  return `SAM_${flag.slice(2).replaceAll("-", "_").toUpperCase()}`;
}

/** The placeholder for the value of a row; empty for a switch. */
export function valueOf({ kind, value }: Pick<Flag, "kind" | "value">): string {
  if (kind === "switch") return "";
  return value ??
    (typeof kind === "string"
      ? { ms: "TIME", bytes: "BYTES", number: "N" }[kind as "ms"] ?? "TEXT"
      : kind.join("|"));
}

const units = {
  ms: { ms: 1, s: 1000, m: 60_000, h: 3_600_000 },
  bytes: { KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 },
} as const;

/** Parses the text of a flag or a variable; throws an INVALID_PARAM that names `source`. */
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
        `a number of ${what}, or one with ${Object.keys(known).join(", ")}`,
      );
    }
    default:
      if (kind.includes(text)) return text;
      throw invalid(
        source,
        text,
        `one of ${kind.length > 8 ? "the signals, like SIGTERM" : kind.join(", ")}`,
      );
  }
}

/** A product without the rounding error: 2.01 s are 2010 ms. */
function product(number: number, factor: number): number {
  const exact = number * factor;
  const whole = Math.round(exact);
  return Math.abs(exact - whole) < 1e-6 ? whole : exact;
}
