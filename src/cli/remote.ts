/** `sam status`, `events`, `restart`, `stop`, `signal`: they ask the servers of this user over their control sockets. */
import { isSignal } from "../core/signals.ts";
import { SamError } from "../errors.ts";
import type { SupervisorEvent } from "../events.ts";
import * as host from "../runtime/host.ts";
import { loadRuntime, type Runtime } from "../runtime/runtime.ts";
import { report } from "../report.ts";
import type { Answer, Request } from "./control.ts";
import type { ServerStatus } from "./journal.ts";
import { CommandError } from "./exit.ts";
import { connect, type Lines, serverNames } from "./socket.ts";
import { table } from "./table.ts";
import { type Option, parseWords } from "./words.ts";

const watchMs = 500;
const answerMs = 10_000;

/** The options of each command. */
export const remoteOptions: Readonly<
  Record<"status" | "events" | "restart" | "stop" | "signal", readonly Option[]>
> = {
  status: [{ flag: "--json", takesValue: false }, {
    flag: "--watch",
    short: "-w",
    takesValue: false,
  }],
  events: [{ flag: "--json", takesValue: false }, {
    flag: "--follow",
    short: "-f",
    takesValue: false,
  }],
  restart: [],
  stop: [],
  signal: [],
};

function parsed(command: keyof typeof remoteOptions, words: readonly string[], most: number) {
  const { given, operands } = parseWords(words, remoteOptions[command], false);
  if (operands.length > most) {
    throw new CommandError("usage", `sam ${command} takes no "${operands[most]}"; see sam --help`);
  }
  const is = (flag: string) => given.some(([name, value]) => name === flag && value !== "false");
  return { operands, is };
}

/** A server that answers. */
interface Server {
  readonly status: ServerStatus;
  readonly lines: Lines;
  ask(request: Request): Promise<unknown>;
}

/** A server, and the one program that is meant; undefined for all of them. */
interface Target {
  readonly server: Server;
  readonly program: string | undefined;
}

/** `sam status`. */
export async function status(words: readonly string[]): Promise<number> {
  const { operands, is } = parsed("status", words, 1);
  const [name] = operands;
  if (is("--watch")) return await watch(name, is("--json"));
  const { stdout } = host;
  const servers = await withServers((servers) => {
    const targets = meant(servers, name);
    return Promise.resolve(targets.map(shown));
  });
  stdout.write(is("--json") ? `${JSON.stringify(servers, null, 2)}\n` : table(servers, stdout));
  return 0;
}

/** The status of a server, with the one program that is meant. */
function shown({ server: { status }, program }: Target): ServerStatus {
  const programs = status.programs.filter(({ name }) => (program ?? name) === name);
  return { ...status, programs };
}

/** Shows the table again and again: in place on a terminal, else a line for each change; until no server is left. */
async function watch(name: string | undefined, json: boolean): Promise<number> {
  const { stdout } = host;
  const runtime = await loadRuntime();
  let lines = 0;
  let told = "";
  for (let first = true;; first = false) {
    const servers = await withServers((servers) =>
      Promise.resolve(servers.length === 0 && !first ? [] : meant(servers, name).map(shown))
    ).catch((error) => {
      if (first) throw error;
      return [];
    });
    if (json) stdout.write(`${JSON.stringify(servers)}\n`);
    else if (stdout.isTerminal) {
      const text = fitting(table(servers, stdout), stdout.rows - 1);
      stdout.write(`${lines > 0 ? `\x1b[${lines}A` : ""}\x1b[J${text}`);
      lines = text.split("\n").length - 1;
    } else {
      const text = servers.flatMap(({ programs }) =>
        programs.map((program) =>
          `${program.name} ${program.state} pid ${program.pid ?? "-"} restarts ${program.restarts}${
            program.lastRecovery ? ` last ${program.lastRecovery.reason}` : ""
          }\n`
        )
      ).join("");
      if (text !== told) stdout.write(text);
      told = text;
    }
    if (servers.length === 0) return 0;
    await new Promise<void>((resolve) => runtime.schedule(resolve, watchMs, true));
  }
}

/** The first lines of a text, and how many more there are: what scrolls away cannot be drawn over. */
function fitting(text: string, most: number): string {
  const lines = text.split("\n").slice(0, -1);
  if (lines.length <= most) return text;
  return [...lines.slice(0, most - 1), `… ${lines.length - most + 1} more`, ""].join("\n");
}

/** `sam events`. */
export async function events(words: readonly string[]): Promise<number> {
  const { operands, is } = parsed("events", words, 1);
  return await withServers(async (servers) => {
    const targets = meant(servers, operands[0]);
    const show = (several: boolean, wanted: string | undefined) => (value: unknown) => {
      const event = value as SupervisorEvent & { readonly program: string };
      if (wanted !== undefined && event.program !== wanted) return;
      if (is("--json")) return host.stdout.write(`${JSON.stringify(event)}\n`);
      const at = new Date(event.at).toISOString();
      const who = several ? `${event.program}: ` : "";
      host.stdout.write(`${at} ${who}${report(event)[0] ?? brief(event)}\n`);
    };
    await Promise.all(
      targets.map(({ server: { lines, status }, program }) =>
        new Promise<void>((resolve) => {
          const several = targets.length > 1 || status.programs.length > 1;
          lines.receive(show(several, program), resolve);
          lines.send({ ask: "events", follow: is("--follow") } satisfies Request);
        })
      ),
    );
    return 0;
  });
}

/** An event that has no sentence of its own. */
function brief({ type, at: _at, instanceId, ...rest }: SupervisorEvent): string {
  const { program: _program, ...facts } = rest as Record<string, unknown>;
  const said = Object.entries(facts).filter(([, value]) =>
    value !== null && typeof value !== "object"
  )
    .map(([key, value]) => `${key} ${value}`);
  return [`instance ${instanceId}: ${type}`, ...said].join(" ");
}

/** `sam restart NAME`. */
export function restart(words: readonly string[]): Promise<number> {
  const { operands } = parsed("restart", words, 1);
  return ask(
    "restart",
    operands[0],
    (program) => ({ ask: "restart", ...(program !== undefined && { program }) }),
  );
}

/** `sam stop NAME`. */
export function stop(words: readonly string[]): Promise<number> {
  const { operands } = parsed("stop", words, 1);
  return ask(
    "stop",
    operands[0],
    (program) => ({ ask: "stop", ...(program !== undefined && { program }) }),
  );
}

/** `sam signal SIGNAL NAME`. */
export function signal(words: readonly string[]): Promise<number> {
  const { operands: [given, name] } = parsed("signal", words, 2);
  const signal = given?.toUpperCase().replace(/^(SIG)?/, "SIG");
  if (!isSignal(signal)) {
    const was = given === undefined ? "" : `, and not "${given}"`;
    throw new CommandError("usage", `sam signal needs a signal, like HUP${was}`);
  }
  return ask(
    "signal",
    name,
    (program) => ({ ask: "signal", signal, ...(program !== undefined && { program }) }),
  );
}

/** Asks the one server that is meant. */
async function ask(
  command: string,
  name: string | undefined,
  request: (program: string | undefined) => Request,
): Promise<number> {
  return await withServers(async (servers) => {
    const targets = meant(servers, name);
    if (targets.length > 1) {
      const names = targets.map(({ server }) => server.status.name).join(", ");
      throw new CommandError("usage", `sam ${command} needs a name: there are ${names}`);
    }
    await targets[0]!.server.ask(request(targets[0]!.program));
    return 0;
  });
}

/** Connects to all servers, and lets go of them again. */
async function withServers<T>(use: (servers: readonly Server[]) => Promise<T>): Promise<T> {
  const runtime = await loadRuntime();
  const found = await Promise.all(serverNames().map((name) => serverOf(runtime, name)));
  const servers = found.filter((server) => server !== undefined);
  try {
    return await use(servers);
  } finally {
    for (const { lines } of servers) lines.close();
  }
}

/** A server that answers within its time; undefined for one that has ended. */
async function serverOf(runtime: Runtime, name: string): Promise<Server | undefined> {
  const lines = await connect(runtime, name);
  if (lines === undefined) return undefined;
  const ask = (request: Request): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const late = () =>
        reject(
          new CommandError("unavailable", `the server ${name} does not answer; is it stopped?`, {
            code: "TIMEOUT",
          }),
        );
      const cancel = request.ask === "status" ? runtime.schedule(late, answerMs, true) : () => {}; // an orderly stop takes its time
      lines.receive((value) => {
        cancel();
        const { error, ok } = value as Answer;
        if (error) reject(new SamError(error.code, error.message));
        else resolve(ok);
      }, () => {
        cancel();
        resolve(undefined); // it has ended
      });
      lines.send(request);
    });
  const status = await ask({ ask: "status" }) as ServerStatus | undefined;
  return status && { status, lines, ask };
}

/** The servers, or the one, or the one program, that a name means: `server`, `server/program` or `program`. */
function meant(servers: readonly Server[], name: string | undefined): readonly Target[] {
  if (name === undefined) {
    if (servers.length === 0) {
      throw new CommandError(
        "unavailable",
        "no sam runs for this user: sam run PROGRAM starts one",
      );
    }
    return servers.map((server) => ({ server, program: undefined }));
  }
  const server = servers.find(({ status }) => status.name === name);
  if (server) return [{ server, program: undefined }];
  const slash = name.indexOf("/");
  const [first, program] = slash < 0
    ? [undefined, name]
    : [name.slice(0, slash), name.slice(slash + 1)];
  const found = servers.filter(({ status }) =>
    (first ?? status.name) === status.name && status.programs.some((each) => each.name === program)
  );
  if (found.length === 1) return [{ server: found[0]!, program }];
  if (found.length > 1) {
    const names = found.map(({ status }) => `${status.name}/${program}`).join(", ");
    throw new CommandError("usage", `${name} is in several servers: say ${names}`);
  }
  const names = servers.map(({ status }) => status.name).join(", ");
  throw new CommandError(
    "unavailable",
    `nothing that runs is named ${name}${names && `; there are ${names}`}`,
  );
}
