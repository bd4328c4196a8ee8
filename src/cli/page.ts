/** The status page, rendered here in pieces: a browser puts new ones in the place of old ones, and knows nothing else. */
import type { SupervisorEvent } from "../events.ts";
import { report } from "../report.ts";
import type { Entry } from "./journal.ts";
import type { ProgramStatus, ServerStatus } from "./status.ts";
import { span } from "./table.ts";

/** So many instances of a program are shown. */
const maxLives = 20;

/** One instance, as its events tell. */
interface Life {
  readonly instanceId: number;
  readonly pid: number;
  readonly from: number;
  to: number | null;
  /** Why it ended; empty while it lives. */
  end: string;
}

/** The pieces of the page, by their ids. Their order is that of the page. */
export function pieces(
  status: ServerStatus,
  entries: readonly Entry[],
): ReadonlyMap<string, string> {
  const all = new Map<string, string>();
  for (const [at, program] of status.programs.entries()) {
    const events = entries.filter(({ program: name }) => name === program.name)
      .map(({ event }) => event);
    all.set(`p${at}-now`, now(program));
    all.set(`p${at}-instances`, instances(livesOf(events, program), Date.now()));
    all.set(`p${at}-slack`, slack(program));
    all.set(`p${at}-report`, lastReport(program, events));
  }
  return all;
}

/** The whole page. */
export function page(status: ServerStatus, entries: readonly Entry[]): string {
  const rendered = pieces(status, entries);
  const title = `${escaped(status.name)} – sam`;
  const programs = status.programs.map((program, at) => {
    const of = (id: string) => `<div id="p${at}-${id}">${rendered.get(`p${at}-${id}`)}</div>`;
    return `<article>
<h2>${escaped(program.name)}</h2>
${of("now")}
<h3>Instances</h3>
${of("instances")}
<h3>Near misses</h3>
${of("slack")}
<h3>Last recovery</h3>
${of("report")}
</article>`;
  });
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="page.css">
<script src="page.js" defer></script>
<noscript><meta http-equiv="refresh" content="5"></noscript>
</head>
<body>
<header>
<h1>${escaped(status.name)}</h1>
<p>process ${status.pid}, ${status.strategy} · <span id="live" role="status">as of ${
    clock(Date.now())
  }</span></p>
</header>
<main>
${programs.join("\n")}
</main>
</body>
</html>
`;
}

/** How a program is now. */
function now(program: ProgramStatus): string {
  const { state, ready, pid, instanceId, restarts, uptime, heartbeatAge, memory, dataSize } =
    program;
  const facts: readonly (readonly [string, string | null])[] = [
    ["ready", ready ? "yes" : "no"],
    ["process", pid === null ? null : String(pid)],
    ["up", uptime === null ? null : span(uptime)],
    ["instance", String(instanceId)],
    ["restarts", String(restarts)],
    ["last heartbeat", heartbeatAge === null ? null : `${Math.round(heartbeatAge)} ms ago`],
    ["memory", memory === null ? null : `${(memory / 2 ** 20).toFixed(0)} MiB`],
    ["stored data", dataSize === 0 ? null : `${dataSize} bytes`],
    ["spare", program.standby?.state ?? null],
  ];
  const shown = facts.filter(([, value]) => value !== null)
    .map(([name, value]) => `<div><dt>${name}</dt><dd>${value}</dd></div>`);
  return `<p class="state ${ready ? "well" : "ill"}">${state}</p><dl>${shown.join("")}</dl>`;
}

/** The instances of a program, the oldest first. The present one may have outlived the event of its start. */
function livesOf(
  events: readonly SupervisorEvent[],
  now: Pick<ProgramStatus, "instanceId" | "pid" | "spawnedAt">,
): readonly Life[] {
  const lives: Life[] = [];
  for (const event of events) {
    const { type, at, instanceId } = event;
    if (type === "spawn" || (type === "standby" && event.state === "promoted")) {
      lives.push({ instanceId, pid: event.pid!, from: at, to: null, end: "" });
      continue;
    }
    const life = lives.findLast((life) => life.instanceId === instanceId);
    if (life === undefined) continue;
    if (type === "exit") {
      life.to = at;
      life.end ||= event.signal ?? `exit code ${event.code}`;
    } else if (type === "recovery") life.end = event.reason;
    else if (type === "stopping") life.end = "stopped";
  }
  const { instanceId, pid, spawnedAt } = now;
  if (pid && spawnedAt && !lives.some((life) => life.instanceId === instanceId)) {
    lives.push({ instanceId, pid, from: spawnedAt, to: null, end: "" });
  }
  return lives.slice(-maxLives);
}

/** A bar for each instance on one line of time, and a row of text. */
function instances(lives: readonly Life[], until: number): string {
  if (lives.length === 0) return "<p>none yet</p>";
  const from = lives[0]!.from;
  const wide = 1000, whole = Math.max(1, until - from);
  const x = (at: number) => (at - from) / whole * wide;
  const bars = lives.map(({ from, to, end, instanceId }) => {
    const [left, right] = [x(from), x(to ?? until)];
    const name = `<title>instance ${instanceId}${end && `: ${escaped(end)}`}</title>`;
    const bar = `<rect x="${left.toFixed(1)}" width="${
      Math.max(1, right - left).toFixed(1)
    }" y="6" height="12">${name}</rect>`;
    const mark = to === null || end === "stopped"
      ? ""
      : `<path d="M${right.toFixed(1)} 0v24"></path>`;
    return bar + mark;
  });
  const rows = [...lives].reverse().map(({ instanceId, pid, from, to, end }) =>
    `<tr><td>${instanceId}</td><td>${pid}</td><td>${clock(from)}</td><td>${
      span((to ?? until) - from)
    }</td><td>${to === null ? "lives" : escaped(end)}</td></tr>`
  );
  return `<svg class="time" viewBox="0 0 ${wide} 24" preserveAspectRatio="none" role="img" aria-label="from ${
    clock(from)
  } to now">${bars.join("")}</svg>
<div class="wide"><table><thead><tr><th>instance</th><th>process</th><th>since</th><th>for</th><th>end</th></tr></thead>
<tbody>${rows.join("")}</tbody></table></div>`;
}

/** At how many signs of life which share of the time interval was left. */
function slack({ slack: { count, min, buckets } }: ProgramStatus): string {
  if (count === 0) return "<p>no signs of life are expected, or none was there yet</p>";
  const most = Math.max(...buckets.map(({ count }) => count));
  const rows = buckets.map(({ from, count }) => {
    const share = from === null ? "late" : from === 0 ? "less" : `1/${1 / from} or more`;
    const width = (count / most * 100).toFixed(1);
    return `<tr><td>${share}</td><td>${count}</td><td><svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect width="${width}" height="10"></rect></svg></td></tr>`;
  });
  return `<p>least left: ${Math.round(min!)} ms, in ${count} signs of life of this instance</p>
<table class="slack"><thead><tr><th>left of the interval</th><th>how often</th><th></th></tr></thead><tbody>${
    rows.join("")
  }</tbody></table>`;
}

/** What was found out about the last instance that was given up, also where its event is not kept any more. */
function lastReport(
  { lastRecovery }: ProgramStatus,
  events: readonly SupervisorEvent[],
): string {
  const last: SupervisorEvent | null =
    events.findLast(({ type }) => type === "recovery" || type === "observed") ??
      (lastRecovery && { type: "recovery", ...lastRecovery });
  if (last === null) return "<p>none yet</p>";
  return `<p>${clock(last.at)}</p><pre>${escaped(report(last).join("\n"))}</pre>`;
}

/** The time of day, by the server's clock. */
function clock(at: number): string {
  const date = new Date(at);
  const today = date.toDateString() === new Date().toDateString();
  return `${today ? "" : `${date.toLocaleDateString("sv")} `}${date.toLocaleTimeString("sv")}`;
}

function escaped(text: string): string {
  const entities: Readonly<Record<string, string>> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#39;",
  };
  return text.replace(/[&<>"']/g, (sign) => entities[sign]!);
}
