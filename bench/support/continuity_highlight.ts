// The first figure of docs/performance.md: the failed requests on new connections to a service on Node, by what happens to it.
import type { Bar, BarKind, Group } from "./chart.ts";
import { continuity, isBare, peer } from "./names.ts";
import type { Highlight } from "./highlights.ts";
import { peersOf, type Row } from "./rows.ts";
import type { Figures } from "./statistics.ts";

type Rows = readonly Row[];

/** The events of the chart, and their names in rows. */
const events: readonly (readonly [heading: string, name: string])[] = [
  ["crash", "crash"],
  ["hang, noticed after 500 ms", "hang"],
  ["restart on request", "restart"],
  ["reload", "reload"],
  ["reload of a release that exits at once", "broken reload: exits at once"],
  ["reload of a release that never listens", "broken reload: never ready"],
  ["reload of a release that fails after 2 s", "broken reload: fails after 2 s"],
  ["replacement because of --max-memory", "memory replacement"],
];

const instances = ["1 instance", "2 instances"] as const;

/** The alternatives in the order of the chart, with the names that they have there. */
const alternatives: Readonly<Record<string, string>> = {
  [peer.withoutListen]: "@x/sam, 1 instance, no --listen",
  [peer.pm2Workers]: peer.pm2Workers,
  [peer.clusterWorkers]: peer.clusterWorkers,
  [peer.socketActivated]: "systemd-socket-activate, a shell loop",
  [peer.shellLoop]: "Node in a shell loop",
};

export const continuityHighlight: Highlight = {
  file: "continuity",
  heading: "A client never notices",
  title: "Failed requests, one new connection every 10 ms",
  groups: (rows) =>
    events.flatMap(([heading, name]): Group[] => {
      const bars = barsOf(rows, name);
      return bars.length > 0 ? [{ heading, bars }] : [];
    }),
  cells: (rows) => [
    `failed: crash ${own(rows, "crash")}, hang ${own(rows, "hang")}, reload ${own(rows, "reload")}`,
    `PM2: crash ${of(rows, "crash", peer.pm2Workers)}, hang ${
      of(rows, "hang", peer.pm2Workers)
    }, broken reload ${of(rows, "broken reload: exits at once", peer.pm2Workers)}`,
    `in a shell loop: crash ${of(rows, "crash", peer.shellLoop)}`,
  ],
};

/** The rows of an event on Node, without and with a second instance. */
function found(rows: Rows, event: string): Row[] {
  return instances.flatMap((count) =>
    rows.filter((row) =>
      row.figure === continuity.failed.new && row.runtime === "node26" &&
      row.case === `${event}, ${count}`
    )
  );
}

function barsOf(rows: Rows, event: string): Bar[] {
  const some = found(rows, event);
  const own = some.map((row) =>
    bar(`@x/sam, ${row.case.slice(event.length + 2)}, --listen`, row.sam, "sam")
  );
  const others = Object.entries(alternatives).flatMap(([name, label]) =>
    some.flatMap(peersOf).filter((other) => other.name === name).map(({ figures }) => {
      const kind = isBare(name) ? "floor" : name === peer.withoutListen ? "sam" : "peer";
      return bar(label, figures, kind);
    })
  );
  return [...own, ...others];
}

function bar(label: string, { p50, p99 }: Figures, kind: BarKind): Bar {
  return { label, value: p50, p99, kind };
}

/** The medians of this library, with one instance and with two. */
function own(rows: Rows, event: string): string {
  return range(found(rows, event).map(({ sam }) => sam));
}

function of(rows: Rows, event: string, name: string): string {
  const others = found(rows, event).flatMap(peersOf).filter((other) => other.name === name);
  return range(others.map(({ figures }) => figures));
}

function range(figures: readonly Figures[]): string {
  if (figures.length === 0) return "(not measured)";
  const [low, high] = [
    Math.min(...figures.map(({ p50 }) => p50)),
    Math.max(...figures.map(({ p50 }) => p50)),
  ];
  return low === high ? `${low}` : `${low} to ${high}`;
}
