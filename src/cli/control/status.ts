import type { SupervisorStatus } from "../../api/events.ts";

/** The status of one program in the output of `sam status --json`. */
export interface ProgramStatus extends SupervisorStatus {
  /** The name of the program. */
  readonly name: string;
  /** The name of the program, if this is one of its instances side by side: `web` for `web.1`. Absent for any other program. */
  readonly service?: string;
  /** The replacement of a reload, before it takes over. Absent without a reload. */
  readonly replacement?: { readonly pid: number | null; readonly ready: boolean };
  /** The last replacement of an instance that exceeded `maxMemory` or `maxAge`. Absent if there was none. */
  readonly lastReplacement?: {
    readonly reason: "memory" | "age";
    /** The figures, in words that follow the name of the instance. */
    readonly detail: string;
    /** Time of the replacement, in milliseconds since 1970. */
    readonly at: number;
    /** Number of the instance that exceeded its limit. */
    readonly instanceId: number;
  };
  /** The programs that must end or become ready before the next instance starts. Absent if no instance is about to start. */
  readonly waitsFor?: readonly string[];
  /** The resident memory of the process and of those below it, in bytes. Null without a process, or if the system does not report it. */
  readonly memory: number | null;
  /** Milliseconds since the process started. Null without a process. */
  readonly uptime: number | null;
}

/** The status of one running `sam run`. The output of `sam status --json` is an array of these. */
export interface ServerStatus {
  /** The name of the server. */
  readonly name: string;
  /** The process id of `sam`. */
  readonly pid: number;
  /** The programs that restart when one fails: see `SamConfig.strategy`. */
  readonly strategy: "one_for_one" | "one_for_all" | "rest_for_one";
  /** The URL of the status page. Absent without `--metrics`. */
  readonly url?: string;
  /** The programs, in the order of their start. */
  readonly programs: readonly ProgramStatus[];
}
