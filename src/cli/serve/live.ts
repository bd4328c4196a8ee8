/** Updates open status pages: sends the pieces that have changed, by server-sent events. */
import type { HttpStream } from "../host/http.ts";
import type { Clock } from "../../runtime/runtime.ts";
import type { Journal } from "./journal.ts";
import { pieces } from "./page.ts";

/** The period of updates while a page is open, in milliseconds. */
const updatePeriodMs = 1000;
/** Events within this many milliseconds are sent as one update. */
const batchMs = 50;

/** Keeps the open status pages of one server up to date. */
export class PageUpdates {
  readonly #runtime: Clock;
  readonly #journal: Journal;
  readonly #streams = new Set<HttpStream>();
  /** The HTML of each piece, as last sent to all pages. */
  readonly #sent = new Map<string, string>();
  #cancelFollow: (() => void) | null = null;
  #cancelTimer: (() => void) | null = null;
  #due = Infinity;

  constructor(runtime: Clock, journal: Journal) {
    this.#runtime = runtime;
    this.#journal = journal;
  }

  /** Adds a page. It receives all pieces now, and later each piece that changes. */
  add(stream: HttpStream): void {
    if (this.#streams.size === 0) {
      this.#sent.clear();
      this.#cancelFollow = this.#journal.follow(() => this.#plan(batchMs));
    }
    this.#sendChanges();
    for (const [id, html] of this.#sent) stream.write(messageOf(id, html));
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
    this.#cancelTimer = this.#runtime.schedule(() => this.#sendChanges(), delayMs, false);
  }

  #sendChanges(): void {
    this.#cancelTimer?.();
    this.#due = Infinity;
    const present = pieces(this.#journal.status, this.#journal.entries);
    for (const id of this.#sent.keys()) if (!present.has(id)) this.#sent.delete(id);
    for (const [id, html] of present) {
      if (this.#sent.get(id) === html) continue;
      this.#sent.set(id, html);
      for (const stream of this.#streams) stream.write(messageOf(id, html));
    }
    this.#plan(updatePeriodMs);
  }
}

function messageOf(id: string, html: string): string {
  return `data: ${JSON.stringify({ id, html })}\n\n`;
}
