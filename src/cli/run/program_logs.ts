/** The log lines of `sam run`: the events of each program, and warnings about what SAM cannot do for it. */
import type { SupervisorEvent } from "../../api/events.ts";
import { childWithSameExecutable } from "../../runtime/procfs.ts";
import type { Clock, SystemFiles } from "../../runtime/runtime.ts";
import type { Fleet } from "../../supervisor/fleet.ts";
import type { FleetProgram } from "../../supervisor/fleet_program.ts";
import { logger } from "../../supervisor/log.ts";

/** The logger of one program, and the value of `log` for which it was made. */
interface ProgramLog {
  readonly log: FleetProgram["options"]["log"];
  readonly write: (event: SupervisorEvent) => void;
}

/** The delay of the search for child processes. Programs usually start the process that does the work within this time. */
const childrenAfterMs = 1500;

/** The delay of the warning that no process below a wrapper is watched. It is longer than the time after which one is. */
const unwatchedAfterMs = 40_000;

/** Time for which a wrapper may go on after its program. */
const wrapperEndsMs = 2000;

/** Writes the log lines of the programs. They may come, go and change. */
export class ProgramLogs {
  readonly #runtime: Clock & SystemFiles;
  readonly #writeLine: (line: string) => void;
  readonly #logs = new Map<string, ProgramLog>();
  /** The programs in which SAM has not yet looked for an unwatched child process. */
  readonly #unchecked = new Set<string>();
  /** The wrappers whose first process has not started yet. */
  readonly #wrappers = new Set<string>();
  #programs: readonly FleetProgram[] = [];

  constructor(runtime: Clock & SystemFiles, writeLine: (line: string) => void) {
    this.#runtime = runtime;
    this.#writeLine = writeLine;
  }

  /** Takes the programs at the start, and after a reload of the configuration. Writes the warnings about new ones. */
  set programs(programs: readonly FleetProgram[]) {
    const known = new Set(this.#programs.map(serviceOf));
    this.#programs = programs;
    for (const each of programs) {
      const service = serviceOf(each);
      if (isPreloaded(each) && !this.#logs.has(each.name)) this.#unchecked.add(each.name);
      if (each.program.wrapper && !this.#logs.has(each.name)) this.#wrappers.add(each.name);
      if (known.has(service)) continue;
      known.add(service);
      this.#warn(each.name, unwatchedWarning(each));
      this.#warn(each.name, unlistenedWarning(each));
    }
  }

  /** Writes the lines of an event. */
  hear(fleet: Fleet, name: string, event: SupervisorEvent): void {
    this.#write(name, event);
    if (event.type === "spawn" && this.#wrappers.delete(name)) {
      this.#runtime.schedule(() => this.#warnOfWrapper(fleet, name), unwatchedAfterMs, false);
    }
    if (event.type === "stop") {
      this.#runtime.schedule(() => this.#warnOfWrapper(fleet, name, true), wrapperEndsMs, false);
    }
    if (event.type !== "start" || !this.#unchecked.delete(name)) return;
    this.#runtime.schedule(
      () => {
        if (!fleet.names.includes(name)) return;
        const { pid } = fleet.supervisor(name).status;
        const twin = pid === null ? undefined : childWithSameExecutable(this.#runtime, pid);
        if (twin !== undefined) {
          this.#warn(name, unwatchedChildWarning(pid!, twin), event.instanceId);
        }
      },
      childrenAfterMs,
      false,
    );
  }

  /** Warns if SAM watches only a wrapper, because no process below it has proved to be the program, or the program has ended. */
  #warnOfWrapper(fleet: Fleet, name: string, hasEnded = false): void {
    const program = this.#programs.find((each) => each.name === name);
    if (program === undefined || !fleet.names.includes(name)) return;
    const { state, instanceId } = fleet.supervisor(name).status;
    const { program: { wrapper }, options } = program;
    if (!wrapper || options.check !== undefined || state !== "launched") return;
    this.#warn(name, hasEnded ? goesOn(program) : cannotDetect(program), instanceId);
  }

  #warn(name: string, detail: string | undefined, instanceId = 1): void {
    if (!detail) return;
    this.#write(name, { type: "fallback", side: "server", detail, at: Date.now(), instanceId });
  }

  #write(name: string, event: SupervisorEvent): void {
    const program = this.#programs.find((each) => each.name === name);
    let own = this.#logs.get(name);
    if (program && own?.log !== program.options.log) {
      const prefix = () => this.#programs.length > 1 ? `${name}: ` : "";
      const { log } = program.options;
      own = { log, write: logger(log, name, { name, prefix }, this.#writeLine) };
      this.#logs.set(name, own);
    }
    own?.write(event);
  }
}

function serviceOf({ name, service = name }: FleetProgram): string {
  return service;
}

/** Returns a warning if SAM cannot watch the event loop of a program, but the user may expect it. */
function unwatchedWarning({ program, options, advice }: FleetProgram): string | undefined {
  const { isCommand, preload, wrapper } = program;
  if (!isCommand || preload || wrapper || options.check !== undefined) return undefined;
  const { timeInterval } = options.settings;
  return timeInterval === 0 && advice === undefined
    ? undefined
    : cannotDetect({ program, options, advice });
}

/** The warning that SAM cannot detect a hang. */
function cannotDetect(
  { program, options, advice }: Pick<FleetProgram, "program" | "options" | "advice">,
): string {
  const { timeInterval } = options.settings;
  const { name, restarts, wrapper } = program;
  const target = advice === undefined && !wrapper ? name : `the program that ${name} runs`;
  const unless = restarts ? "" : " unless the program calls register()";
  const interval = timeInterval > 0
    ? `; the time interval of ${timeInterval} ms has no effect${unless}`
    : "";
  return `cannot detect a hang of ${target}, only its exit${interval}. To detect hangs, ` +
    `${
      advice ?? "run a JavaScript program directly (sam run web.js)"
    }, or add a health check (--check-http).`;
}

/** The line about a wrapper that goes on after the end of its program. */
function goesOn({ program: { name } }: FleetProgram): string {
  return `the program that ${name} ran has ended, and ${name} goes on: SAM watches the next program that ${name} starts. ` +
    `Until then, only the end of ${name} counts.`;
}

/** Returns a warning if a known wrapper keeps the sockets of the option `listen` from its program. */
function unlistenedWarning({ program, options, advice }: FleetProgram): string | undefined {
  if (advice === undefined || program.restarts || (options.listen ?? []).length === 0) {
    return undefined;
  }
  return `${program.name} does not pass the sockets of --listen on to the program that it runs. To use them, ${advice}.`;
}

/** True if SAM watches the event loop of the program's own process, and makes no other check. */
function isPreloaded({ program, options }: FleetProgram): boolean {
  return program.preload === true && options.check === undefined;
}

function unwatchedChildWarning(pid: number, child: number): string {
  return `watching process ${pid}, but not its child process ${child}. If the child process does the work, run its program ` +
    "directly (sam run web.js), or add a health check (--check-http).";
}
