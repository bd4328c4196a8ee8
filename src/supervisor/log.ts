/** The option `log`: writes events to standard error as text or JSON, or passes them to the user's function. */
import { SamError } from "../errors.ts";
import type { SupervisorEvent } from "../api/events.ts";
import type { Log } from "../api/options.ts";
import { pidTracker, printable, report } from "./report.ts";
import type { Clock, OwnProcess } from "../runtime/runtime.ts";
import { endsWithin } from "./time_limit.ts";

type LinesRuntime = Clock & Pick<OwnProcess, "writeOutput">;

/** The size of the buffer for a slow reader of standard error, in characters. Further lines are counted and dropped. */
const maxWaiting = 256 * 1024;
/** Time that the end of supervision waits until standard error was read. */
const lastLinesMs = 5000;

/** Writes lines to standard error. A slow or missing reader does not delay the server. */
export class Lines {
  readonly #runtime: LinesRuntime;
  readonly #encoder = new TextEncoder();
  #waiting = "";
  #dropped = 0;
  #writing: Promise<void> | null = null;

  constructor(runtime: LinesRuntime) {
    this.#runtime = runtime;
  }

  readonly write = (line: string): void => {
    // After a dropped line, all lines are dropped until the line with their number was written in their place.
    if (this.#dropped > 0 || this.#waiting.length + line.length > maxWaiting) this.#dropped++;
    else this.#waiting += `${line}\n`;
    this.#writing ??= this.#writeAll();
  };

  async #writeAll(): Promise<void> {
    for (;;) {
      let text = this.#waiting;
      this.#waiting = "";
      if (text === "") {
        if (this.#dropped === 0) break;
        text =
          `sam: ${this.#dropped} lines were dropped here: standard error was not read in time\n`;
        this.#dropped = 0;
      }
      try {
        await this.#runtime.writeOutput(2, this.#encoder.encode(text));
      } catch {
        // Standard error is closed, and there is no other place to report that.
      }
    }
    this.#writing = null;
  }

  /** Resolves when all lines have been written, after 5 s at the latest. */
  async written(): Promise<void> {
    await endsWithin(this.#runtime, this.#writing, lastLinesMs);
  }
}

/** Formats an event as one line of JSON. */
export function eventText(program: string, event: SupervisorEvent): string {
  return JSON.stringify(
    { program, ...event },
    (_key, value: unknown) =>
      value instanceof SamError ? { code: value.code, message: value.message } : value,
  );
}

/** The name of a program in its log lines. */
export interface LogNames {
  /** The name before `(pid 4711)`. Without it, the lines say `instance 2`. */
  readonly name?: string;
  /** The text before a message that does not name the program, or a function that returns it. */
  readonly prefix?: string | (() => string);
}

/** Returns a function that logs the events of one program, as the option `log` asks. `program` is the name in JSON. */
export function logger(
  log: Log,
  program: string,
  { name, prefix = "" }: LogNames,
  write: (line: string) => void,
): (event: SupervisorEvent) => void {
  if (log === "none") return () => {};
  if (log === "json") return (event) => write(eventText(program, event));
  const pidOf = pidTracker();
  const linesOf = (event: SupervisorEvent) => report(event, { name, pid: pidOf(event) });
  if (typeof log === "function") {
    // An error of the user's function is no event: the same function would get it.
    const failed = (error: unknown) => write(`sam: the log function failed: ${String(error)}`);
    return (event) => {
      try {
        Promise.resolve(log(event, linesOf(event))).catch(failed);
      } catch (error) {
        failed(error);
      }
    };
  }
  return (event) => {
    const text = typeof prefix === "string" ? prefix : prefix();
    const before = messages.has(event.type) ? printable(text) : "";
    for (const line of linesOf(event)) write(`sam: ${before}${line}`);
  };
}

/** The events whose log line is a message that need not name the program. */
const messages: ReadonlySet<string> = new Set(["fallback", "problem", "finish"]);
