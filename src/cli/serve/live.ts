/** Keeps the pages that are open up to date, by server-sent events: of all pieces, those that have changed. */
import type { HttpStream } from "../host/http.ts";
import type { Runtime } from "../../runtime/runtime.ts";
import type { Journal } from "./journal.ts";
import { pieces } from "./page.ts";

/** Figures are looked at so often while somebody looks at them; what happens is told at once, … */
const figuresMs = 1000;
/** … and what happens in such a time, at once. */
const togetherMs = 50;

/** The readers of one server. */
export class Live {
  readonly #runtime: Runtime;
  readonly #journal: Journal;
  readonly #streams = new Set<HttpStream>();
  readonly #told = new Map<string, string>();
  #cancelFollow: (() => void) | null = null;
  #cancelTimer: (() => void) | null = null;
  #due = Infinity;

  constructor(runtime: Runtime, journal: Journal) {
    this.#runtime = runtime;
    this.#journal = journal;
  }

  /** One more reader: gets all pieces, and then what changes. */
  add(stream: HttpStream): void {
    if (this.#streams.size === 0) {
      this.#told.clear();
      this.#cancelFollow = this.#journal.follow(() => this.#plan(togetherMs));
    }
    this.#tell();
    for (const [id, html] of this.#told) stream.write(messageOf(id, html));
    this.#streams.add(stream);
    stream.onClose(() => this.#remove(stream));
  }

  #remove(stream: HttpStream): void {
    this.#streams.delete(stream);
    if (this.#streams.size > 0) return;
    this.#cancelFollow?.();
    this.#cancelTimer?.();
    this.#due = Infinity;
  }

  #plan(delayMs: number): void {
    const due = this.#runtime.now() + delayMs;
    if (due >= this.#due) return;
    this.#cancelTimer?.();
    this.#due = due;
    this.#cancelTimer = this.#runtime.schedule(() => this.#tell(), delayMs, false);
  }

  #tell(): void {
    this.#cancelTimer?.();
    this.#due = Infinity;
    for (const [id, html] of pieces(this.#journal.status, this.#journal.entries)) {
      if (this.#told.get(id) === html) continue;
      this.#told.set(id, html);
      for (const stream of this.#streams) stream.write(messageOf(id, html));
    }
    this.#plan(figuresMs);
  }
}

function messageOf(id: string, html: string): string {
  return `data: ${JSON.stringify({ id, html })}\n\n`;
}
