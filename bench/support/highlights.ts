// The figures of docs/performance.md: for each one, a line of the overview and a chart.
import type { Bar, BarKind, Group } from "./chart.ts";
import { continuityHighlight } from "./continuity_highlight.ts";
import { figure, isBare, peer, runtimeNames } from "./names.ts";
import { type Peer, peersOf, type Row } from "./rows.ts";
import { figuresOf } from "./statistics.ts";

type Rows = readonly Row[];

/** One of the figures. */
export interface Highlight {
  /** The name of the chart in docs/performance, without its extension. */
  readonly file: string;
  /** The heading of its section in docs/performance.md. */
  readonly heading: string;
  /** The title of the chart, with the unit. */
  readonly title: string;
  groups(rows: Rows): Group[];
  /** The cells of the overview: this library, the alternatives, the bare runtime. */
  cells(rows: Rows): readonly [string, string, string];
}

export const highlights: readonly Highlight[] = [
  continuityHighlight,
  {
    file: "heartbeat",
    heading: "One heartbeat",
    title: "One heartbeat() in a loop, nanoseconds",
    groups: (rows) => groupsOf(rows, [[figure.heartbeat, "shm"], [figure.heartbeat, "unix"]]),
    cells: (rows) => {
      const [shm, unix] = [
        some(rows, figure.heartbeat, "shm"),
        some(rows, figure.heartbeat, "unix"),
      ];
      return [
        `${sam(shm)} ns (\`shm\`), ${sam(unix)} ns (\`unix\`)`,
        `libsam: ${peers(shm, peer.hcSend)} ns`,
        `a timestamp: ${peers(shm, peer.clock)} ns`,
      ];
    },
  },
  {
    file: "hang",
    heading: "Noticing a hang",
    title: "Lateness of the warning after a hang, milliseconds",
    groups: (rows) =>
      groupsOf(rows, [
        [figure.hang, "unix, event loop", "idle machine, unix, event loop"],
        [figure.hang, "shm, heartbeat()", "idle machine, shm, heartbeat()"],
        [figure.hang, "unix, event loop, both cores busy", "both cores busy, unix, event loop"],
      ]),
    cells: (rows) => {
      const hang = some(rows, figure.hang, "unix, event loop");
      return [
        `${sam(hang)} ms late`,
        `libsam: ${peers(hang, peer.libsam)} ms`,
        `a timer: ${peers(hang, peer.bareTimer)} ms`,
      ];
    },
  },
  {
    file: "crash-with-spare",
    heading: "A crash, with a spare",
    title: "Crash until the spare takes over, milliseconds",
    groups: (rows) =>
      groupsOf(rows, [
        [figure.crashWithSpare, "small program, unix", "small program"],
        [figure.crashWithSpare, "256 MiB, unix", "program with 256 MiB in use"],
        [figure.crashWithSpare, "9 MB module, unix", "program with a 9 MB module"],
      ]),
    cells: (rows) => {
      const crash = some(rows, figure.crashWithSpare, "small program, unix");
      return [
        `small program: ${sam(crash)} ms`,
        alternativesTo(crash),
        `exit event: ${peers(crash, peer.bareExit)} ms`,
      ];
    },
  },
  {
    file: "crash",
    heading: "A crash, without a spare",
    title: "Crash until the next instance is registered, without a spare, milliseconds",
    groups: (rows) =>
      groupsOf(rows, [
        [figure.crash, "small program, unix", "small program"],
        [figure.crash, "256 MiB, unix", "program with 256 MiB in use"],
        [figure.crash, "9 MB module, unix", "program with a 9 MB module"],
        [
          figure.crash,
          "9 MB module, NODE_COMPILE_CACHE set, unix",
          "program with a 9 MB module, NODE_COMPILE_CACHE set",
        ],
      ], withRestartFloor),
    cells: (rows) => {
      const crash = some(rows, figure.crash, "small program, unix");
      return [
        `small program: ${sam(crash)} ms`,
        alternativesTo(crash),
        `exit event and new start: ${peers(crash.map(withRestartFloor), restartFloor)} ms`,
      ];
    },
  },
  {
    file: "data",
    heading: "Storing data",
    title: "One data.store(), microseconds",
    groups: (rows) =>
      groupsOf(
        rows,
        [
          [figure.data, "unix, 64 B"],
          [figure.data, "unix, 1 MiB"],
          [figure.data, "pipe, 64 B"],
          [figure.data, "pipe, 1 MiB"],
        ],
        withPeers(peer.dataStore, peer.bareWrite, peer.bareMessage),
      ),
    cells: (rows) => {
      const [unix, pipe] = [
        some(rows, figure.data, "unix, 64 B"),
        some(rows, figure.data, "pipe, 64 B"),
      ];
      const hasWrites = unix.some((row) => of(row, peer.bareWrite) !== undefined);
      return [
        `64 bytes: ${sam(unix)} µs (\`unix\`), ${sam(pipe)} µs (\`pipe\`)`,
        `libsam: ${peers([...unix, ...pipe], peer.dataStore)} µs`,
        [
          ...(hasWrites ? [`write: ${peers(unix, peer.bareWrite)} µs`] : []),
          `message and answer: ${peers(pipe, peer.bareMessage)} µs`,
        ].join(", "),
      ];
    },
  },
  {
    file: "start-up",
    heading: "Start-up",
    title: "Spawn of a program until register() resolves, milliseconds",
    groups: (rows) =>
      groupsOf(
        rows,
        [[figure.startUp, "unix"], [figure.startUp, "pipe"]],
        withPeers(peer.bare, peer.bareConnects),
      ),
    cells: (rows) => {
      const [start, crash] = [
        some(rows, figure.startUp, "unix"),
        some(rows, figure.crash, "small program, unix"),
      ];
      return [
        `adds ${span(start.map((row) => row.sam.p50 - of(row, peer.bare)!))} ms`,
        `Node's \`fork()\`: adds ${
          span(crash.flatMap((row) => {
            const [fork, spawn] = [of(row, peer.bareFork), of(row, peer.bareSpawn)];
            return fork === undefined || spawn === undefined ? [] : [fork - spawn];
          }))
        } ms`,
        `starts in ${peers(start, peer.bare)} ms`,
      ];
    },
  },
  {
    file: "server-memory",
    heading: "Server memory",
    title: "Resident memory of a server with one program, MiB",
    groups: (rows) =>
      groupsOf(
        rows,
        [[figure.memory, "unix"], [figure.memory, "shm"]],
        (row) => inMiB(withPeers(peer.libsamServer, peer.bareParent)(row)),
      ),
    cells: (rows) => {
      const memory = some(rows, figure.memory, "unix").map(inMiB);
      return [
        `${sam(memory)} MiB`,
        `libsam: ${peers(memory, peer.libsamServer)} MiB`,
        `with a child and a socket: ${peers(memory, peer.bareParent)} MiB`,
      ];
    },
  },
  {
    file: "server-cpu",
    heading: "Server CPU time for one program",
    title: "Server CPU time at 1,000 heartbeats per second, T = 2 s, % of a core",
    groups: (rows) =>
      groupsOf(
        rows,
        [[figure.cpu, "shm, T = 2000 ms", "shm"], [figure.cpu, "unix, T = 2000 ms", "unix"]],
        inPercent,
      ),
    cells: (rows) => {
      const cpu = some(rows, figure.cpu, "shm, T = 2000 ms").map(inPercent);
      const floors = cpu.flatMap(peersOf).filter(({ name }) => isBare(name));
      return [
        `${sam(cpu)} % of a core (\`shm\`)`,
        `libsam: ${peers(cpu, peer.libsamServer)} %`,
        `an empty timer: ${span(floors.map(({ figures }) => figures.p50))} %`,
      ];
    },
  },
  {
    file: "server-cpu-1000",
    heading: "Server CPU time for 1,000 programs",
    title: "Server CPU time with 1,000 programs, 10 heartbeats per second each, % of a core",
    groups: (rows) =>
      groupsOf(rows, [
        [figure.manyCpu, "shm, 1000 programs", "shm"],
        [figure.manyCpu, "unix, 1000 programs", "unix"],
        [figure.manyCpu, "pipe, 1000 programs", "pipe"],
      ]),
    cells: (rows) => {
      const many = some(rows, figure.manyCpu, "shm, 1000 programs");
      return [
        `${sam(many)} % of a core (\`shm\`)`,
        "libsam: 1,000 servers, not measured",
        `reading the counters: ${peers(many, peer.bareManyReads)} %`,
      ];
    },
  },
  {
    file: "memory-per-program",
    heading: "Memory for each further program",
    title: "Server memory for each further program, KiB",
    groups: (rows) =>
      groupsOf(
        rows,
        ["shm", "unix", "pipe"].map((transport) =>
          [figure.memoryPerProgram, `${transport}, from 10 to 1000`, transport] as const
        ),
        withPeers(peer.bareChild),
      ),
    cells: (rows) => {
      const memory = some(rows, figure.memoryPerProgram, "unix, from 10 to 1000");
      const one = some(rows, figure.memory, "unix").map(inMiB);
      return [
        `${sam(memory)} KiB`,
        `libsam, a further server: ${peers(one, peer.libsamServer)} MiB`,
        `a child and a socket: ${peers(memory, peer.bareChild)} KiB`,
      ];
    },
  },
];

/** The figure and the case of a group of bars, and its heading if that is not the case. */
type Selection = readonly [figure: string, which: string, heading?: string];

/** Makes a group for each selection, of rows changed by `change`. A selection without rows is left out. */
function groupsOf(
  rows: Rows,
  selections: readonly Selection[],
  change: (row: Row) => Row = (row) => row,
): Group[] {
  return selections.flatMap(([name, which, heading = which]) => {
    const found = some(rows, name, which).map(change);
    return found.length > 0 ? [{ heading, bars: barsOf(found) }] : [];
  });
}

/** The bars of this library by runtime, then the alternatives, then the bare runtimes. */
function barsOf(rows: Rows): Bar[] {
  const own = rows.map(({ runtime, sam }): Bar => ({
    label: `${runtimeNames[runtime]}, @x/sam`,
    value: sam.p50,
    p99: sam.p99,
    kind: "sam",
  }));
  // An alternative is measured again beside each runtime, but does not depend on it: its bars become one.
  const others = rows.flatMap((row) =>
    peersOf(row).map(({ name, figures }) => ({
      label: isBare(name) ? `${runtimeNames[row.runtime]}, ${shortened(name)}` : name,
      kind: (isBare(name) ? "floor" : "peer") as BarKind,
      figures,
    }))
  );
  const labels = [...new Set(others.map(({ label }) => label))];
  const merged = labels.map((label): Bar => {
    const same = others.filter((other) => other.label === label);
    const middle = (values: number[]) => figuresOf(values).p50;
    return {
      label,
      value: middle(same.map(({ figures }) => figures.p50)),
      p99: middle(same.map(({ figures }) => figures.p99)),
      kind: same[0]!.kind,
    };
  });
  const isKind = (wanted: BarKind) => ({ kind }: Bar): boolean => kind === wanted;
  return [...own, ...merged.filter(isKind("peer")), ...merged.filter(isKind("floor"))];
}

/** Shortens the name of a floor for a label. */
function shortened(name: string): string {
  return name.replace(/^(two )?bare runtimes?,? ?/, "bare: ").replace(/: $/, "");
}

/** Replaces the peers of a row. */
function besides({ figure, case: which, runtime, unit, sam }: Row, others: readonly Peer[]): Row {
  return { figure, case: which, runtime, unit, sam, others };
}

/** Keeps only some peers of a row. */
function withPeers(...names: readonly string[]): (row: Row) => Row {
  return (row) => besides(row, peersOf(row).filter(({ name }) => names.includes(name)));
}

const restartFloor = "bare runtime, exit event and new start";

/** Replaces the floors of a crash by their sum: a bare parent sees the exit, then starts the next process. */
function withRestartFloor(row: Row): Row {
  const [exit, spawn] = [of(row, peer.bareExit), of(row, peer.bareSpawn)];
  if (exit === undefined || spawn === undefined) return row;
  const sum = { name: restartFloor, figures: figuresOf([exit + spawn]) };
  return besides(row, [...peersOf(row).filter(({ name }) => !isBare(name)), sum]);
}

/** Converts a row from KiB to MiB. */
function inMiB(row: Row): Row {
  return scaled(row, 1 / 1024, "MiB");
}

/** Converts a row from microseconds per second to percent of a core. */
function inPercent(row: Row): Row {
  return scaled(row, 1e-4, "%");
}

function scaled(row: Row, factor: number, unit: string): Row {
  const times = (figures: Row["sam"]): Row["sam"] => ({
    n: figures.n,
    p50: figures.p50 * factor,
    p90: figures.p90 * factor,
    p99: figures.p99 * factor,
    min: figures.min * factor,
    max: figures.max * factor,
  });
  const others = peersOf(row).map(({ name, figures }) => ({ name, figures: times(figures) }));
  return besides({ ...row, unit, sam: times(row.sam) }, others);
}

/** The rows of a figure and a case, by runtime. */
function some(rows: Rows, name: string, which: string): Row[] {
  return rows.filter((row) => row.figure === name && row.case === which);
}

function of(row: Row, name: string): number | undefined {
  return peersOf(row).find((other) => other.name === name)?.figures.p50;
}

/** The alternatives to a recovery, for a cell of the overview. */
function alternativesTo(rows: Rows): string {
  return [peer.nodeCluster, peer.pm2, peer.libsam]
    .map((name) => `${name === peer.nodeCluster ? `\`${name}\`` : name} ${middle(rows, name)} ms`)
    .join(", ");
}

/** The medians of this library. */
function sam(rows: Rows): string {
  return span(rows.map((row) => row.sam.p50));
}

/** The medians of a peer. */
function peers(rows: Rows, name: string): string {
  return span(rows.flatMap((row) => of(row, name) ?? []));
}

/** The middle of the medians of a peer. */
function middle(rows: Rows, name: string): string {
  const values = rows.flatMap((row) => of(row, name) ?? []);
  return values.length === 0 ? notMeasured : short(figuresOf(values).p50);
}

/** A measurement that failed has no row. */
const notMeasured = "(not measured)";

/** The range of some values. */
function span(values: readonly number[]): string {
  if (values.length === 0) return notMeasured;
  const [low, high] = [short(Math.min(...values)), short(Math.max(...values))];
  return low === high ? low : `${low} to ${high}`;
}

/** Two significant digits, or a whole number. */
function short(value: number): string {
  return String(Math.abs(value) >= 10 ? Math.round(value) : Number(value.toPrecision(2)));
}
