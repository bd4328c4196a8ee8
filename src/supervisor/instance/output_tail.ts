/** Passes on the output of a program on its `"tee"` streams, and keeps the last lines as evidence. */
import type { Clock, Output, OwnProcess } from "../../runtime/runtime.ts";
import { endsWithin } from "../time_limit.ts";

type TailRuntime = Clock & Pick<OwnProcess, "writeOutput">;

const maxLines = 50;
const maxCharacters = 8 * 1024;

/** Reads the streams of one process. */
export class OutputTail {
  /** Resolves when all output has been read and passed on. */
  readonly ended: Promise<unknown>;

  readonly #runtime: TailRuntime;
  readonly #outputs: readonly Output[];
  readonly #lines: string[] = [];
  #characters = 0;
  /** The number of unfinished writes to the server's own streams. */
  #writing = 0;
  /** The incomplete last line of each stream. */
  readonly #partial: string[] = [];

  constructor(runtime: TailRuntime, outputs: readonly Output[]) {
    this.#runtime = runtime;
    this.#outputs = outputs;
    this.ended = Promise.all(outputs.map((output, at) => this.#read(output, at)));
  }

  async #read({ descriptor, read }: Output, at: number): Promise<void> {
    const decoder = new TextDecoder();
    this.#partial[at] = "";
    for (;;) {
      const bytes = await read();
      if (bytes === null) return;
      this.#addLines(at, decoder.decode(bytes, { stream: true }));
      // Reading waits for the write: a slow reader applies back-pressure to the program, as it would without SAM.
      this.#writing++;
      await this.#runtime.writeOutput(descriptor, bytes);
      this.#writing--;
    }
  }

  #addLines(at: number, text: string): void {
    const lines = (this.#partial[at] + text.slice(-maxCharacters)).split("\n");
    this.#partial[at] = lines.pop()!.slice(-maxCharacters);
    for (const line of lines) {
      this.#lines.push(line);
      this.#characters += line.length;
    }
    while (this.#lines.length > maxLines || this.#characters > maxCharacters) {
      this.#characters -= this.#lines.shift()!.length;
    }
  }

  /** The last lines of all streams, in the order in which they arrived. */
  get lines(): readonly string[] {
    return [...this.#lines, ...this.#partial.filter((line) => line !== "")].slice(-maxLines);
  }

  /**
   * Resolves when all output has been passed on, after `limitMs` at the latest: a child process may hold a stream open. If a
   * slow reader of the server's own output is the reason, the limit is `slowReaderMs`.
   */
  async drained(limitMs: number, slowReaderMs: number): Promise<void> {
    for (
      let waited = limitMs;
      !await endsWithin(this.#runtime, this.ended, limitMs);
      waited += limitMs
    ) {
      if (this.#writing === 0 || waited >= slowReaderMs) return;
    }
  }

  /** Closes the streams. */
  close(): void {
    for (const output of this.#outputs) output.close();
  }
}
