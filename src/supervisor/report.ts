/** The texts about a program: the log lines of its events, and its state in a word. */
import { nextInstanceId } from "../core/server/instance_record.ts";
import type { Evidence, RecoveryReason } from "../core/server/types.ts";
import type { SupervisorEvent, SupervisorStatus } from "../api/events.ts";

type ShownStatus = Pick<SupervisorStatus, "state" | "ready" | "check">;

/** The state of a program in one word. */
export function stateWord({ state, ready, check }: ShownStatus): string {
  switch (state) {
    case "pending":
      return "waiting";
    case "idle":
    case "spawning":
      return "starting";
    case "launched":
    case "registered":
    case "started":
      return ready ? "ready" : check === "failing" ? "unhealthy" : "starting";
    case "warned":
    case "killing":
      return "recovering";
    default:
      return state;
  }
}

/** The state of a program, and what it waits for: `waiting for db`, `ready, reloading`. */
export function stateText(
  status: ShownStatus & { readonly waitsFor?: readonly string[]; readonly replacement?: object },
): string {
  const { waitsFor = [], replacement } = status;
  return stateWord(status) + (waitsFor.length > 0 ? ` for ${waitsFor.join(", ")}` : "") +
    (replacement ? ", reloading" : "");
}

/** The program that an event is about, as its log lines call it. */
export interface Subject {
  /** The name of the program. Without a name, the lines say `instance 2`. */
  readonly name?: string | undefined;
  /** The process id of the instance. */
  readonly pid?: number | undefined;
}

/** The log lines of an event, safe to show on a terminal; none for most events. */
export function report(event: SupervisorEvent, subject: Subject = {}): readonly string[] {
  return linesOf(event, subject).map(printable);
}

/** Returns a function that takes each event of a program in turn, and returns the process id of its instance, if known. */
export function pidTracker(): (event: SupervisorEvent) => number | undefined {
  type Known = { readonly pid: number | null; readonly instanceId: number };
  let known: Known | undefined;
  let before: Known | undefined; // after a reload, the old instance has events, too
  return (event) => {
    // The process of a spare is the instance only after the promotion. That of a failed reload never is, nor is a worker.
    const isOther = event.type === "spare"
      ? event.state !== "promoted"
      : event.type === "reloadFailed" || event.type === "member";
    if ("pid" in event && !isOther) {
      if (known?.instanceId !== event.instanceId) before = known;
      known = event;
    }
    return [known, before].find((each) => each?.instanceId === event.instanceId)?.pid ?? undefined;
  };
}

/**
 * Escapes the control characters of a text, line ends included: `\x1b`. Notes, errors and output come from the program. They
 * must neither change the reader's terminal nor look like log lines of SAM.
 */
export function printable(text: string): string {
  const code = (sign: string) => sign.charCodeAt(0).toString(16).padStart(2, "0");
  return text.replace(/(?!\t)\p{Cc}/gu, (sign) => `\\x${code(sign)}`);
}

function linesOf(event: SupervisorEvent, { name, pid }: Subject): readonly string[] {
  const { instanceId } = event;
  const instance = name ?? `instance ${instanceId}`;
  const program = name ?? "the program";
  const label = pid === undefined ? instance : `${instance} (pid ${pid})`;
  switch (event.type) {
    case "register": {
      const { command, pid, startedBy } = event;
      return command === undefined
        ? []
        : [`watching ${command} (pid ${pid}), started by ${startedBy}`];
    }
    case "check": {
      // The other checks are made again and again, and their events are too many for a log.
      if (event.action !== "report") return [];
      return [`${label} is ${event.healthy ? "healthy again" : `unhealthy: ${event.detail}`}`];
    }
    case "warn": {
      // A warning by SIGKILL is a kill, which has a line of its own.
      const sent = event.signal === "SIGKILL" ? "" : `; sent ${event.signal}`;
      return [`${label} ${failureOf(event.reason, event.detail)}${sent}`];
    }
    case "kill":
      return [`${label} was sent SIGKILL`];
    case "observed": {
      const failure = failureOf(event.reason, event.evidence.detail, "would be ended");
      return [
        `${label} ${failure}; no signal was sent, because the option observe is on`,
        ...details(event.evidence),
      ];
    }
    case "member": {
      const failure = failureOf(event.reason, event.evidence.detail);
      const end = event.evidence.signal === null
        ? "no signal was sent, because the option observe is on"
        : "killed";
      return [
        `worker (pid ${event.pid}) of ${program} ${failure}; ${end}`,
        ...details(event.evidence),
      ];
    }
    case "recovery": {
      const hasEnded = event.evidence.exitCode !== null || event.evidence.signal !== null;
      return [
        `${hasEnded ? label : instance} ${endOf(event.reason, event.evidence)}; ${nextOf(event)}`,
        ...details(event.evidence),
      ];
    }
    case "reload":
      if (event.reason !== "requested") return [`${label} ${event.detail}; replacing it`];
      return [`${label} is being reloaded; it goes on until its replacement has proved itself`];
    case "reloaded":
      return [
        `${program} was reloaded: the new process (pid ${event.pid}) has replaced instance ${event.replaced}`,
      ];
    case "reloadFailed": {
      const replacement = event.pid === null
        ? "the replacement"
        : `the replacement (pid ${event.pid})`;
      const stays = event.kept ? `; instance ${instanceId} stays` : "";
      return [
        `${program} was not reloaded: ${replacement} ${firstLine(event.detail)}${stays}`,
        ...(event.evidence ? details(event.evidence) : []),
      ];
    }
    case "stopped": {
      const command = name === undefined ? "sam restart" : `sam restart ${name}`;
      return [`${program} was stopped; ${command} starts it again`];
    }
    case "failed": {
      if (event.reason === "failed") {
        return [`${program} marked itself failed and is not restarted`];
      }
      const end = `its last instance, number ${instanceId}, ${endOf(event.reason, event.evidence)}`;
      return [
        `${program} reached its restart limit (set by --restart-intensity or restart.intensity): ${end}`,
      ];
    }
    case "finish":
      return event.status.error ? [event.status.error.message] : [];
    case "fallback":
      return [event.detail];
    case "problem":
      return [event.error.message];
    default:
      return [];
  }
}

/** Says what is wrong with a process that still runs. `other` is for a reason that lies outside the process, such as quorum. */
function failureOf(reason: RecoveryReason, detail: string, other = "is being ended"): string {
  const failures: Partial<Record<RecoveryReason, string>> = {
    timeout: "stopped responding",
    unhealthy: "is unhealthy",
    startup: "failed to start",
  };
  const cause = firstLine(detail);
  return (failures[reason] ?? other) + (cause && `: ${cause}`);
}

/** Says how a process ended: `ended by SIGKILL`. */
export function endingOf(code: number | null, signal: string | null): string {
  return signal === null ? `ended with exit code ${code}` : `ended by ${signal}`;
}

/** Says how an instance ended, and after which failure. */
export function endOf(reason: RecoveryReason, { exitCode, signal, detail }: Evidence): string {
  if (signal === null && exitCode === null) return `could not be started: ${firstLine(detail)}`;
  const how = endingOf(exitCode, signal);
  switch (reason) {
    case "timeout":
      return `${how} after it stopped responding`;
    case "unhealthy":
      return `${how} after it became unhealthy`;
    case "quorum":
      return `${how} after the cluster lost quorum`;
    case "startup":
      return `${how} while it was starting`;
    case "failed":
      return `${how} after it called markFailed()`;
    case "signal":
      return how + (detail && ` (${firstLine(detail)})`);
    case "exit":
      return how;
  }
}

function nextOf(event: SupervisorEvent & { readonly type: "recovery" }): string {
  const { delay, waitsFor, nextInstanceId: nextId = nextInstanceId(event.instanceId) } = event;
  if (delay === null) return "it is not restarted";
  const next = `instance ${nextId}`;
  const others = waitsFor?.join(", ");
  if (delay === 0) return others ? `${next} waits for ${others}` : `${next} starts now`;
  const start = `${next} starts in ${Math.round(delay)} ms`;
  return others ? `${start} at the earliest, and waits for ${others}` : start;
}

export function firstLine(text: string): string {
  return text.split("\n", 1)[0]!;
}

/** The evidence, indented. It follows the line of its event. */
function details(evidence: Evidence): string[] {
  const { detail, heartbeatAge, processState, stack, noStack, note, output } = evidence;
  const lines = detail.split("\n").slice(1);
  if (heartbeatAge !== null) {
    lines.push(`last heartbeat ${Math.round(heartbeatAge)} ms before the failure`);
  }
  if (processState) {
    const { state, waitsIn, cpuMs, memoryBytes, threads } = processState;
    const where = waitsIn === null ? "" : ` in ${waitsIn}`;
    const memory = (memoryBytes / 2 ** 20).toFixed(1);
    lines.push(
      `process: ${state}${where}, ${
        (cpuMs / 1000).toFixed(2)
      } s of CPU time, ${memory} MiB, ${threads} thread${threads === 1 ? "" : "s"}`,
    );
  }
  if (note) {
    lines.push(
      `note, ${Math.round(note.age)} ms before the failure: ${note.text.replaceAll("\n", " ")}`,
    );
  }
  if (stack !== undefined) lines.push("stack:", ...stack.split("\n").map((line) => `  ${line}`));
  if (noStack !== undefined) lines.push(`no stack: ${noStack}`);
  if (output?.length) lines.push("last output:", ...output.map((line) => `  ${line}`));
  return lines.map((line) => `  ${line.trimEnd()}`);
}

/** A duration in its largest unit: `12 s`, `3 m`, `5 h`, `2 d`. */
export function span(ms: number): string {
  const units = [["d", 86_400_000], ["h", 3_600_000], ["m", 60_000]] as const;
  const unit = units.find(([, length]) => ms >= length);
  return unit
    ? `${Math.floor(ms / unit[1])} ${unit[0]}`
    : `${Math.max(0, Math.round(ms / 1000))} s`;
}
