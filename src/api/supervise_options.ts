/** The options of `supervise()`: those of a SAM server, and a health check by the server. */
import { SamError } from "../errors.ts";
import { type CheckedOptions, checkOptions, type SamOptions } from "./options.ts";
import type { CheckedProgram } from "./program.ts";
import type { PassedSocket } from "../runtime/runtime.ts";
import {
  among,
  type Check,
  checkParts,
  integer,
  integerFrom,
  invalid,
  type Rules,
} from "./validate.ts";

/**
 * The options of `supervise()`. For a command, `timeInterval` is optional: default 0. For a module, it is required: without it,
 * `supervise()` throws INVALID_PARAM.
 */
export type SuperviseOptions =
  & Omit<SamOptions, "timeInterval">
  & Partial<Pick<SamOptions, "timeInterval">>
  & {
    /** Health check by the server. Default none. */
    readonly check?: CheckOptions;
    /**
     * Addresses on which the server listens for the program: `8080`, `"127.0.0.1:8080"`, `"[::1]:8080"`, `"unix:/run/web.sock"`,
     * or an array of these. A port alone stands for all addresses of the machine. Each instance inherits the listening sockets,
     * so connections wait while no instance runs. Default none.
     */
    readonly listen?: string | number | readonly (string | number)[];
  };

/**
 * A health check by the server. One of `http`, `tcp` and `command` is required, or `progress`, which can be combined with one of
 * them. Otherwise, `supervise()` throws INVALID_PARAM. Times are integer milliseconds from 1 to 2^31-1.
 *
 * Until the first check passes, the program is starting. The option `startupTimeout` limits that time; its default is no limit.
 * After that, `failureThreshold` consecutive failures start a recovery with the reason `unhealthy`.
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
  /** URL without user name and password. The check passes with a status from 200 to 399. It does not follow redirects. */
  readonly http?: string;
  /** Address as `"host:port"`. The check passes if a connection opens. */
  readonly tcp?: string;
  /** Command line for `sh -c`. The check passes with exit code 0. After `timeout`, SAM kills the command's process group. */
  readonly command?: string;
  /** Milliseconds from the start of one check to the start of the next. Default 1,000. */
  readonly period?: number;
  /** Time limit for one check, in milliseconds. Default 1,000. */
  readonly timeout?: number;
  /** Consecutive failed checks before a recovery. Default 3. */
  readonly failureThreshold?: number;
  /**
   * Milliseconds, from 1,000. The program is not ready while HTTP requests wait, and the response to none has begun for this
   * time. Default: no limit. Needs a module, or a command with `preload`.
   */
  readonly progress?: number;
  /** `"restart"`: a failed check `progress` starts a recovery with the reason `unhealthy`. Default `"report"`. */
  readonly progressAction?: "report" | "restart";
}

/** The checked option `check`, with all defaults filled in. */
export interface CheckedCheck {
  readonly kind: "http" | "tcp" | "command";
  readonly target: string;
  readonly period: number;
  readonly timeout: number;
  readonly failureThreshold: number;
  /** True if the request of the check says that it is one, so that the program does not count it. */
  readonly isMarked?: boolean;
}

/** The checked options of `supervise()`, with all defaults filled in. */
export interface CheckedSuperviseOptions extends CheckedOptions {
  readonly check?: CheckedCheck | undefined;
  /** The reaction to a failed check `progress`. Left out if that check is off. */
  readonly progressAction?: "report" | "restart" | undefined;
  /** The addresses on which the server listens for the program. */
  readonly listen?: readonly ListenAddress[];
  /** Sockets that are open already, and are handed on to the program. Default: those of `listen` are opened. */
  readonly sockets?: readonly PassedSocket[];
}

/** A checked address of the option `listen`: a port, or the path of a Unix socket. */
export type ListenAddress = TcpAddress | UnixAddress;

/** A port of one IP address, or of all addresses. */
export interface TcpAddress {
  /** The address as messages show it. */
  readonly text: string;
  /** The IP address; null for all addresses of the machine. */
  readonly host: string | null;
  readonly port: number;
  readonly path?: undefined;
}

/** The path of a Unix socket. */
export interface UnixAddress {
  /** The address as messages show it. */
  readonly text: string;
  readonly path: string;
}

/** The properties of a program that decide which options it can have. */
type ProgramKind = Pick<CheckedProgram, "name" | "isCommand" | "preload" | "wrapper">;

/**
 * Checks the options of `supervise()`. Throws INVALID_PARAM or NOT_SUPPORTED. `isCommand` is true for a program whose event loop
 * SAM does not watch. `nameOf` returns the name of an option in messages.
 */
export function checkSuperviseOptions(
  options: SuperviseOptions,
  { name, isCommand, preload, wrapper = false }: ProgramKind,
  nameOf: (key: string) => string = (key) => key,
): CheckedSuperviseOptions {
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    return checkOptions(options); // throws
  }
  const { check, listen, ...rest } = options;
  const defaults = { log: "none", ...isCommand && { timeInterval: 0 } } as const;
  const { progress, progressAction, ...checks } = checkCheck(check, nameOf);
  if (progress !== undefined && isCommand && !preload && !wrapper) {
    throw new SamError(
      "INVALID_PARAM",
      `${
        nameOf("check.progress")
      } has no effect, because SAM cannot count the requests of ${name}: ` +
        "remove it, or run a JavaScript program that SAM watches",
    );
  }
  const checked = checkOptions(rest, defaults, nameOf);
  if (wrapper && checked.settings.standby > 0) {
    throw new SamError(
      "INVALID_PARAM",
      `${
        nameOf("standby")
      } is ${checked.settings.standby}, but SAM cannot hold a program below a wrapper before its first line, ` +
        "so a spare would run it. Leave out preload, or run the program directly.",
    );
  }
  return {
    ...checked,
    settings: { ...checked.settings, progressLimit: progress },
    progressAction: progress === undefined ? undefined : progressAction,
    check: checks.check,
    listen: checkListen(nameOf("listen"), listen),
  };
}

/** Checks the option `listen`. Throws INVALID_PARAM for a wrong address, and for two that contain each other. */
function checkListen(name: string, value: unknown): readonly ListenAddress[] {
  if (value === undefined) return [];
  const given: readonly unknown[] = Array.isArray(value) ? value : [value];
  const addresses = given.map((each) => checkAddress(name, each));
  const texts = addresses.map(({ text }) => text);
  const twice = texts.find((text, at) => texts.indexOf(text) !== at);
  if (twice !== undefined) {
    throw new SamError("INVALID_PARAM", `${name} contains ${twice} twice: remove one of the two`);
  }
  for (const one of addresses) {
    const part = addresses.find((another) => another !== one && includesAddress(one, another));
    if (part === undefined) continue;
    throw new SamError(
      "INVALID_PARAM",
      `${name} contains ${one.text} and ${part.text}, but ${one.text} includes ${part.text}: remove one of the two`,
    );
  }
  return addresses;
}

/** True if a socket on one address also accepts the connections to another. */
export function includesAddress(one: ListenAddress, another: ListenAddress): boolean {
  if (one.path !== undefined || another.path !== undefined) return one.text === another.text;
  if (one.port !== another.port) return false;
  const { host } = one;
  return host === another.host || host === null || host === "::" ||
    (host === "0.0.0.0" && another.host?.includes(":") === false);
}

/** The longest path of a Unix socket, in bytes. */
const maxPathBytes = 107;

function checkAddress(name: string, value: unknown): ListenAddress {
  const text = typeof value === "number" ? String(value) : value;
  const wrong = () =>
    invalid(
      name,
      value,
      "a port from 1 to 65535, HOST:PORT with an IP address or localhost, [IPv6]:PORT, or unix:/PATH",
    );
  if (typeof text !== "string") throw wrong();
  if (text.startsWith("unix:/") && !text.includes("\0")) {
    const path = text.slice("unix:".length);
    const { length } = new TextEncoder().encode(path);
    if (length <= maxPathBytes) return { text, path };
    throw invalid(name, value, `a path of at most ${maxPathBytes} bytes`);
  }
  const [, written, digits] = /^(?:([^:[\]]+|\[[\da-fA-F:.]+\]):)?(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === undefined || port < 1 || port > 65_535) throw wrong();
  if (written === undefined) return { text: String(port), host: null, port };
  const host = written === "localhost" ? "127.0.0.1" : ipAddress(written);
  if (host === undefined) throw wrong();
  return { text: host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`, host, port };
}

/** An IP address in its usual form, without brackets; undefined if `written` is none. */
function ipAddress(written: string): string | undefined {
  if (!written.startsWith("[")) {
    const parts = written.split(".");
    const isIp = parts.length === 4 &&
      parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256);
    return isIp ? written : undefined;
  }
  const url = `http://${written}`;
  return URL.canParse(url) ? new URL(url).hostname.slice(1, -1) : undefined;
}

const checkTarget = (
  allowed: string,
  isRight: (target: string) => boolean,
): Check<string | undefined> =>
(name, value) => {
  if (value === undefined || (typeof value === "string" && isRight(value))) return value;
  throw invalid(name, value, allowed);
};

const isUrl = (target: string) => /^https?:\/\/[^\s/]/.test(target) && URL.canParse(target);
const checkUrl = checkTarget("a URL that begins with http:// or https://", isUrl);
const checkMs = integer("milliseconds", 1);

interface CheckedProgress {
  /** Undefined if the check is off. */
  readonly progress: number | undefined;
  readonly progressAction: "report" | "restart";
}
interface CompleteCheck
  extends Omit<CheckedCheck, "kind" | "target" | "isMarked">, CheckedProgress {
  readonly http: string | undefined;
  readonly tcp: string | undefined;
  readonly command: string | undefined;
}

const rules: Rules<CompleteCheck> = {
  http: [(name, value, nameOf) => {
    const refused = typeof value === "string" && refusedByFetch(value);
    if (!refused) return checkUrl(name, value, nameOf);
    throw new SamError(
      "INVALID_PARAM",
      `${name} ${refused}, which fetch() refuses: use check.command, for example with curl`,
    );
  }],
  tcp: [checkTarget('a string "host:port" with a port from 1 to 65535', (target) => {
    const port = /^(?:\[[\da-f:.]+\]|[^\s:]+):(\d{1,5})$/i.exec(target)?.[1];
    return Number(port) >= 1 && Number(port) <= 65535;
  })],
  command: [
    checkTarget("a non-empty string without NUL characters", (target) => /^[^\0]+$/.test(target)),
  ],
  period: [checkMs, 1000],
  timeout: [checkMs, 1000],
  failureThreshold: [integer("failures", 1), 3],
  progress: [(name, value) => value === undefined ? undefined : integerFrom(1000, name, value)],
  progressAction: [among("report", "restart"), "report"],
};

/** The names of the properties of `check`. */
export const checkNames: readonly string[] = Object.keys(rules);

/** Checks the option `check`. Throws INVALID_PARAM. */
export function checkCheck(
  value: unknown,
  nameOf: (key: string) => string = (key) => key,
): CheckedProgress & { readonly check: CheckedCheck | undefined } {
  if (value === undefined) {
    return { check: undefined, progress: undefined, progressAction: "report" };
  }
  const name = nameOf("check");
  const parts = checkParts(name, value, rules, (key) => nameOf(`check.${key}`));
  const { period, timeout, failureThreshold, progress, progressAction, ...targets } = parts;
  const given = (["http", "tcp", "command"] as const).filter((kind) => targets[kind] !== undefined);
  const [kind, another] = given;
  if (another !== undefined || (kind === undefined && progress === undefined)) {
    throw invalid(
      name,
      value,
      'an object with one of "http", "tcp", "command", or with "progress"',
    );
  }
  return {
    progress,
    progressAction,
    check: kind && {
      kind,
      target: targets[kind]!,
      period,
      timeout,
      failureThreshold,
      ...(progress !== undefined && { isMarked: true }),
    },
  };
}

/** The ports that `fetch()` refuses: https://fetch.spec.whatwg.org/#bad-port. */
const badPorts =
  ("0 1 7 9 11 13 15 17 19 20 21 22 23 25 37 42 43 53 69 77 79 87 95 101 102 103 104 109 110 111 113 " +
    "115 117 119 123 135 137 139 143 161 179 389 427 465 512 513 514 515 526 530 531 532 540 548 554 556 563 587 601 636 " +
    "989 990 993 995 1719 1720 1723 2049 3659 4045 4190 5060 5061 6000 6566 6665 6666 6667 6668 6669 6679 6697 10080")
    .split(" ");

/** Describes the part of a URL that `fetch()` refuses; undefined if there is none. The text must not show a password. */
function refusedByFetch(url: string): string | undefined {
  const parsed = isUrl(url) ? new URL(url) : undefined;
  const hasUser = parsed ? parsed.username + parsed.password !== "" : url.includes("@");
  if (hasUser) return "contains a user name or a password";
  return parsed && badPorts.includes(parsed.port) ? `has the port ${parsed.port}` : undefined;
}
