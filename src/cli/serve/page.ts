/** The status page, in pieces: the browser puts the content of each piece into the element with its id. */
import type { Evidence, RecoveryReason } from "../../core/server/types.ts";
import type { SupervisorEvent } from "../../api/events.ts";
import { firstLine, report, span, stateWord } from "../../supervisor/report.ts";
import type { Entry } from "./journal.ts";
import type { ProgramStatus, ServerStatus } from "../control/status.ts";

/** The most instances of a program that are shown. */
const maxLives = 20;
/** A program that failed in this time needs attention, whatever its state is now. */
const recentMinutes = 5;
/** A heartbeat with less than a quarter of the time interval left is a near miss: see the buckets of `Slack`. */
const firstNearMiss = 2;

type Failure = SupervisorEvent & { readonly type: "recovery" | "observed" };

/** One instance, by its events. */
interface Life {
  readonly instanceId: number;
  pid: number | null;
  /** The time of its start; null if that event is no longer kept. */
  from: number | null;
  to: number | null;
  /** The reason of its end; empty while it runs. */
  end: string;
  failure: Failure | null;
}

/** A program with its past. */
interface View {
  readonly at: number;
  readonly program: ProgramStatus;
  readonly lives: readonly Life[];
  readonly word: string;
  readonly isTroubled: boolean;
  /** The present problem, else the last one of the recent minutes; may be empty. */
  readonly problem: string;
}

/** The start of this server. */
const begun = Date.now();

/** The pieces of the page, by their ids. Their order is that of the page. */
export function pieces(
  status: ServerStatus,
  entries: readonly Entry[],
): ReadonlyMap<string, string> {
  const views = status.programs.map((program, at) => viewOf(program, at, entries));
  const troubled = views.filter(({ isTroubled }) => isTroubled);
  const ordered = [...troubled, ...views.filter(({ isTroubled }) => !isTroubled)];
  const count = troubled.length > 0 ? `(${troubled.length}) ` : "";
  const all = new Map([
    ["title", `${count}${escaped(status.name)} – sam`],
    ["server", `process ${status.pid}, ${status.strategy}, since ${clock(begun)}`],
    ["clock", clock(Date.now())],
    ["summary", summary(views, troubled)],
    ["programs", ordered.map(({ at }) => `p${at}`).join(" ")],
  ]);
  for (const view of ordered) {
    const id = `p${view.at}-`;
    all.set(`${id}row`, row(view));
    all.set(`${id}now`, facts(view.program));
    all.set(`${id}time`, timeline(view.lives, Date.now()));
    all.set(`${id}instances`, instances(view));
  }
  return all;
}

/** The whole page. */
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

/** The report on an instance, at the address that its row has; undefined where there is none. */
export function reportAt(
  path: string,
  status: ServerStatus,
  entries: readonly Entry[],
): string | undefined {
  const [, at, id] = /^\/report\/(\d+)\/(\d+)$/.exec(path) ?? [];
  const program = status.programs[Number(at)];
  const failure = program &&
    livesOf(program, entries).find(({ instanceId }) => instanceId === Number(id))?.failure;
  return failure ? `${clock(failure.at)} ${report(failure).join("\n")}\n` : undefined;
}

function viewOf(program: ProgramStatus, at: number, entries: readonly Entry[]): View {
  const lives = livesOf(program, entries);
  const word = stateWord(program);
  const now = Date.now();
  let [wrong, recent, failures] = ["", "", 0];
  for (const { program: name, event } of entries) {
    if (name !== program.name) continue;
    if (isFailure(event)) {
      wrong = "";
      if (event.at < now - recentMinutes * 60_000) continue;
      const last = `last ${span(now - event.at)} ago: ${cause(event)}`;
      recent = `${counted(++failures, "failure")} in ${recentMinutes} min, ${last}`;
    } else if (event.type === "warn" || event.type === "check") {
      wrong = headline(event.detail); // empty where a check has passed
    }
  }
  const isTroubled = !["finished", "stopped"].includes(word) &&
    (failures > 0 || ["unhealthy", "recovering", "backoff"].includes(word));
  return { at, program, lives, word, isTroubled, problem: wrong || recent };
}

function isFailure(event: SupervisorEvent): event is Failure {
  return event.type === "recovery" || event.type === "observed";
}

/** The troubled programs by name, and how many there are in each state. */
function summary(views: readonly View[], troubled: readonly View[]): string {
  const counts = new Map<string, number>();
  for (const { word } of views) counts.set(word, (counts.get(word) ?? 0) + 1);
  const names = troubled.map(({ program }) => escaped(program.name)).join(", ");
  return `<b class="${names ? "ill" : "well"}">${
    names ? `Needs attention: ${names}` : "Nothing needs attention"
  }</b> · ${[...counts].map(([word, count]) => `${count} ${word}`).join(", ")}`;
}

/** The row of a program, which is visible while its details are folded. */
function row({ program, problem, word, isTroubled }: View): string {
  const { name, uptime, memory, restarts, waitsFor = [] } = program;
  const shown = [
    waitsFor.length > 0 && `for ${escaped(waitsFor.join(", "))}`,
    restarts > 0 && counted(restarts, "restart"),
    uptime !== null && `up ${span(uptime)}`,
    memory !== null && `${(memory / 2 ** 20).toFixed(0)} MiB`,
  ];
  const kind = word === "ready" ? "well" : isTroubled ? "ill" : "";
  return `<span class="state ${kind}">${word}</span><h2>${escaped(name)}</h2><b class="ill">${
    isTroubled ? escaped(problem) : ""
  }</b><span>${shown.filter(Boolean).join(" · ")}</span>`;
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** The figures of a program, and its near misses. */
function facts(program: ProgramStatus): string {
  const { pid, instanceId, heartbeatAge, dataSize, spare, slack } = program;
  return list([
    ["process", pid],
    ["instance", instanceId],
    ["last heartbeat", heartbeatAge === null ? null : `${Math.round(heartbeatAge)} ms ago`],
    ["stored data", dataSize === 0 ? null : `${dataSize} bytes`],
    ["spare", spare?.state ?? null],
  ]) + nearMisses(slack);
}

function list(facts: readonly (readonly [name: string, value: string | number | null])[]): string {
  const items = facts.filter(([, value]) => value !== null)
    .map(([name, value]) => `<div><dt>${name}</dt><dd>${value}</dd></div>`);
  return `<dl>${items.join("")}</dl>`;
}

/** One line, and if there are near misses, how often each share of the time interval was left. */
function nearMisses({ count, min, buckets }: ProgramStatus["slack"]): string {
  if (count === 0) return "";
  const near = buckets.slice(firstNearMiss).reduce((sum, { count }) => sum + count, 0);
  const left = min! < 0
    ? `the latest came ${Math.round(-min!)} ms late`
    : `the least time left was ${Math.round(min!)} ms`;
  const text = `near ${near === 1 ? "miss" : "misses"} in ${counted(count, "heartbeat")}: ${left}`;
  if (near === 0) return `<p>No ${text}</p>`;
  return `<p class="ill">${near} ${text}</p>${
    list(buckets.map(({ from, count }) => [
      from === null ? "late" : from === 0 ? "less left" : `1/${1 / from} or more left`,
      count || null,
    ]))
  }`;
}

/** The last instances of a program, the oldest first, and before them the last one with a stack. */
function livesOf(program: ProgramStatus, entries: readonly Entry[]): readonly Life[] {
  const { name, instanceId, pid, spawnedAt, lastRecovery } = program;
  const lives = new Map<number, Life>();
  const lifeOf = (instanceId: number) => {
    let life = lives.get(instanceId);
    if (!life) {
      lives.set(
        instanceId,
        life = { instanceId, pid: null, from: null, to: null, end: "", failure: null },
      );
    }
    return life;
  };
  const hear = (event: SupervisorEvent) => {
    const { type, at, instanceId } = event;
    if (type === "spawn" || (type === "spare" && event.state === "promoted")) {
      Object.assign(lifeOf(instanceId), { pid: event.pid, from: at });
    } else if (type === "exit") {
      const life = lifeOf(instanceId);
      life.to = at;
      life.end ||= event.signal ?? `exit code ${event.code}`;
    } else if (type === "stopping") lifeOf(instanceId).end = "stopped";
    else if (isFailure(event)) {
      const life = lifeOf(instanceId);
      life.failure = event;
      if (type === "observed") return;
      life.to ??= at;
      life.end = cause(event);
    }
  };
  if (lastRecovery) hear({ type: "recovery", ...lastRecovery }); // its event may no longer be kept
  for (const { program, event } of entries) if (program === name) hear(event);
  if (pid && spawnedAt && !lives.has(instanceId)) {
    Object.assign(lifeOf(instanceId), { pid, from: spawnedAt });
  }
  const all = [...lives.values()].sort((a, b) => a.instanceId - b.instanceId);
  const stack = all.slice(0, -maxLives).findLast(({ failure }) => failure?.evidence.stack);
  return [...(stack ? [stack] : []), ...all.slice(-maxLives)];
}

/** The reason for which an instance was, or would have been, replaced. */
function cause(
  { reason, evidence }: { readonly reason: RecoveryReason; readonly evidence: Evidence },
): string {
  const { detail, exitCode, signal } = evidence;
  if (reason === "exit") return `exit code ${exitCode}`;
  if (reason === "signal") return String(signal);
  return detail === "" ? reason : `${reason}: ${headline(detail)}`;
}

/** The first words of a detail. The report has all of them; a page of many programs has to stay small. */
function headline(detail: string): string {
  return firstLine(detail).slice(0, 200);
}

/** A bar for each instance on a line of time, with a scale and a legend. */
function timeline(all: readonly Life[], until: number): string {
  const lives = all.slice(-maxLives).filter(({ from }) => from !== null);
  if (lives.length === 0) return "";
  const begin = lives[0]!.from!;
  const x = (at: number) => (at - begin) / Math.max(1, until - begin) * 1000;
  const marks = lives.map(({ from, to, end, failure }) => {
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

/** The instances, the newest first; each that failed has its report. */
function instances({ at, lives }: View): string {
  const rows = lives.map(({ instanceId, pid, from, to, end, failure }) => {
    const times = [
      from === null ? `until ${clock(to!)}` : `since ${clock(from)}`,
      from !== null && to !== null ? `for ${span(to - from)}` : "",
      pid === null ? "" : `pid ${pid}`,
    ].filter((text) => text !== "");
    const how = to !== null ? end : failure ? `running; observed ${cause(failure)}` : "running";
    const text = `<b>${instanceId}</b><span>${escaped(how)}</span><span>${times.join(", ")}</span>`;
    return failure
      ? `<details><summary>${text}</summary><pre><a href="report/${at}/${instanceId}">report</a></pre></details>`
      : `<div class="live">${text}</div>`;
  });
  return `<h3>Instances</h3>${rows.reverse().join("")}`;
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
