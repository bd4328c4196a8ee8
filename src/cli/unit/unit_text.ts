/** The text of systemd units: systemd.unit(5), systemd.service(5), systemd.socket(5). */
import type { ListenAddress } from "../../api/supervise_options.ts";

/** The parts of the units. */
export interface UnitParts {
  readonly name: string;
  /** True if the program is that of a configuration file. */
  readonly hasFile: boolean;
  /** The variables that set options of `sam run`. */
  readonly variables: readonly (readonly [name: string, value: string])[];
  /** The command line that starts `sam`, without its own words. */
  readonly sam: readonly string[];
  /** The words of `sam run`, with its options and the program. */
  readonly words: readonly string[];
  readonly directory: string;
  /** The search path for programs. */
  readonly path: string;
  /** True for a unit of a user manager, false for one of the system. */
  readonly isUser: boolean;
  /** The user that runs `sam`; undefined for root, and in a user manager. */
  readonly user: string | undefined;
  /** True if `sam` starts a program for each message to systemd. */
  readonly notifiesByProgram: boolean;
  /** The addresses of the option `listen` of all programs. */
  readonly addresses: readonly ListenAddress[];
  /** True if systemd opens these addresses. */
  readonly hasSocket: boolean;
}

/** The first line of each unit. A unit without it is never overwritten. */
export const mark = "# Made by sam unit.";

/** Ports below this one are for root, and for processes with the capability CAP_NET_BIND_SERVICE. */
const firstFreePort = 1024;

/** Settings that work in every manager, and that a server of JavaScript never needs to do without. */
const hardening = [
  "NoNewPrivileges=yes",
  "LockPersonality=yes",
  "RestrictRealtime=yes",
  "RestrictSUIDSGID=yes",
];
/** Settings that only the manager of the system can apply. */
const systemHardening = [
  "ProtectSystem=full",
  "ProtectControlGroups=yes",
  "ProtectKernelModules=yes",
  "ProtectKernelTunables=yes",
];

/** The text of NAME.service. */
export function serviceText(parts: UnitParts): string {
  const { name, sam, words, directory, isUser, user } = parts;
  const needsCapability = user !== undefined && !parts.hasSocket &&
    parts.addresses.some((each) => each.path === undefined && each.port < firstFreePort);
  return lines([
    mark,
    "[Unit]",
    `Description=${specifiers(name)}`,
    ...isUser ? [] : ["Wants=network-online.target", "After=network-online.target"],
    "",
    "[Service]",
    "Type=notify",
    ...parts.notifiesByProgram ? ["NotifyAccess=all"] : [],
    `ExecStart=${commandLine([...sam, "run", ...words])}`,
    // Without a name, it reads the configuration file again. Only a system unit has a directory with no other server.
    `ExecReload=${commandLine([...sam, "reload", ...parts.hasFile && !isUser ? [] : [name]])}`,
    `WorkingDirectory=${specifiers(directory)}`,
    `Environment=${word(`PATH=${parts.path}`)}`,
    ...parts.variables.map(([name, value]) => `Environment=${word(`${name}=${value}`)}`),
    ...user === undefined ? [] : [`User=${user}`],
    ...isUser ? [] : [
      `RuntimeDirectory=sam-${name}`, // for the socket that sam status uses
      `Environment=XDG_RUNTIME_DIR=/run/sam-${name}`,
    ],
    "WatchdogSec=30",
    "Restart=on-failure",
    "KillMode=mixed",
    "SuccessExitStatus=143",
    "TimeoutStopSec=20",
    ...hardening,
    ...isUser ? [] : systemHardening,
    ...needsCapability ? ["AmbientCapabilities=CAP_NET_BIND_SERVICE"] : [],
    "",
    "[Install]",
    `WantedBy=${isUser ? "default.target" : "multi-user.target"}`,
  ]);
}

/** The text of NAME.socket. */
export function socketText({ name, addresses }: UnitParts): string {
  return lines([
    mark,
    "[Unit]",
    `Description=${specifiers(name)}, the socket`,
    "",
    "[Socket]",
    ...addresses.map((address) => `ListenStream=${specifiers(streamOf(address))}`),
    "",
    "[Install]",
    "WantedBy=sockets.target",
  ]);
}

/** An address in the form of `ListenStream=`. */
function streamOf(address: ListenAddress): string {
  if (address.path !== undefined) return address.path;
  const { host, port } = address;
  if (host === null) return String(port);
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

function lines(all: readonly string[]): string {
  return `${all.join("\n")}\n`;
}

/** Hides the % of a text, which begins a specifier. */
function specifiers(text: string): string {
  return text.replaceAll("%", "%%");
}

/** A command line of systemd.service(5). A `$` begins a variable, except in the first word. */
function commandLine(words: readonly string[]): string {
  return words.map((each, at) => word(at === 0 ? each : each.replaceAll("$", "$$$$"))).join(" ");
}

/** A word, in quotes if it needs them. */
function word(text: string): string {
  const escaped = specifiers(text).replace(/[\\"]/g, "\\$&").replaceAll("\n", "\\n");
  return /^[\w@%+=:,./$-]+$/.test(escaped) ? escaped : `"${escaped}"`;
}
