/** The servers of this user as a client sees them: those that answer, those that do not, and those that a name selects. */
import { SamError } from "../../errors.ts";
import { loadRuntime } from "../../runtime/load.ts";
import type { Clock, Sockets } from "../../runtime/runtime.ts";
import type { Answer, Request } from "../control/protocol.ts";
import { CommandError } from "../command_line/exit.ts";
import type { ServerStatus } from "../control/status.ts";
import { connect, type Lines, serverNames } from "../control/control_socket.ts";

/** Time limit for the first answer of any server. */
const answerMs = 10_000;
/** Time limit for the other servers once one has answered, so that a stopped server does not hold up the command. */
const othersMs = 2000;

/** A server that answers. */
export interface Server {
  readonly status: ServerStatus;
  readonly lines: Lines;
  /** Resolves to undefined if the server has ended; rejects with the error of the server. */
  ask(request: Request): Promise<Answer | undefined>;
}

/** A server that runs and does not answer. */
export interface Silent {
  readonly name: string;
  readonly error: Error;
}

/** The servers that were asked. */
export interface Found {
  readonly servers: readonly Server[];
  readonly silent: readonly Silent[];
}

/** A server, and the selected program; undefined for all its programs. */
export interface Target {
  readonly server: Server;
  readonly program: string | undefined;
}

/** Connects to the servers that a name may select, and disconnects after `use`. */
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

/** Asks the server of that name, or all servers if there is none. */
async function find(runtime: Clock & Sockets, name: string | undefined): Promise<Found> {
  const names = serverNames();
  const own = names.filter((each) => each === name || name?.startsWith(`${each}/`));
  const found = await askAll(runtime, own);
  if (found.servers.length + found.silent.length > 0) return found;
  return await askAll(runtime, names.filter((each) => !own.includes(each)));
}

async function askAll(runtime: Clock & Sockets, names: readonly string[]): Promise<Found> {
  let giveUp = () => {};
  const late = new Promise<"late">((resolve) => giveUp = () => resolve("late"));
  let cancel = runtime.schedule(giveUp, answerMs, true);
  let answered = false;
  const servers: Server[] = [];
  const silent: Silent[] = [];
  await Promise.all(names.map(async (name) => {
    let lines: Lines | undefined;
    try {
      lines = await connect(runtime, name);
      const server = lines && await Promise.race([greet(name, lines), late]);
      if (server === undefined) return; // it has ended
      if (server === "late") {
        const message = `the server ${name} does not answer; is it stopped?`;
        throw new CommandError("unavailable", message, { code: "TIMEOUT" });
      }
      servers.push(server);
      if (answered) return;
      answered = true;
      cancel();
      cancel = runtime.schedule(giveUp, othersMs, true);
    } catch (error) {
      lines?.close();
      silent.push({ name, error: error as Error });
    }
  }));
  cancel();
  const order = (name: string) => names.indexOf(name);
  return {
    servers: servers.sort((a, b) => order(a.status.name) - order(b.status.name)),
    silent: silent.sort((a, b) => order(a.name) - order(b.name)),
  };
}

/** Asks a server for its status; undefined if it has ended. */
async function greet(name: string, lines: Lines): Promise<Server | undefined> {
  const ask = (request: Request) =>
    new Promise<Answer | undefined>((resolve, reject) => {
      lines.receive((value) => {
        if (typeof value !== "object" || value === null) return reject(unknownAnswer(name));
        const { error } = value as Answer;
        if (error) reject(new SamError(error.code, error.message));
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

/** The error for an answer that a sam of this version would not give. */
export function unknownAnswer(name: string): CommandError {
  return new CommandError(
    "unavailable",
    `the server ${name} does not answer as a sam does; is it one of another version?`,
    { code: "MESSAGE_ERROR" },
  );
}

/** The servers or the program that a name selects: `server`, `server/program` or `program`. */
export function targetsOf({ servers }: Found, name: string | undefined): readonly Target[] {
  const named = servers.filter(({ status }) => (name ?? status.name) === status.name);
  if (named.length > 0) return named.map((server) => ({ server, program: undefined }));
  if (name === undefined) return [];
  const slash = name.indexOf("/");
  const [first, program] = slash < 0
    ? [undefined, name]
    : [name.slice(0, slash), name.slice(slash + 1)];
  const found = servers.filter(({ status }) =>
    (first ?? status.name) === status.name && status.programs.some((each) => each.name === program)
  );
  if (found.length <= 1) return found.map((server) => ({ server, program }));
  const names = found.map(({ status }) => `${status.name}/${program}`).join(", ");
  throw new CommandError("usage", `${name} is in several servers: say ${names}`);
}

/** Like `targetsOf`, but throws if the name selects nothing. */
export function requireTargets(found: Found, name: string | undefined): readonly Target[] {
  const targets = targetsOf(found, name);
  if (targets.length > 0) return targets;
  const [silent] = found.silent;
  if (silent) throw silent.error;
  if (name === undefined) {
    throw new CommandError("unavailable", "no sam runs for this user: sam run PROGRAM starts one");
  }
  const names = found.servers.map(({ status }) => status.name).join(", ");
  throw new CommandError(
    "unavailable",
    `nothing that runs is named ${name}${names && `; there are ${names}`}`,
  );
}
