/** The output of `sam status --json`. */
import type { SupervisorStatus } from "../../api/events.ts";

/** A program, as `sam status --json` shows it. */
export interface ProgramStatus extends SupervisorStatus {
  /** Its name. */
  readonly name: string;
  /** The programs that must end, or be ready, before its next process starts; left out where no process is due. */
  readonly waitsFor?: readonly string[];
  /** The resident memory of its process in bytes; null where that is not known. */
  readonly memory: number | null;
  /** Milliseconds since its process was started; null while there is none. */
  readonly uptime: number | null;
}

/** A server, as `sam status --json` shows it. */
export interface ServerStatus {
  /** Its name. */
  readonly name: string;
  /** The process id of `sam`. */
  readonly pid: number;
  /** Which programs are restarted when one fails. */
  readonly strategy: "one_for_one" | "one_for_all" | "rest_for_one";
  /** The address of its status page; left out if there is none. */
  readonly url?: string;
  /** Its programs, in the order of their start. */
  readonly programs: readonly ProgramStatus[];
}
