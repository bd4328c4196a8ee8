/** What people read about a program: one line for most events, some more for a recovery. */
import type { Evidence } from "../core/server/types.ts";
import type { SupervisorEvent, SupervisorStatus } from "../api/events.ts";

/** What decides how a state is shown. */
type Shown = Pick<SupervisorStatus, "state" | "ready" | "check">;

/** The state of a program in one word. */
export function stateWord({ state, ready, check }: Shown): string {
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

/** The state of a program, with the programs that it waits for. */
export function stateText(status: Shown & { readonly waitsFor?: readonly string[] }): string {
  const { waitsFor = [] } = status;
  return stateWord(status) + (waitsFor.length > 0 ? ` for ${waitsFor.join(", ")}` : "");
}

/** The lines for an event that matters to whoever reads standard error; none for the others. Safe to show on a terminal. */
export function report(event: SupervisorEvent): readonly string[] {
  return linesOf(event).map(printable);
}

/**
 * A text with its control characters escaped (`\x1b`), line ends too. Notes, errors and output come from the program: they must
 * neither change the terminal of whoever reads them nor look like further lines of ours.
 */
export function printable(text: string): string {
  const code = (sign: string) => sign.charCodeAt(0).toString(16).padStart(2, "0");
  return text.replace(/(?!\t)\p{Cc}/gu, (sign) => `\\x${code(sign)}`);
}

function linesOf(event: SupervisorEvent): readonly string[] {
  const who = `instance ${event.instanceId}`;
  switch (event.type) {
    case "warn":
      return [
        `${who} is given up (${event.reason}: ${
          firstLine(event.detail)
        }); warned by ${event.signal}`,
      ];
    case "kill":
      return [`${who} is killed`];
    case "observed": {
      const { reason, evidence } = event;
      const why = `${reason}: ${firstLine(evidence.detail)}`;
      return [
        `${who} would be given up (${why}); nothing is done, see the option observe`,
        ...details(evidence),
      ];
    }
    case "recovery": {
      const { reason, evidence: { detail } } = event;
      // Of other reasons, the detail was told with the warning.
      const cause = reason === "signal" && detail ? `: ${firstLine(detail)}` : "";
      return [
        `${who} ${endOf(event.evidence)} (${reason}${cause}); ${nextOf(event)}`,
        ...details(event.evidence),
      ];
    }
    case "stopped":
      return ["stopped; sam restart starts it again"];
    case "failed": {
      const { reason, evidence } = event;
      const why = reason === "failed"
        ? "it marked itself failed"
        : "too many recoveries (see the option restart)";
      const last = evidence.detail && `: ${firstLine(evidence.detail)}`;
      return [`giving up: ${why}; at last ${who} ${endOf(evidence)} (${reason}${last})`];
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

function nextOf({ delay, waitsFor }: SupervisorEvent & { readonly type: "recovery" }): string {
  if (delay === null) return "none follows";
  const wait = waitsFor ? `waits for ${waitsFor.join(", ")}` : "";
  if (delay === 0) return `the next one ${wait || "starts at once"}`;
  const start = `the next one starts in ${Math.round(delay)} ms`;
  return wait ? `${start} at the earliest, and ${wait}` : start;
}

function endOf({ exitCode, signal, detail }: Evidence): string {
  if (signal !== null) return `ended by ${signal}`;
  return exitCode !== null ? `ended with exit code ${exitCode}` : `could not be started: ${detail}`;
}

export function firstLine(text: string): string {
  return text.split("\n", 1)[0]!;
}

/** The evidence, indented below the line that it belongs to. */
function details(evidence: Evidence): string[] {
  const { detail, heartbeatAge, processState, stack, noStack, note, output } = evidence;
  const lines = detail.split("\n").slice(1);
  if (heartbeatAge !== null) lines.push(`last sign of life ${Math.round(heartbeatAge)} ms before`);
  if (processState) {
    const { state, waitsIn, cpuMs, memoryBytes, threads } = processState;
    const where = waitsIn === null ? "" : ` in ${waitsIn}`;
    const memory = (memoryBytes / 2 ** 20).toFixed(1);
    lines.push(
      `process ${state}${where}, ${
        (cpuMs / 1000).toFixed(2)
      } s of processor time, ${memory} MiB, ${threads} threads`,
    );
  }
  if (note) {
    lines.push(`noted ${Math.round(note.age)} ms before: ${note.text.replaceAll("\n", " ")}`);
  }
  if (stack !== undefined) lines.push("it was", ...stack.split("\n").map((line) => `  ${line}`));
  if (noStack !== undefined) lines.push(`no stack: ${noStack}`);
  if (output?.length) lines.push("its last output", ...output.map((line) => `  ${line}`));
  return lines.map((line) => `  ${line.trimEnd()}`);
}

/** A time for people: `12 s`, `3 m`, `5 h`, `2 d`. */
export function span(ms: number): string {
  const units = [["d", 86_400_000], ["h", 3_600_000], ["m", 60_000]] as const;
  const unit = units.find(([, length]) => ms >= length);
  return unit
    ? `${Math.floor(ms / unit[1])} ${unit[0]}`
    : `${Math.max(0, Math.round(ms / 1000))} s`;
}
