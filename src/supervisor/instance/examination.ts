/**
 * What is known about a process besides how it ended: what /proc shows of it when it has failed, its stack trace, its last note
 * and the last lines of its output. The core makes evidence of it.
 */
import type { ProcessEvidence, ServerEffect } from "../../core/server/types.ts";
import { processState } from "../../runtime/procfs.ts";
import { type CaptureRuntime, type StackAttempt, takeStack } from "./stack_capture.ts";

/** The parts of an examination. */
export interface ExaminationParts {
  readonly runtime: CaptureRuntime;
  /** The words of the process's command line. */
  readonly words: readonly string[];
  /** The last note of the process, and when it was made, in milliseconds since 1970. */
  note(): { readonly text: string; readonly at: number } | undefined;
  /** The last lines of its output; undefined where none is read. */
  output(): readonly string[] | undefined;
}

/** Looks at one process. */
export class Examination {
  /** Resolved when the last look is over. */
  over: Promise<void> = Promise.resolve();

  readonly #parts: ExaminationParts;
  /** The evidence of the last examination. */
  #seen: ProcessEvidence = {};
  /** The attempt to take the stack; null while there is none. */
  #attempt: StackAttempt | null = null;

  constructor(parts: ExaminationParts) {
    this.#parts = parts;
  }

  /** True while the stack is being taken. */
  get isTakingStack(): boolean {
    return this.#attempt !== null;
  }

  /**
   * Looks at process `pid` as the core asks. Calls back when that is done, at once where no stack is taken. `hasStack`: the
   * stack was taken, which shows that the event loop is blocked.
   */
  look(
    pid: number,
    { stackMs, stackAccess }: ServerEffect & { readonly type: "examine" },
    onDone: (hasStack: boolean) => void,
  ): void {
    if (this.#attempt) return; // its answer comes
    const { runtime, words } = this.#parts;
    const state = processState(runtime, pid);
    this.#seen = { ...(state && { processState: state }), ...this.#noteNow };
    if (stackMs === 0) return onDone(false);
    const attempt = this.#attempt = takeStack(
      runtime,
      { pid, access: stackAccess, words },
      stackMs,
    );
    this.over = attempt.found.then((finding) => {
      this.#seen = { ...this.#seen, ...finding };
      this.#attempt = null;
      onDone("stack" in finding);
    });
  }

  /** The process has ended. */
  end(): void {
    this.#attempt?.abandon("the process ended before it could be taken");
  }

  /** All that is known now. A note that was there when the process failed counts more than a later one. */
  get evidence(): ProcessEvidence {
    const output = this.#parts.output();
    return { ...this.#noteNow, ...this.#seen, ...(output && { output }) };
  }

  get #noteNow(): Pick<ProcessEvidence, "note"> {
    const note = this.#parts.note();
    return note ? { note: { text: note.text, age: Math.max(0, Date.now() - note.at) } } : {};
  }
}
