/** `sam status`, `events`, `restart`, `reload`, `stop` and `signal`: send requests to the running servers over their control sockets. */
import { isSignal } from "../../core/signals.ts";
import type { SupervisorEvent } from "../../api/events.ts";
import * as host from "../host/host.ts";
import { loadRuntime } from "../../runtime/load.ts";
import { printable, report, stateText } from "../../supervisor/report.ts";
import type { Answer, ReloadAnswer, Request } from "../control/protocol.ts";
import { CommandError } from "../command_line/exit.ts";
import { parseText } from "../command_line/flags.ts";
import type { ServerStatus } from "../control/status.ts";
import {
  requireTargets,
  type Target,
  targetsOf,
  unknownAnswer,
  type Unreachable,
  withServers,
} from "./servers.ts";
import { nameOf, table } from "./table.ts";
import { remoteOptions } from "../command_line/commands.ts";
import { parseWords } from "../command_line/words.ts";

const watchMs = 500;

function parseCommand(
  command: keyof typeof remoteOptions,
  words: readonly string[],
  maxOperands: number,
) {
  const { given, operands } = parseWords(words, remoteOptions[command], false);
  if (operands.length > maxOperands) {
    throw new CommandError(
      "usage",
      `unexpected argument "${operands[maxOperands]}" for sam ${command}. See sam --help.`,
    );
  }
  const is = (flag: string) => {
    const text = given.findLast(([name]) => name === flag)?.[1];
    return text !== undefined && parseText(flag, "switch", text) === true;
  };
  return { operands, is };
}

/** `sam status`. */
export async function status(words: readonly string[]): Promise<number> {
  const { operands, is } = parseCommand("status", words, 1);
  const [name] = operands;
  if (is("--watch")) return await watch(name, is("--json"));
  const { stdout } = host;
  const { servers, unreachable } = await askStatus(name, requireTargets);
  stdout.write(is("--json") ? `${JSON.stringify(servers, null, 2)}\n` : table(servers, stdout));
  host.stderr.write(describeUnreachable(unreachable));
  return 0;
}

/** Returns the status of the selected servers, and the servers that do not answer. */
function askStatus(name: string | undefined, select: typeof targetsOf) {
  return withServers(
    name,
    (found) =>
      Promise.resolve({
        servers: select(found, name).map(selectProgram),
        unreachable: found.unreachable,
      }),
  );
}

function describeUnreachable(servers: readonly Unreachable[]): string {
  return servers.map(({ error }) => `sam: ${error.message}\n`).join("");
}

/** Returns the status of a server without the programs that are not selected. */
function selectProgram({ server: { status }, program }: Target): ServerStatus {
  const programs = status.programs.filter(({ name, service }) =>
    program === undefined || program === name || program === service
  );
  return { ...status, programs };
}

/** Redraws the table in place on a terminal, and otherwise prints changes. Resolves when no selected server is left. */
async function watch(name: string | undefined, json: boolean): Promise<number> {
  const { stdout } = host;
  const runtime = await loadRuntime();
  let lines = 0;
  let shown: Facts = new Map();
  let lastComplaint = "";
  for (let select = requireTargets;; select = targetsOf) {
    const { servers, unreachable } = await askStatus(name, select);
    if (json || !stdout.isTerminal) {
      const text = describeUnreachable(unreachable);
      if (text !== lastComplaint) host.stderr.write(text);
      lastComplaint = text;
    }
    if (json) stdout.write(`${JSON.stringify(servers)}\n`);
    else if (stdout.isTerminal) {
      const complaints = describeUnreachable(unreachable).replaceAll(
        /^.*/gm,
        (line) => line.slice(0, stdout.columns - 1),
      );
      const text = fit(table(servers, stdout) + complaints, stdout.rows - 1);
      stdout.write(`${lines > 0 ? `\x1b[${lines}A` : ""}\x1b[J${text}`);
      lines = text.split("\n").length - 1;
    } else {
      // A server that does not answer has not ended, so its programs keep their last known facts.
      const now = new Map([...(unreachable.length > 0 ? shown : []), ...factsOf(servers)]);
      stdout.write(formatChanges(shown, now));
      shown = now;
    }
    if (servers.length === 0 && unreachable.length === 0) return 0;
    await new Promise<void>((resolve) => runtime.schedule(resolve, watchMs, true));
  }
}

/** The facts about each program, by the name of the program. */
type Facts = ReadonlyMap<string, readonly string[]>;

function factsOf(servers: readonly ServerStatus[]): Facts {
  return new Map(servers.flatMap((server) =>
    server.programs.map((program) => {
      const { pid, restarts, lastRecovery: last } = program;
      return [nameOf(server, program, true), [
        printable(stateText(program)),
        pid === null ? "no process" : `pid ${pid}`,
        `restarts ${restarts}`,
        last ? `last failure: instance ${last.instanceId} (${last.reason})` : "",
      ]];
    })
  ));
}

/** Returns a line for each program that has changed, with the time and the facts that have changed. */
function formatChanges(before: Facts, now: Facts): string {
  const at = new Date().toISOString();
  return [...new Set([...before.keys(), ...now.keys()])].map((name) => {
    const facts = now.get(name) ?? ["no longer supervised"];
    const fresh = facts.filter((fact, index) => fact !== (before.get(name)?.[index] ?? ""));
    return fresh.length > 0 ? `${at} ${name}: ${fresh.join(", ")}\n` : "";
  }).join("");
}

/** Limits a text to `maxLines`, and says how many lines are missing. A line that scrolls off the screen cannot be redrawn. */
function fit(text: string, maxLines: number): string {
  const lines = text.split("\n").slice(0, -1);
  if (lines.length <= maxLines) return text;
  const hidden = lines.length - maxLines + 1;
  return [...lines.slice(0, maxLines - 1), `… ${hidden} more`, ""].join("\n");
}

/** `sam events`. */
export async function events(words: readonly string[]): Promise<number> {
  const { operands: [name], is } = parseCommand("events", words, 1);
  return await withServers(name, async (found) => {
    const targets = requireTargets(found, name);
    host.stderr.write(describeUnreachable(found.unreachable));
    const several = targets.length > 1;
    const reading = targets.map((target) =>
      readEvents(target, is("--follow"), (event) => {
        if (is("--json")) return host.stdout.write(`${JSON.stringify(event)}\n`);
        const at = new Date(event.at).toISOString();
        const label = several || target.server.status.programs.length > 1
          ? `${event.program}: `
          : "";
        host.stdout.write(`${printable(`${at} ${label}${report(event)[0] ?? describe(event)}`)}\n`);
      })
    );
    // The events of the other servers continue if reading from one server fails.
    const failed = (await Promise.allSettled(reading)).find(({ status }) => status === "rejected");
    if (failed) throw (failed as PromiseRejectedResult).reason;
    return 0;
  });
}

type ProgramEvent = SupervisorEvent & { readonly program: string };

/** Shows the events of a server. Resolves when the server has sent its last event. */
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
        lines.close(); // the server waits until the client closes the connection
      } else if (typeof event.at !== "number") {
        reject(unknownAnswer(status.name));
        lines.close();
      } else if (program === undefined || isOf(program, event.program, status)) show(event);
    }, () =>
      reject(
        new CommandError(
          "unavailable",
          `the SAM server ${status.name} closed the connection before its last event. It was killed, or this command read the events too slowly.`,
          { code: "LIBRARY" },
        ),
      ));
    lines.send({ ask: "events", follow } satisfies Request);
  });
}

/** True if a name selects a program: it is the name of the program, or of the program to which this instance belongs. */
function isOf(selected: string, name: string, { programs }: ServerStatus): boolean {
  return selected === name ||
    programs.some((each) => each.name === name && each.service === selected);
}

/** Returns a line for an event that the log does not report. */
function describe(event: SupervisorEvent): string {
  const instance = `instance ${event.instanceId}`;
  switch (event.type) {
    case "spawn":
      return `${instance} was spawned (pid ${event.pid})`;
    case "spawnFailed":
      return `${instance} could not be spawned: ${event.error.message}`;
    case "register":
      return `${instance} has registered (pid ${event.pid})`;
    case "waiting":
      return `${instance} waits for quorum`;
    case "start":
      return `${instance} has started`;
    case "stop":
      return `${instance} called stop() and is not watched until its next start()`;
    case "finalize":
      return `${instance} called finalize() and is no longer watched`;
    case "check":
      return event.healthy
        ? `${instance} passed its health check`
        : `${instance} failed a health check: ${event.detail}`;
    case "stall":
      return `the SAM server was stalled for ${
        Math.round(event.lateMs)
      } ms; that time does not count against ${instance}`;
    case "starved":
      return `${instance} got no CPU time or waits for the disk; it gets more time`;
    case "exit":
      return event.signal === null
        ? `${instance} exited with code ${event.code}`
        : `${instance} was ended by ${event.signal}`;
    case "stopping":
      return `${instance} is being stopped with ${event.signal}`;
    case "spare":
      return `the spare ${
        {
          starting: "is starting",
          parked: "waits to take over",
          ended: "has ended",
          promoted: "became the instance",
        }[event.state]
      }${event.pid === null ? "" : ` (pid ${event.pid})`}`;
    case "quorum":
      return event.quorate ? "the cluster has quorum" : "the cluster has lost quorum";
    case "finish":
      return `supervision has ended with exit code ${event.status.code}`;
    default:
      return `${instance}: ${event.type}`;
  }
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

/** `sam reload`. */
export async function reload(words: readonly string[]): Promise<number> {
  const { operands } = parseCommand("reload", words, 1);
  let code = 0;
  await ask(
    "reload",
    operands[0],
    (program) => ({ ask: "reload", ...(program !== undefined && { program }) }),
    ({ ok }) => {
      const { reloaded, failure, changes } = ok as ReloadAnswer;
      const done = describeChanges(reloaded, changes);
      if (failure === null) {
        if (changes) host.stdout.write(`${done || unchanged(changes.file)}\n`);
        return;
      }
      code = 1;
      const lines = failure.map((line) => `sam: ${printable(line)}\n`);
      if (done !== "") lines.push(`sam: before that: ${done}\n`);
      host.stderr.write(lines.join(""));
    },
  );
  return code;
}

/** Says what a reload has changed; empty if nothing. */
function describeChanges(
  reloaded: readonly string[],
  { started = [], stopped = [] }: Partial<NonNullable<ReloadAnswer["changes"]>> = {},
): string {
  return ([["stopped", stopped], ["started", started], ["reloaded", reloaded]] as const)
    .filter(([, names]) => names.length > 0)
    .map(([what, names]) => `${what} ${names.join(", ")}`).join("; ");
}

function unchanged(file: string): string {
  return `${file} has not changed. To reload the code of a program, name it, as in sam reload web.`;
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
    const message = given === undefined
      ? "the signal is missing. Name one, as in sam signal HUP."
      : `"${given}" is not a signal. Name one, as in sam signal HUP.`;
    throw new CommandError("usage", message);
  }
  return ask(
    `signal ${signal}`,
    name,
    (program) => ({ ask: "signal", signal, ...(program !== undefined && { program }) }),
  );
}

/** Sends a request to the one server that a name selects. If the server ends without an answer, only `stop` has succeeded. */
async function ask(
  command: string,
  name: string | undefined,
  request: (program: string | undefined) => Request,
  take: (answer: Answer) => void = () => {},
): Promise<number> {
  return await withServers(name, async (found) => {
    const [target, ...more] = requireTargets(found, name);
    const { server, program } = target!;
    if (name === undefined && more.length + found.unreachable.length > 0) {
      const names = [...found.servers.map(({ status }) => status), ...found.unreachable]
        .map((each) => each.name).sort().join(", ");
      throw new CommandError(
        "usage",
        `several SAM servers are running: ${names}. Name one of them, as in sam ${command} NAME.`,
      );
    }
    // A reload of a program is not that of the configuration, so the name of a program counts before that of its server.
    const isProgram = command === "reload" &&
      server.status.programs.some((each) => (each.service ?? each.name) === name);
    const answer = await server.ask(request(isProgram ? name : program));
    if (answer === undefined && command !== "stop") {
      throw new CommandError(
        "unavailable",
        `the SAM server ${server.status.name} ended before it answered`,
        { code: "LIBRARY" },
      );
    }
    if (answer) take(answer);
    return 0;
  });
}
