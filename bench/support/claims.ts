// The numbers in the prose of docs/performance.md and README.md: each stands between two marks, `<!-- NAME -->` and
// `<!-- . -->`, and is written from the rows of the last full run.
import { peersOf, type Row } from "./rows.ts";

type Rows = readonly Row[];
type Claim = (rows: Rows) => string;

/** Every number that prose may give, by the name in its mark. */
const claims: Readonly<Record<string, Claim>> = {
  "heartbeat shm ns": (rows) => span(p50s(rows, "heartbeat()", /^shm/)),
  "heartbeat stream ns": (rows) => span(p50s(rows, "heartbeat()", /^(unix|pipe)/)),
  "heartbeat shm part": (rows) =>
    `1/${Math.floor(Math.min(...some(rows, "heartbeat()", /^shm/).map(timesFaster)))}`,
  "clock ns": (rows) => span(peerP50s(rows, "heartbeat()", /^shm/, "performance.now()")),
  "standby trivial ms": (rows) => span(p50s(rows, standby, /^trivial/)),
  "standby 256 ms": (rows) => span(p50s(rows, standby, /^256/)),
  "exit trivial ms": (rows) => span(peerP50s(rows, standby, /^trivial/, exit)),
  "exit 256 ms": (rows) => span(peerP50s(rows, standby, /^256/, exit)),
  "cluster ms": (rows) =>
    `${number(peerP50s(rows, standby, /^trivial/, "node:cluster")[0]!)} and ${
      number(peerP50s(rows, standby, /^256/, "node:cluster")[0]!)
    }`,
  "pm2 ms": (rows) => number(peerP50s(rows, standby, /^trivial/, "PM2")[0]!),
  "libsam crash ms": (rows) =>
    `${number(middle(peerP50s(rows, standby, /^trivial/, "libsam")))} and ${
      number(middle(peerP50s(rows, standby, /^256/, "libsam")))
    }`,
  "standby worth": (rows) =>
    span(some(rows, "what a standby is worth", /./).map((row) => timesFaster(row))),
  "compile cache": (rows) => {
    const without = p50s(rows, cold, /^9 MB module, unix/)[0]!;
    return percent(1 - p50s(rows, cold, /NODE_COMPILE_CACHE/)[0]! / without);
  },
  "store 64 us": (rows) => span(p50s(rows, "data.store()", /^shm, 64 B/)),
  "wake us": (rows) => span(peerP50s(rows, cpu, /^shm, T = 100 /, "a timer").map((us) => us / 160)),
  "byte bare us": (rows) =>
    span(peerP50s(rows, cpu, /^(unix|pipe)/, "a byte").map((us) => us / 1000)),
  "byte libsam us": (rows) =>
    span(peerP50s(rows, cpu, /^(unix|pipe)/, "libsam's server").map((us) => us / 1000)),
  "fork more ms": (rows) => {
    const [fork] = peerP50s(rows, cold, /^trivial, unix/, "fork → first line");
    return number(fork! - peerP50s(rows, cold, /^trivial, unix/, "spawn → first line")[0]!);
  },
  "connect ms": (rows) => startUp(rows, /^unix/, "that connects"),
  "import ms": (rows) => startUp(rows, /^unix/, "that imports"),
  "net ms": (rows) => startUp(rows, /^pipe/, "that loads node:net"),
  "reads percent": (rows) =>
    span(peerP50s(rows, /^one server, many/, /^shm, 1000 /, "as many reads")),
  "child KiB": (rows) =>
    span(
      peerP50s(rows, "server, resident memory for each further application", /^unix/, "the bare"),
    ),
  "1000 shm percent": (rows) => span(p50s(rows, /^one server, many/, /^shm, 1000 /)),
};

const standby = "crash → register(), standby";
const cold = "crash → register()";
const exit = "SIGKILL → exit seen, bare";
const cpu = /^the server's processor time/;

const mark = /<!-- ([^>]+?) -->[^<]*<!-- \. -->/g;

/** The text, with each number as it was measured. */
export function claimed(text: string, rows: Rows): string {
  return text.replaceAll(mark, (_, name: string) => {
    const claim = claims[name];
    if (!claim) throw new Error(`bench/support/claims.ts knows no "${name}"`);
    return `<!-- ${name} -->${measured(name, claim, rows)}<!-- . -->`;
  });
}

/** A run in which a measurement failed has no number, and shall not fail for it. */
function measured(name: string, claim: Claim, rows: Rows): string {
  try {
    return claim(rows);
  } catch (error) {
    if (!(error instanceof NotMeasured)) throw error;
    console.error(`${name}: ${error.message}`);
    return "(not measured)";
  }
}

class NotMeasured extends Error {}

/** How many milliseconds more than the bare runtime a peer needs. */
function startUp(rows: Rows, which: RegExp, peer: string): string {
  const more = some(rows, "start-up", which).flatMap((row) =>
    peersOf(row).filter(({ name }) => name.includes(peer))
      .map(({ figures }) => figures.p50 - row.peer!.figures.p50)
  );
  if (more.length === 0) throw new NotMeasured(`no ${peer} beside start-up, ${which}`);
  return span(more);
}

function some(rows: Rows, figure: string | RegExp, which: RegExp): Row[] {
  const found = rows.filter((row) =>
    (typeof figure === "string" ? row.figure === figure : figure.test(row.figure)) &&
    which.test(row.case)
  );
  if (found.length === 0) throw new NotMeasured(`no rows for ${figure}, ${which}`);
  return found;
}

function p50s(rows: Rows, figure: string | RegExp, which: RegExp): number[] {
  return some(rows, figure, which).map(({ ours }) => ours.p50);
}

function peerP50s(rows: Rows, figure: string | RegExp, which: RegExp, peer: string): number[] {
  const found = some(rows, figure, which).flatMap(peersOf)
    .filter(({ name }) => name.includes(peer)).map(({ figures }) => figures.p50);
  if (found.length === 0) throw new NotMeasured(`no ${peer} beside ${figure}, ${which}`);
  return found;
}

function timesFaster({ ours, peer }: Row): number {
  return peer!.figures.p50 / ours.p50;
}

function middle(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

function span(values: readonly number[]): string {
  const [low, high] = [number(Math.min(...values)), number(Math.max(...values))];
  return low === high ? low : `${low} to ${high}`;
}

/** Two digits that count are enough for prose. */
function number(value: number): string {
  return String(Math.abs(value) >= 10 ? Math.round(value) : Number(value.toPrecision(2)));
}

function percent(part: number): string {
  return `${Math.round(100 * part)} %`;
}
