/** The option `log`: writes events as text or JSON on standard error, or hands them to the user's function. */
import { SamError } from "../errors.ts";
import type { SupervisorEvent } from "../api/events.ts";
import type { Log } from "../api/options.ts";
import { printable, report } from "./report.ts";
import type { Clock, OwnProcess } from "../runtime/runtime.ts";
import { endsWithin } from "./time_limit.ts";

type LinesRuntime = Clock & Pick<OwnProcess, "writeOutput">;

/** How many characters may wait for a reader of standard error. Further lines are counted and dropped. */
const maxWaiting = 256 * 1024;
/** How long the end of supervision waits for the reader of standard error. */
const lastLinesMs = 5000;

/** Lines on standard error. A missing or slow reader holds up nothing. */
export class Lines {
  readonly #runtime: LinesRuntime;
  readonly #encoder = new TextEncoder();
  #waiting = "";
  #dropped = 0;
  #writing: Promise<void> | null = null;

  constructor(runtime: LinesRuntime) {
    this.#runtime = runtime;
  }

  /** Writes a line. */
  readonly write = (line: string): void => {
    // Once one was dropped, all are, until the line that counts them is in its place.
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
        text = `sam: ${this.#dropped} lines are missing here: nobody read standard error\n`;
        this.#dropped = 0;
      }
      try {
        await this.#runtime.writeOutput(2, this.#encoder.encode(text));
      } catch {
        // There is no standard error, and no other place to say so.
      }
    }
    this.#writing = null;
  }

  /** Resolves when all lines have been written, or the reader was too slow for that. */
  async written(): Promise<void> {
    await endsWithin(this.#runtime, this.#writing, lastLinesMs);
  }
}

/** An event as one line of JSON. */
export function eventText(program: string, event: SupervisorEvent): string {
  return JSON.stringify(
    { program, ...event },
    (_key, value: unknown) =>
      value instanceof SamError ? { code: value.code, message: value.message } : value,
  );
}

/** Tells each event as `log` says; `label` goes before each readable line. */
export function logger(
  log: Log,
  program: string,
  label: string,
  write: (line: string) => void,
): (event: SupervisorEvent) => void {
  if (log === "json") return (event) => write(eventText(program, event));
  if (typeof log === "function") {
    // What the user's function throws harms nothing, and is no event: it would be told to the same function.
    const failed = (error: unknown) => write(`sam: the function log failed: ${String(error)}`);
    return (event) => {
      try {
        Promise.resolve(log(event, report(event))).catch(failed);
      } catch (error) {
        failed(error);
      }
    };
  }
  return (event) => {
    for (const line of log === "text" ? report(event) : []) {
      write(`sam: ${printable(label)}${line}`);
    }
  };
}
