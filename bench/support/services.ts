// The ways to keep a web server running: this library, and its alternatives.
import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runtimePath } from "../../test/support/runtimes.ts";
import { addressOf } from "./clients.ts";
import { type BenchRuntime, commandLine, root, Running } from "./host.ts";

/** The interface with which the web server listens. */
export type ServerKind = "node:http" | "node:net" | "serve";

/** The releases of the web server. */
export const releases = {
  good: "good",
  exits: "exits at once",
  neverReady: "never ready",
  fails: "fails after 2 s",
} as const;

/** The web server to keep running. */
export interface Web {
  readonly runtime: BenchRuntime;
  readonly server: ServerKind;
  /** True if the program ends in an orderly way at a signal. Otherwise it has no handler for signals. */
  readonly drains: boolean;
  readonly port: number;
  /** A directory that is removed afterwards. */
  readonly directory: string;
}

/** A service that runs. */
export interface Service {
  readonly running: Running;
  /** Asks for a restart or a reload, and waits for its end. Left out where the service has none. */
  command?(name: "restart" | "reload"): Promise<void>;
  /** True if the service has replaced an instance on its own. */
  hasReplaced?(): boolean;
}

/** Starts a service. */
export type Starter = (web: Web) => Service;

/** Makes the directory of a service, and its first release. */
export function newDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "bench-web-"));
  writeRelease(directory, releases.good);
  return directory;
}

/** Puts a release in the place from which the next instances start. */
export function writeRelease(directory: string, release: string): void {
  writeFileSync(join(directory, "release"), release);
}

/** The command line of the web server alone. */
export function webCommand(web: Web, more: { readonly fd?: number } = {}): [string, string[]] {
  const [file, words] = commandLine(web.runtime, "web");
  return [file, [...words, settingsOf(web, more)]];
}

function settingsOf({ server, drains, port, directory }: Web, more: object = {}): string {
  return JSON.stringify({ server, drains, port, release: join(directory, "release"), ...more });
}

/** The command line of `sam` on a runtime. */
function samCommand(runtime: BenchRuntime): [string, ...string[]] {
  const file = runtimePath(runtime);
  if (runtime !== "deno") return [file, `${root}dist/cli.js`];
  const config = `--config=${root}.build/deno/deno.json`;
  return [file, "run", "-A", "--no-check", config, `${root}src/cli/main.ts`];
}

/** True if `sam run` has a flag. */
export function hasFlag(flag: string): boolean {
  const [file, ...words] = samCommand("node26");
  return execFileSync(file, [...words, "run", "--help-all"], { encoding: "utf8" }).includes(flag);
}

/** `sam run`, with the flags that a scenario needs. */
export function sam(flags: readonly string[], instances?: number): Starter {
  return (web) => {
    const [file, ...words] = samCommand(web.runtime);
    const [, program] = commandLine(web.runtime, "web");
    const env = { XDG_RUNTIME_DIR: web.directory };
    const running = new Running(file, [
      ...words,
      "run",
      "--name=bench",
      "--log=json",
      `--runtime=${web.runtime === "node26" ? "node" : web.runtime}`,
      ...(web.runtime === "deno" ? ["--runtime-flag=-A"] : []),
      ...(instances === undefined ? [] : [`--listen=${web.port}`, `--instances=${instances}`]),
      ...flags,
      program.at(-1)!,
      settingsOf(web),
    ], env);
    return {
      running,
      async command(name) {
        const command = new Running(file, [...words, name, "bench"], env);
        await command.ended;
      },
      hasReplaced: () => running.stderr.includes('"type":"reloaded"'),
    };
  };
}

/** PM2 with two workers. */
export function pm2(web: Web): Service {
  const [node, [program, settings]] = webCommand(web) as [string, [string, string]];
  const script = `${root}bench/peers/pm2.mjs`;
  const running = new Running(node, [script, "serve", program, settings], {}, "TERM");
  let commands = 0;
  return {
    running,
    async command(name) {
      running.write(name);
      await running.line("done", ++commands);
    },
  };
}

/** `node:cluster` with two workers, and a new `fork()` on each 'exit' event. */
export function cluster(web: Web): Service {
  const [node, words] = webCommand(web);
  return { running: new Running(node, [`${root}bench/peers/cluster.mjs`, "serve", ...words]) };
}

/** Starts the program again whenever it has ended. It ends with the shell, however that ends. */
const loop = 'while :; do setpriv --pdeathsig=KILL "$0" "$@"; done';

/** A loop in a shell. */
export function shellLoop(web: Web): Service {
  const [file, words] = webCommand(web);
  return { running: new Running("sh", ["-c", loop, file, ...words]) };
}

/** True if this machine has systemd-socket-activate. */
export const hasSocketActivate: boolean = existsSync("/usr/bin/systemd-socket-activate");

/** A loop in a shell, behind a socket that systemd's `systemd-socket-activate` has opened. */
export function socketActivated(web: Web): Service {
  const [file, words] = webCommand(web, { fd: 3 }); // the first descriptor of systemd's protocol
  const own = [`--listen=${web.port}`, "sh", "-c", loop, file, ...words];
  return { running: new Running("systemd-socket-activate", own) };
}

/**
 * Returns the addresses of the clients whose connections a process has accepted on a port, and not closed. The process must not
 * accept any more after `freeze`.
 */
export function acceptedBy(pid: number, port: number, freeze: () => void = () => {}): string[] {
  const before = socketsOf(pid);
  const clients = clientsOf(port); // this takes long, so it comes before `freeze`
  freeze();
  return [...socketsOf(pid)].flatMap((socket) => {
    const client = clients.get(socket);
    if (client !== undefined) return [client];
    return before.has(socket) ? [] : [addressOf.new]; // accepted meanwhile
  });
}

/** The sockets of a process, as in the targets of its descriptors. */
function socketsOf(pid: number): Set<string> {
  const targets = readdirSync(`/proc/${pid}/fd`).map((descriptor) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${descriptor}`);
    } catch {
      return ""; // The descriptor was closed meanwhile.
    }
  });
  return new Set(targets.filter((target) => target.startsWith("socket:")));
}

/** The addresses of the clients that are connected to a port, by the socket. */
function clientsOf(port: number): ReadonlyMap<string, string> {
  const end = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const found = new Map<string, string>();
  for (const table of ["tcp", "tcp6"]) {
    for (const line of readFileSync(`/proc/net/${table}`, "utf8").split("\n").slice(1)) {
      const [, local, remote, state, , , , , , inode] = line.trim().split(/\s+/);
      if (!local?.endsWith(end) || state !== established) continue;
      found.set(`socket:[${inode}]`, addressFrom(remote!));
    }
  }
  return found;
}

/** The state of an open connection in /proc/net/tcp. */
const established = "01";

/** Converts the address of a client, the last four bytes in /proc/net/tcp, from hexadecimal digits. */
function addressFrom(remote: string): string {
  const digits = remote.split(":")[0]!.slice(-8);
  return [6, 4, 2, 0].map((at) => parseInt(digits.slice(at, at + 2), 16)).join(".");
}
