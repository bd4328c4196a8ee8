/** The servers of this user, as those see them who ask: who answers, who does not, and which of them a name means. */
import { SamError } from "../../errors.ts";
import { loadRuntime, type Runtime } from "../../runtime/runtime.ts";
import type { Answer, Request } from "../control/protocol.ts";
import { CommandError } from "../command_line/exit.ts";
import type { ServerStatus } from "../control/status.ts";
import { connect, type Lines, serverNames } from "../control/control_socket.ts";

/** So long servers have for their first answer; … */
const answerMs = 10_000;
/** … once one of them has answered, the others have so long: one that is stopped is not to hold up all. */
const othersMs = 2000;

/** A server that answers. */
export interface Server {
  readonly status: ServerStatus;
  readonly lines: Lines;
  /** Undefined: it has ended. Rejects with what the server says. */
  ask(request: Request): Promise<Answer | undefined>;
}

/** A server that lives, and does not answer. */
export interface Silent {
  readonly name: string;
  readonly error: Error;
}

/** The servers that were asked. */
export interface Found {
  readonly servers: readonly Server[];
  readonly silent: readonly Silent[];
}

/** A server, and the one program that is meant; undefined for all of them. */
export interface Target {
  readonly server: Server;
  readonly program: string | undefined;
}

/** Connects to the servers that a name may mean, and lets go of them again. */
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

/** A server of that name, where one lives: then no other is waited for. */
async function find(runtime: Runtime, name: string | undefined): Promise<Found> {
  const names = serverNames();
  const own = names.filter((each) => each === name || name?.startsWith(`${each}/`));
  const found = await askAll(runtime, own);
  if (found.servers.length + found.silent.length > 0) return found;
  return await askAll(runtime, names.filter((each) => !own.includes(each)));
}

async function askAll(runtime: Runtime, names: readonly string[]): Promise<Found> {
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

/** Asks a server how it is; undefined where it has ended. */
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

/** What listens at a socket, and is no server of ours. */
export function unknownAnswer(name: string): CommandError {
  return new CommandError(
    "unavailable",
    `the server ${name} does not answer as a sam does; is it one of another version?`,
    { code: "MESSAGE_ERROR" },
  );
}

/** The servers, or the one, or the one program, that a name means: `server`, `server/program` or `program`. */
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

/** The same, where there must be one. */
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
