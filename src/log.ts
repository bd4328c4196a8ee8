/** What the option `log` stands for: who is told what happens, and in which words. */
import { SamError } from "./errors.ts";
import type { SupervisorEvent } from "./events.ts";
import type { Log } from "./options.ts";
import { printable, report } from "./report.ts";

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
