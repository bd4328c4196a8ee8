/** `sam status`, `events`, `restart`, `stop`, `signal`: they ask the servers of this user over their control sockets. */
import { isSignal } from "../../core/signals.ts";
import type { SupervisorEvent } from "../../api/events.ts";
import * as host from "../host/host.ts";
import { loadRuntime } from "../../runtime/load.ts";
import { printable, report, stateText } from "../../supervisor/report.ts";
import type { Answer, Request } from "../control/protocol.ts";
import { CommandError } from "../command_line/exit.ts";
import { parseText } from "../command_line/flags.ts";
import type { ServerStatus } from "../control/status.ts";
import {
  requireTargets,
  type Silent,
  type Target,
  targetsOf,
  unknownAnswer,
  withServers,
} from "./servers.ts";
import { nameOf, table } from "./table.ts";
import { remoteOptions } from "../command_line/commands.ts";
import { parseWords } from "../command_line/words.ts";

const watchMs = 500;

function parseCommand(command: keyof typeof remoteOptions, words: readonly string[], most: number) {
  const { given, operands } = parseWords(words, remoteOptions[command], false);
  if (operands.length > most) {
    throw new CommandError("usage", `sam ${command} takes no "${operands[most]}"; see sam --help`);
  }
  const is = (flag: string) => {
    const said = given.findLast(([name]) => name === flag)?.[1];
    return said !== undefined && parseText(flag, "switch", said) === true;
  };
  return { operands, is };
}

/** `sam status`. */
export async function status(words: readonly string[]): Promise<number> {
  const { operands, is } = parseCommand("status", words, 1);
  const [name] = operands;
  if (is("--watch")) return await watch(name, is("--json"));
  const { stdout } = host;
  const { servers, silent } = await askStatus(name, requireTargets);
  stdout.write(is("--json") ? `${JSON.stringify(servers, null, 2)}\n` : table(servers, stdout));
  host.stderr.write(describeSilent(silent));
  return 0;
}

/** The status of the servers that a name selects, and the servers that do not answer. */
function askStatus(name: string | undefined, which: typeof targetsOf) {
  return withServers(
    name,
    (found) =>
      Promise.resolve({ servers: which(found, name).map(selectProgram), silent: found.silent }),
  );
}

/** A line for each server that does not answer. */
function describeSilent(silent: readonly Silent[]): string {
  return silent.map(({ error }) => `sam: ${error.message}\n`).join("");
}

/** The status of a server, reduced to the selected program. */
function selectProgram({ server: { status }, program }: Target): ServerStatus {
  const programs = status.programs.filter(({ name }) => (program ?? name) === name);
  return { ...status, programs };
}

/** Redraws the table in place on a terminal, and otherwise prints what changes, until no server is left. */
async function watch(name: string | undefined, json: boolean): Promise<number> {
  const { stdout } = host;
  const runtime = await loadRuntime();
  let lines = 0;
  let shown: Facts = new Map();
  let lastComplaint = "";
  for (let which = requireTargets;; which = targetsOf) {
    const { servers, silent } = await askStatus(name, which);
    if (json || !stdout.isTerminal) {
      const text = describeSilent(silent);
      if (text !== lastComplaint) host.stderr.write(text);
      lastComplaint = text;
    }
    if (json) stdout.write(`${JSON.stringify(servers)}\n`);
    else if (stdout.isTerminal) {
      const complaints = describeSilent(silent).replaceAll(
        /^.*/gm,
        (line) => line.slice(0, stdout.columns - 1),
      );
      const text = fit(table(servers, stdout) + complaints, stdout.rows - 1);
      stdout.write(`${lines > 0 ? `\x1b[${lines}A` : ""}\x1b[J${text}`);
      lines = text.split("\n").length - 1;
    } else {
      // A server that does not answer has not ended.
      const now = new Map([...(silent.length > 0 ? shown : []), ...factsOf(servers)]);
      stdout.write(formatChanges(shown, now));
      shown = now;
    }
    if (servers.length === 0 && silent.length === 0) return 0;
    await new Promise<void>((resolve) => runtime.schedule(resolve, watchMs, true));
  }
}

/** The facts about each program, by its name. */
type Facts = ReadonlyMap<string, readonly string[]>;

function factsOf(servers: readonly ServerStatus[]): Facts {
  return new Map(servers.flatMap((server) =>
    server.programs.map((program) => {
      const { pid, restarts, lastRecovery: last } = program;
      return [nameOf(server, program, true), [
        printable(stateText(program)),
        pid === null ? "no process" : `pid ${pid}`,
        `restarts ${restarts}`,
        last ? `last failure: ${last.reason} of instance ${last.instanceId}` : "",
      ]];
    })
  ));
}

/** A line for each program that has changed, with the time and the facts that are new. */
function formatChanges(before: Facts, now: Facts): string {
  const at = new Date().toISOString();
  return [...new Set([...before.keys(), ...now.keys()])].map((name) => {
    const facts = now.get(name) ?? ["no longer supervised"];
    const fresh = facts.filter((fact, index) => fact !== (before.get(name)?.[index] ?? ""));
    return fresh.length > 0 ? `${at} ${name}: ${fresh.join(", ")}\n` : "";
  }).join("");
}

/** The first lines of a text, and the number of the others. Lines that scroll away could not be redrawn. */
function fit(text: string, most: number): string {
  const lines = text.split("\n").slice(0, -1);
  if (lines.length <= most) return text;
  return [...lines.slice(0, most - 1), `… ${lines.length - most + 1} more`, ""].join("\n");
}

/** `sam events`. */
export async function events(words: readonly string[]): Promise<number> {
  const { operands: [name], is } = parseCommand("events", words, 1);
  return await withServers(name, async (found) => {
    const targets = requireTargets(found, name);
    host.stderr.write(describeSilent(found.silent));
    const several = targets.length > 1;
    const reading = targets.map((target) =>
      readEvents(target, is("--follow"), (event) => {
        if (is("--json")) return host.stdout.write(`${JSON.stringify(event)}\n`);
        const at = new Date(event.at).toISOString();
        const who = several || target.server.status.programs.length > 1 ? `${event.program}: ` : "";
        host.stdout.write(`${printable(`${at} ${who}${report(event)[0] ?? describe(event)}`)}\n`);
      })
    );
    // When one server ends, the events of the others go on.
    const failed = (await Promise.allSettled(reading)).find(({ status }) => status === "rejected");
    if (failed) throw (failed as PromiseRejectedResult).reason;
    return 0;
  });
}

type ProgramEvent = SupervisorEvent & { readonly program: string };

/** Shows the events of a server. Resolved when the server says that no more events come. */
function readEvents(
  { server: { lines, status }, program }: Target,
  follow: boolean,
  show: (event: ProgramEvent) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    lines.receive((value) => {
      const event = (value ?? {}) as ProgramEvent & Answer;
      if (event.ok !== undefined) {
        resolve();
        lines.close(); // the server waits for that
      } else if (typeof event.at !== "number") {
        reject(unknownAnswer(status.name));
        lines.close();
      } else if ((program ?? event.program) === event.program) show(event);
    }, () =>
      reject(
        new CommandError(
          "unavailable",
          `the server ${status.name} has let go before its last event: it was killed, or nobody read`,
          { code: "LIBRARY" },
        ),
      ));
    lines.send({ ask: "events", follow } satisfies Request);
  });
}

/** A line for an event that is not in the report. */
function describe(event: SupervisorEvent): string {
  const { type, at: _at, instanceId, ...rest } = event;
  if (event.type === "check") {
    const found = event.healthy ? "passed its check" : `failed a check: ${event.detail}`;
    return `instance ${instanceId} ${found}`;
  }
  const { program: _program, ...facts } = rest as Record<string, unknown>;
  const said = Object.entries(facts).filter(([, value]) =>
    value !== null && typeof value !== "object"
  )
    .map(([key, value]) => `${key} ${value}`);
  return [`instance ${instanceId}: ${type}`, ...said].join(" ");
}

/** `sam restart NAME`. */
export function restart(words: readonly string[]): Promise<number> {
  const { operands } = parseCommand("restart", words, 1);
  return ask(
    "restart",
    operands[0],
    (program) => ({ ask: "restart", ...(program !== undefined && { program }) }),
  );
}

/** `sam stop NAME`. */
export function stop(words: readonly string[]): Promise<number> {
  const { operands } = parseCommand("stop", words, 1);
  return ask(
    "stop",
    operands[0],
    (program) => ({ ask: "stop", ...(program !== undefined && { program }) }),
  );
}

/** `sam signal SIGNAL NAME`. */
export function signal(words: readonly string[]): Promise<number> {
  const { operands: [given, name] } = parseCommand("signal", words, 2);
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

/** Sends a request to the one server that a name selects. Only for `stop`, the end of the server is an answer. */
async function ask(
  command: string,
  name: string | undefined,
  request: (program: string | undefined) => Request,
): Promise<number> {
  return await withServers(name, async (found) => {
    const [target, ...more] = requireTargets(found, name);
    const { server, program } = target!;
    if (name === undefined && more.length + found.silent.length > 0) {
      const names = [...found.servers.map(({ status }) => status), ...found.silent]
        .map((each) => each.name).sort().join(", ");
      throw new CommandError("usage", `sam ${command} needs a name: there are ${names}`);
    }
    const answer = await server.ask(request(program));
    if (answer === undefined && command !== "stop") {
      throw new CommandError(
        "unavailable",
        `the server ${server.status.name} has ended before it answered`,
        { code: "LIBRARY" },
      );
    }
    return 0;
  });
}
