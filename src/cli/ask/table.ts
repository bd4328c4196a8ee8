/** The table of programs that `sam status` prints. */
import type { Output } from "../host/host.ts";
import { printable, span, stateText, stateWord } from "../../supervisor/report.ts";
import * as host from "../host/host.ts";
import type { MemberStatus } from "../../api/events.ts";
import type { ProgramStatus, ServerStatus } from "../control/status.ts";

type Cell = readonly [text: string, colour?: Colour];
type Colour = "red" | "yellow" | "green" | "dim";
const codes: Readonly<Record<Colour, string>> = { red: "31", yellow: "33", green: "32", dim: "2" };

const head = [
  "NAME",
  "STATE",
  "PID",
  "UP",
  "RESTARTS",
  "HEARTBEAT",
  "SLACK",
  "MEMORY",
  "LAST RECOVERY",
];

/** The columns that are left out on a narrow terminal, the first one first. */
const optionalColumns = ["SLACK", "HEARTBEAT", "MEMORY", "PID"];
/** Spaces between two columns. */
const gap = 2;

/** Returns the table, not wider than the terminal. It has colors on a terminal, unless `NO_COLOR` or `TERM=dumb` is set. */
export function table(servers: readonly ServerStatus[], output: Output): string {
  const several = servers.length > 1;
  const rows: Cell[][] = [head.map((text) => [text, "dim"])];
  for (const server of servers) {
    for (const [at, program] of server.programs.entries()) {
      const { service } = program;
      const isFirst = service !== undefined && service !== server.programs[at - 1]?.service;
      if (isFirst) rows.push([...summary(server, service, several)]);
      const indent = service === undefined ? "" : "  ";
      rows.push([[indent + nameOf(server, program, several)], ...cells(program)]);
      for (const member of program.members ?? []) { // a server of an older version sends none
        rows.push([[`${indent}  worker`], ...memberCells(member)]);
      }
    }
  }
  const room = output.isTerminal ? output.columns - 1 : Infinity;
  for (const name of optionalColumns) {
    if (widthsOf(rows).reduce((sum, width) => sum + width + gap, -gap) <= room) break;
    const column = rows[0]!.findIndex(([text]) => text === name);
    for (const row of rows) row.splice(column, 1);
  }
  const widths = widthsOf(rows);
  const colour = output.isTerminal && host.variable("NO_COLOR") === undefined &&
    host.variable("TERM") !== "dumb";
  return rows.map((row) => line(row, widths, room, colour)).join("");
}

/** The row of a program with instances side by side, which counts the ready ones. */
function summary(server: ServerStatus, service: string, several: boolean): readonly Cell[] {
  const all = server.programs.filter((program) => program.service === service);
  const ready = all.filter(({ ready }) => ready).length;
  const name = several && service !== server.name ? `${server.name}/${service}` : service;
  const state: Cell = [
    `${ready} of ${all.length} ready`,
    ready === all.length ? "green" : "yellow",
  ];
  return [[printable(name)], state, ...head.slice(2).map((): Cell => [""])];
}

/** The name of a program, safe to show on a terminal. With several servers, the name of the server precedes it. */
export function nameOf(server: ServerStatus, { name }: ProgramStatus, several: boolean): string {
  const isOnlyProgram = server.programs.length === 1 && name === server.name;
  return printable(isOnlyProgram || !several ? name : `${server.name}/${name}`);
}

function widthsOf(rows: readonly (readonly Cell[])[]): number[] {
  return rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]![0].length)));
}

/** Returns a line that fits the terminal. `sam status --watch` counts lines to redraw the table, so no line may wrap. */
function line(
  row: readonly Cell[],
  widths: readonly number[],
  room: number,
  colour: boolean,
): string {
  const parts = row.map(([text, shade], column) => {
    const padded = column === row.length - 1 ? text : text.padEnd(widths[column]! + gap);
    const shown = padded.slice(0, Math.max(0, room));
    room -= padded.length;
    return colour && shade ? `\x1b[${codes[shade]}m${shown}\x1b[0m` : shown;
  });
  return `${parts.join("").trimEnd()}\n`;
}

function cells(program: ProgramStatus): Cell[] {
  const { watched, uptime, restarts, heartbeatAge, slack, memory } = program;
  const pid = watched?.pid ?? program.pid;
  const word = stateWord(program);
  return [
    [
      printable(stateText(program)),
      word === "ready" ? "green" : ["finished", "stopped"].includes(word) ? "dim" : "yellow",
    ],
    [String(pid ?? "-")],
    [uptime === null ? "-" : span(uptime)],
    [String(restarts), restarts > 0 ? "yellow" : undefined],
    [heartbeatAge === null ? "-" : `${Math.round(heartbeatAge)} ms`],
    [slack.min === null ? "-" : `${Math.round(slack.min)} ms`],
    [memory === null ? "-" : `${(memory / 2 ** 20).toFixed(0)} MiB`],
    lastCell(program),
  ] as Cell[];
}

/** The cells of a worker of node:cluster. */
function memberCells({ pid, heartbeatAge }: MemberStatus): Cell[] {
  const known: Readonly<Record<string, Cell>> = {
    STATE: heartbeatAge === null ? ["starting", "yellow"] : ["ready", "green"],
    PID: [String(pid)],
    HEARTBEAT: [heartbeatAge === null ? "-" : `${Math.round(heartbeatAge)} ms`],
  };
  return head.slice(1).map((name) => known[name] ?? [""]);
}

/** The last recovery or replacement. Only a recovery is a failure. */
function lastCell({ lastRecovery, lastReplacement }: ProgramStatus): Cell {
  const isRecovery = (lastRecovery?.at ?? 0) >= (lastReplacement?.at ?? 0);
  const last = isRecovery ? lastRecovery : lastReplacement;
  if (!last) return ["-"];
  const text = `${last.reason}, ${span(Date.now() - last.at)} ago`;
  return isRecovery ? [text, "red"] : [text];
}
