/** The evidence about a failed process. */
import type { EndSignal } from "../signals.ts";

/** The state of a process at one moment, as Linux shows it in /proc. */
export interface ProcessState {
  /**
   * The state that the kernel shows:
   *
   * - `running`: the process uses a CPU or waits for one, for example in an endless loop.
   * - `sleeping`: it waits for an event.
   * - `blocked`: it waits for a disk or a network file system.
   * - `stopped`: it got SIGSTOP, or a debugger has stopped it.
   * - `ended`: it has ended, and its parent has not reaped it yet.
   * - `unknown`: the kernel shows another state.
   */
  readonly state: "running" | "sleeping" | "blocked" | "stopped" | "ended" | "unknown";
  /** Kernel function in which the main thread waits; null if it does not wait, or if the kernel does not say. */
  readonly waitsIn: string | null;
  /** CPU time of all threads since the start of the process, in milliseconds. */
  readonly cpuMs: number;
  /** Resident memory in bytes. */
  readonly memoryBytes: number;
  /** Number of threads. */
  readonly threads: number;
}

/** The last `sam.note()` of a process. */
export interface Note {
  /** The text. */
  readonly text: string;
  /** Milliseconds from the note to the failure. */
  readonly age: number;
}

/** Everything that is known about a failed instance. Unknown properties are left out. */
export interface Evidence {
  /**
   * Description for people; may be empty. For example the missed deadline, the error of the health check with its stack, or
   * that the process ran out of heap memory.
   */
  readonly detail: string;
  /** Exit code; null if a signal ended the process, or if it could not be started. */
  readonly exitCode: number | null;
  /** Signal that ended the process; null if none did. */
  readonly signal: EndSignal | null;
  /** Milliseconds from the last heartbeat to the failure; null if there was no heartbeat. */
  readonly heartbeatAge: number | null;
  /** State of the process at the failure. Left out for a process that ended by itself. */
  readonly processState?: ProcessState;
  /** JavaScript stack trace at the failure: one frame per line, the innermost first. */
  readonly stack?: string;
  /** One line that says why there is no stack trace of an unresponsive process. */
  readonly noStack?: string;
  /** The last `sam.note()` of the process. */
  readonly note?: Note;
  /** Last lines of output on the streams with `stdio: "tee"`: at most 50 lines and 8 KiB. */
  readonly output?: readonly string[];
}

/** The part of the evidence that the driver collects: from the examined process, its note and its output. */
export type ProcessEvidence = Omit<Evidence, "detail" | "exitCode" | "signal" | "heartbeatAge">;
