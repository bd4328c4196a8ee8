/** Finds the running servers of this user, and those that a name selects. */
import { SamError } from "../../errors.ts";
import { loadRuntime } from "../../runtime/load.ts";
import type { Clock, Sockets } from "../../runtime/runtime.ts";
import type { Answer, Request } from "../control/protocol.ts";
import { CommandError, exitCodes } from "../command_line/exit.ts";
import type { ServerStatus } from "../control/status.ts";
import { connect, type JsonLineConnection, serverNames } from "../control/control_socket.ts";

/** Time limit for the first answer from any server. */
const answerMs = 10_000;
/** Time limit for the other servers after the first answer, so that a stopped server does not delay the command. */
const othersMs = 2000;

/** A server that has answered. */
export interface Server {
  readonly status: ServerStatus;
  readonly lines: JsonLineConnection;
  /** Sends a request. Resolves to undefined if the server has ended. Rejects with the error that the server answers. */
  ask(request: Request): Promise<Answer | undefined>;
}

/** A running server that has not answered within the time limit, or whose answer is wrong. */
export interface Unreachable {
  readonly name: string;
  readonly error: Error;
}

export interface Found {
  readonly servers: readonly Server[];
  readonly unreachable: readonly Unreachable[];
}

/** A server, and the selected program. `program` is undefined for all programs of the server. */
export interface Target {
  readonly server: Server;
  readonly program: string | undefined;
}

/** Connects to the servers that a name can select, and disconnects after `use`. */
export async function withServers<T>(
  name: string | undefined,
  use: (found: Found) => Promise<T>,
): Promise<T> {
  const runtime = await loadRuntime();
  const found = await find(runtime, name);
  try {
    return await use(found);
  } finally {
    for (const { lines } of found.servers) lines.close();
  }
}

/** Asks the server with this name. If there is none, the name may be that of a program, so all servers are asked. */
async function find(runtime: Clock & Sockets, name: string | undefined): Promise<Found> {
  const names = serverNames();
  const matching = names.filter((each) => each === name || name?.startsWith(`${each}/`));
  const found = await askAll(runtime, matching);
  if (found.servers.length + found.unreachable.length > 0) return found;
  return await askAll(runtime, names.filter((each) => !matching.includes(each)));
}

async function askAll(runtime: Clock & Sockets, names: readonly string[]): Promise<Found> {
  let timeOut = () => {};
  const timeout = new Promise<"timeout">((resolve) => timeOut = () => resolve("timeout"));
  let cancel = runtime.schedule(timeOut, answerMs, true);
  let answered = false;
  const servers: Server[] = [];
  const unreachable: Unreachable[] = [];
  await Promise.all(names.map(async (name) => {
    let lines: JsonLineConnection | undefined;
    try {
      lines = await connect(runtime, name);
      const server = lines && await Promise.race([greet(name, lines), timeout]);
      if (server === undefined) return; // it has ended
      if (server === "timeout") {
        const message = `the SAM server ${name} does not answer. Is its process stopped (Ctrl-Z)?`;
        throw new CommandError("unavailable", message, { code: "TIMEOUT" });
      }
      servers.push(server);
      if (answered) return;
      answered = true;
      cancel();
      cancel = runtime.schedule(timeOut, othersMs, true);
    } catch (error) {
      lines?.close();
      unreachable.push({ name, error: error as Error });
    }
  }));
  cancel();
  const order = (name: string) => names.indexOf(name);
  return {
    servers: servers.sort((a, b) => order(a.status.name) - order(b.status.name)),
    unreachable: unreachable.sort((a, b) => order(a.name) - order(b.name)),
  };
}

/** Asks a server for its status. Resolves to undefined if the server has ended. */
async function greet(name: string, lines: JsonLineConnection): Promise<Server | undefined> {
  const ask = (request: Request) =>
    new Promise<Answer | undefined>((resolve, reject) => {
      lines.receive((value) => {
        if (typeof value !== "object" || value === null) return reject(unknownAnswer(name));
        const { error } = value as Answer;
        if (error) reject(errorOf(error));
        else resolve(value);
      }, () => resolve(undefined));
      lines.send(request);
    });
  const answer = await ask({ ask: "status" });
  if (answer === undefined) return undefined;
  const status = answer.ok as ServerStatus | null | undefined;
  if (!Array.isArray(status?.programs)) throw unknownAnswer(name);
  return { status: { ...status, name }, lines, ask };
}

/** The error that a server has answered, with the exit code that the server chose. */
function errorOf({ code, message, reason }: NonNullable<Answer["error"]>): SamError {
  if (reason === undefined || !Object.hasOwn(exitCodes, reason)) return new SamError(code, message);
  return new CommandError(reason, message, { code });
}

/** Returns the error for an answer that this version of sam does not know. */
export function unknownAnswer(name: string): CommandError {
  return new CommandError(
    "unavailable",
    `the SAM server ${name} sent an unknown answer. It may run a different version of sam.`,
    { code: "MESSAGE_ERROR" },
  );
}

/** Returns the servers or the program that a name selects: `server`, `server/program` or `program`. */
export function targetsOf({ servers }: Found, name: string | undefined): readonly Target[] {
  const named = servers.filter(({ status }) => (name ?? status.name) === status.name);
  if (named.length > 0) return named.map((server) => ({ server, program: undefined }));
  if (name === undefined) return [];
  const slash = name.indexOf("/");
  const [first, program] = slash < 0
    ? [undefined, name]
    : [name.slice(0, slash), name.slice(slash + 1)];
  const found = servers.filter(({ status }) =>
    (first ?? status.name) === status.name &&
    status.programs.some((each) => each.name === program || each.service === program)
  );
  if (found.length <= 1) return found.map((server) => ({ server, program }));
  const names = found.map(({ status }) => `${status.name}/${program}`).join(", ");
  throw new CommandError(
    "usage",
    `several SAM servers have a program ${name}. Name one of them: ${names}.`,
  );
}

/** Returns the servers or the program that a name selects, and throws if it selects nothing. */
export function requireTargets(found: Found, name: string | undefined): readonly Target[] {
  const targets = targetsOf(found, name);
  if (targets.length > 0) return targets;
  const [first] = found.unreachable;
  if (first) throw first.error;
  if (name === undefined) {
    throw new CommandError(
      "unavailable",
      "no sam is running for this user. Start one with sam run PROGRAM.",
    );
  }
  const names = found.servers.map(({ status }) => status.name).join(", ");
  throw new CommandError(
    "unavailable",
    `no running SAM server or program is named ${name}${
      names && `. Running SAM servers: ${names}.`
    }`,
  );
}
