/**
 * Collects the evidence about a failed process: its state in /proc, its stack trace, its last note and the last lines of its
 * output. The state machine adds how the process ended.
 */
import type { ProcessEvidence, ServerEffect } from "../../core/server/types.ts";
import { processState } from "../../runtime/procfs.ts";
import { type CaptureRuntime, type StackAttempt, takeStack } from "./stack_capture.ts";

/** The parts of an examination. */
export interface ExaminationParts {
  readonly runtime: CaptureRuntime;
  /** The flags and arguments of the process. */
  readonly words: readonly string[];
  /** The last note of the process, and when it was made, in milliseconds since 1970. */
  note(): { readonly text: string; readonly at: number } | undefined;
  /** The last lines of its output; undefined if SAM does not read its output. */
  output(): readonly string[] | undefined;
}

/** The examination of one process. */
export class Examination {
  /** Resolves when the last examination is over. */
  over: Promise<void> = Promise.resolve();

  readonly #parts: ExaminationParts;
  /** The evidence of the last examination. */
  #found: ProcessEvidence = {};
  /** The running attempt to take the stack; null for none. */
  #attempt: StackAttempt | null = null;

  constructor(parts: ExaminationParts) {
    this.#parts = parts;
  }

  /** True while the stack is being taken. */
  get isTakingStack(): boolean {
    return this.#attempt !== null;
  }

  /**
   * Examines the process `pid` and then calls back: at once if no stack is taken. `hasStack` is true if a stack was taken, which
   * shows that the event loop is blocked.
   */
  begin(
    pid: number,
    { stackMs, stackAccess }: ServerEffect & { readonly type: "examine" },
    onDone: (hasStack: boolean) => void,
  ): void {
    if (this.#attempt) return; // the running attempt will call back
    const { runtime, words } = this.#parts;
    const state = processState(runtime, pid);
    this.#found = { ...(state && { processState: state }), ...this.#currentNote };
    if (stackMs === 0) return onDone(false);
    const attempt = this.#attempt = takeStack(
      runtime,
      { pid, access: stackAccess, words },
      stackMs,
    );
    this.over = attempt.found.then((finding) => {
      this.#found = { ...this.#found, ...finding };
      this.#attempt = null;
      onDone("stack" in finding);
    });
  }

  /** Ends the attempt to take the stack: the process has ended. */
  end(): void {
    this.#attempt?.abandon("the process ended before its stack was taken");
  }

  /** The evidence so far. The note from the time of the failure replaces a later one. */
  get evidence(): ProcessEvidence {
    const output = this.#parts.output();
    return { ...this.#currentNote, ...this.#found, ...(output && { output }) };
  }

  get #currentNote(): Pick<ProcessEvidence, "note"> {
    const note = this.#parts.note();
    return note ? { note: { text: note.text, age: Math.max(0, Date.now() - note.at) } } : {};
  }
}
