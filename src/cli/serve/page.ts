/** The status page, in pieces: the browser puts each piece into the element with its id. */
import type { Evidence, RecoveryReason } from "../../core/server/types.ts";
import type { SupervisorEvent } from "../../api/events.ts";
import { firstLine, report, span, stateWord } from "../../supervisor/report.ts";
import type { Entry } from "./journal.ts";
import type { ProgramStatus, ServerStatus } from "../control/status.ts";

/** The number of instances that the page shows for each program. */
const maxInstances = 20;
/** A program that failed within this time needs attention, whatever its state is now. */
const recentMinutes = 5;
/** The first bucket of `Slack` with near misses: heartbeats with less than a quarter of the time interval left. */
const firstNearMiss = 2;

type Failure = SupervisorEvent & { readonly type: "recovery" | "observed" };

/** The past of one instance, collected from its events. */
interface InstanceHistory {
  readonly instanceId: number;
  pid: number | null;
  /** The time of its start; null if the journal no longer has that event. */
  from: number | null;
  to: number | null;
  /** The reason of its end; empty while it runs. */
  end: string;
  failure: Failure | null;
}

/** A program with its past. */
interface View {
  /** The position of the program in the configuration. */
  readonly at: number;
  readonly program: ProgramStatus;
  readonly instances: readonly InstanceHistory[];
  /** The state of the program, in one word. */
  readonly word: string;
  readonly needsAttention: boolean;
  /** The present problem, or else the last one of the recent minutes; empty if there is none. */
  readonly problem: string;
}

const serverStartedAt = Date.now();

/** Renders the pieces of the page. Returns them by their ids, in the order of the page. */
export function pieces(
  status: ServerStatus,
  entries: readonly Entry[],
): ReadonlyMap<string, string> {
  const views = status.programs.map((program, at) => viewOf(program, at, entries));
  const troubled = views.filter(({ needsAttention }) => needsAttention);
  const ordered = [...troubled, ...views.filter(({ needsAttention }) => !needsAttention)];
  const count = troubled.length > 0 ? `(${troubled.length}) ` : "";
  const all = new Map([
    ["title", `${count}${escaped(status.name)} – sam`],
    [
      "server",
      `process ${status.pid}, strategy ${status.strategy}, running since ${clock(serverStartedAt)}`,
    ],
    ["clock", clock(Date.now())],
    ["summary", summary(views, troubled)],
    ["programs", ordered.map(({ at }) => `p${at}`).join(" ")],
  ]);
  for (const view of ordered) {
    const id = `p${view.at}-`;
    all.set(`${id}row`, row(view));
    all.set(`${id}now`, facts(view.program));
    all.set(`${id}time`, timeline(view.instances, Date.now()));
    all.set(`${id}instances`, instanceRows(view));
  }
  return all;
}

/** Renders the whole page. */
export function page(status: ServerStatus, entries: readonly Entry[]): string {
  const rendered = pieces(status, entries);
  const place = (tag: string, id: string) => `<${tag} id="${id}">${rendered.get(id)}</${tag}>`;
  const programs = rendered.get("programs")!.split(" ").map((id) =>
    `<details id="${id}">
${place("summary", `${id}-row`)}
${place("div", `${id}-now`)}
${place("div", `${id}-time`)}
${place("div", `${id}-instances`)}
</details>`
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
${place("title", "title")}
<link rel="icon" href="data:,">
<link rel="stylesheet" href="page.css">
<script src="page.js" defer></script>
<noscript><meta http-equiv="refresh" content="5"></noscript>
</head>
<body>
<p id="lost" role="alert"></p>
<header>
<h1>${escaped(status.name)}</h1>
<div id="summary" role="status">${rendered.get("summary")}</div>
<p>${place("span", "server")} · as of ${place("span", "clock")}</p>
</header>
<main id="programs">
${programs.join("\n")}
</main>
</body>
</html>
`;
}

/** Returns the report that the row of an instance links to; undefined if there is none at this path. */
export function reportAt(
  path: string,
  status: ServerStatus,
  entries: readonly Entry[],
): string | undefined {
  const [, at, id] = /^\/report\/(\d+)\/(\d+)$/.exec(path) ?? [];
  const program = status.programs[Number(at)];
  const failure = program &&
    historyOf(program, entries).find(({ instanceId }) => instanceId === Number(id))?.failure;
  return failure ? `${clock(failure.at)} ${report(failure).join("\n")}\n` : undefined;
}

function viewOf(program: ProgramStatus, at: number, entries: readonly Entry[]): View {
  const instances = historyOf(program, entries);
  const word = stateWord(program);
  const now = Date.now();
  let [present, recent, failures] = ["", "", 0];
  for (const { program: name, event } of entries) {
    if (name !== program.name) continue;
    if (isFailure(event)) {
      present = "";
      if (event.at < now - recentMinutes * 60_000) continue;
      const last = `last ${span(now - event.at)} ago: ${cause(event)}`;
      recent = `${counted(++failures, "failure")} in ${recentMinutes} min, ${last}`;
    } else if (event.type === "warn" || event.type === "check") {
      present = headline(event.detail); // empty if a check passed
    }
  }
  const needsAttention = !["finished", "stopped"].includes(word) &&
    (failures > 0 || ["unhealthy", "recovering", "backoff"].includes(word));
  return { at, program, instances, word, needsAttention, problem: present || recent };
}

function isFailure(event: SupervisorEvent): event is Failure {
  return event.type === "recovery" || event.type === "observed";
}

/** Renders the names of the programs that need attention, and the number of programs in each state. */
function summary(views: readonly View[], troubled: readonly View[]): string {
  const counts = new Map<string, number>();
  for (const { word } of views) counts.set(word, (counts.get(word) ?? 0) + 1);
  const names = troubled.map(({ program }) => escaped(program.name)).join(", ");
  return `<b class="${names ? "ill" : "well"}">${
    names ? `Needs attention: ${names}` : "Nothing needs attention"
  }</b> · ${[...counts].map(([word, count]) => `${count} ${word}`).join(", ")}`;
}

/** Renders the row of a program, which is visible while its details are closed. */
function row({ program, problem, word, needsAttention }: View): string {
  const { name, uptime, memory, restarts, waitsFor = [] } = program;
  const shown = [
    waitsFor.length > 0 && `waits for ${escaped(waitsFor.join(", "))}`,
    program.replacement && "reloading",
    restarts > 0 && counted(restarts, "restart"),
    uptime !== null && `up ${span(uptime)}`,
    memory !== null && `${(memory / 2 ** 20).toFixed(0)} MiB`,
  ];
  const kind = word === "ready" ? "well" : needsAttention ? "ill" : "";
  return `<span class="state ${kind}">${word}</span><h2>${escaped(name)}</h2><b class="ill">${
    needsAttention ? escaped(problem) : ""
  }</b><span>${shown.filter(Boolean).join(" · ")}</span>`;
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** Renders the figures of a program, and its near misses. */
function facts(program: ProgramStatus): string {
  const { pid, instanceId, heartbeatAge, dataSize, spare, slack, replacement, members } = program;
  return list([
    ["process", pid],
    ["instance", instanceId],
    ["last heartbeat", heartbeatAge === null ? null : `${Math.round(heartbeatAge)} ms ago`],
    ["watched workers", members.length || null],
    ["stored data", dataSize === 0 ? null : `${dataSize} bytes`],
    ["spare", spare?.state ?? null],
    ["replacement", replacement ? (replacement.ready ? "proves itself" : "starting") : null],
  ]) + nearMisses(slack);
}

function list(facts: readonly (readonly [name: string, value: string | number | null])[]): string {
  const items = facts.filter(([, value]) => value !== null)
    .map(([name, value]) => `<div><dt>${name}</dt><dd>${value}</dd></div>`);
  return `<dl>${items.join("")}</dl>`;
}

/** Renders one line about near misses. If there are any, adds the number of heartbeats for each share of the time left. */
function nearMisses({ count, min, buckets }: ProgramStatus["slack"]): string {
  if (count === 0) return "";
  const near = buckets.slice(firstNearMiss).reduce((sum, { count }) => sum + count, 0);
  const left = min! < 0
    ? `the latest came ${Math.round(-min!)} ms after its deadline`
    : `the closest came ${Math.round(min!)} ms before its deadline`;
  const text = `Near misses: ${near} of ${counted(count, "heartbeat")}; ${left}`;
  if (near === 0) return `<p>${text}</p>`;
  return `<p class="ill">${text}</p>${
    list(buckets.map(({ from, count }) => [
      from === null ? "late" : from === 0 ? "less than 1/64 left" : `1/${1 / from} or more left`,
      count || null,
    ]))
  }`;
}

/** Returns the last instances of a program, the oldest first. Keeps an older one if it has the last failure with a stack. */
function historyOf(program: ProgramStatus, entries: readonly Entry[]): readonly InstanceHistory[] {
  const { name, instanceId, pid, spawnedAt, lastRecovery } = program;
  const histories = new Map<number, InstanceHistory>();
  const recordOf = (instanceId: number) => {
    let history = histories.get(instanceId);
    if (!history) {
      histories.set(
        instanceId,
        history = { instanceId, pid: null, from: null, to: null, end: "", failure: null },
      );
    }
    return history;
  };
  const record = (event: SupervisorEvent) => {
    const { type, at, instanceId } = event;
    if (
      type === "spawn" || type === "reloaded" || (type === "spare" && event.state === "promoted")
    ) {
      Object.assign(recordOf(instanceId), { pid: event.pid, from: at });
    } else if (type === "exit") {
      const history = recordOf(instanceId);
      history.to = at;
      history.end ||= event.signal ?? `exit code ${event.code}`;
    } else if (type === "reload" && event.reason !== "requested") {
      recordOf(instanceId).end = event.reason;
    } else if (type === "reloadFailed") recordOf(instanceId).end = "";
    else if (type === "stopping") recordOf(instanceId).end ||= "stopped";
    else if (isFailure(event)) {
      const history = recordOf(instanceId);
      history.failure = event;
      if (type === "observed") return;
      history.to ??= at;
      history.end = cause(event);
    }
  };
  if (lastRecovery) record({ type: "recovery", ...lastRecovery }); // the journal may no longer have its event
  for (const { program, event } of entries) if (program === name) record(event);
  if (pid && spawnedAt && !histories.has(instanceId)) {
    Object.assign(recordOf(instanceId), { pid, from: spawnedAt });
  }
  const all = [...histories.values()].sort((a, b) => a.instanceId - b.instanceId);
  const stack = all.slice(0, -maxInstances).findLast(({ failure }) => failure?.evidence.stack);
  return [...(stack ? [stack] : []), ...all.slice(-maxInstances)];
}

/** Returns the reason why an instance was replaced, or would have been without the option `observe`. */
function cause(
  { reason, evidence }: { readonly reason: RecoveryReason; readonly evidence: Evidence },
): string {
  const { detail, exitCode, signal } = evidence;
  if (reason === "exit") return `exit code ${exitCode}`;
  if (reason === "signal") return String(signal);
  return detail === "" ? reason : `${reason}: ${headline(detail)}`;
}

/** Shortens a detail. The report has the whole text, but a page of many programs must stay small. */
function headline(detail: string): string {
  return firstLine(detail).slice(0, 200);
}

/** Renders a timeline with a bar for each instance, a scale and a legend. */
function timeline(all: readonly InstanceHistory[], until: number): string {
  const shown = all.slice(-maxInstances).filter(({ from }) => from !== null);
  if (shown.length === 0) return "";
  const begin = shown[0]!.from!;
  const x = (at: number) => (at - begin) / Math.max(1, until - begin) * 1000;
  const marks = shown.map(({ from, to, end, failure }) => {
    const [left, right] = [x(from!), x(to ?? until)];
    const width = Math.max(1, right - left).toFixed(1);
    const bar = `<rect x="${left.toFixed(1)}" width="${width}" y="6" height="12"></rect>`;
    return failure && end ? `${bar}<path d="M${right.toFixed(1)} 0v24"></path>` : bar;
  });
  const svg = (kind: string, width: number, content: string) =>
    `<svg class="${kind}" viewBox="0 0 ${width} 24" preserveAspectRatio="none" aria-hidden="true">${content}</svg>`;
  return `${svg("time", 1000, marks.join(""))}
<p class="scale"><span>${clock(begin)}</span><span>${
    clock((begin + until) / 2)
  }</span><span>now</span></p>
<p class="key">${svg("", 24, '<rect y="6" width="24" height="12"></rect>')} running ${
    svg("", 24, '<path d="M12 0v24"></path>')
  } failed · gap: no process</p>`;
}

/** Renders the rows of the instances, the newest first. An instance that failed links to its report. */
function instanceRows({ at, instances }: View): string {
  const rows = instances.map(({ instanceId, pid, from, to, end, failure }) => {
    const times = [
      from === null ? `until ${clock(to!)}` : `since ${clock(from)}`,
      from !== null && to !== null ? `for ${span(to - from)}` : "",
      pid === null ? "" : `pid ${pid}`,
    ].filter((text) => text !== "");
    const how = to !== null
      ? end
      : failure
      ? `still running after a failure: ${cause(failure)}`
      : "running";
    const text = `<b>${instanceId}</b><span>${escaped(how)}</span><span>${times.join(", ")}</span>`;
    return failure
      ? `<details><summary>${text}</summary><pre><a href="report/${at}/${instanceId}">report</a></pre></details>`
      : `<div class="live">${text}</div>`;
  });
  return `<h3>Instances</h3>${rows.reverse().join("")}`;
}

/** Returns the time of day by the server's clock, with the date if that is not today. */
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
