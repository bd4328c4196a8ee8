/** Notes that go as messages: each at once, as long as there are not too many for the server. */
import type { Link } from "../transports/transport.ts";
import { encodeClient } from "./core/frame.ts";
import type { Runtime } from "./runtime/runtime.ts";

/** So many notes may go to the server at once, and so many in a millisecond after them. */
const noteBurst = 50;
const notesPerMs = 1;

/** The notes of one process. */
export class Notes {
  readonly #runtime: Runtime;
  #credit = noteBurst;
  #creditedAt = 0;
  #waiting: string | null = null;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  push(text: string, link: Link): void {
    const now = this.#runtime.now();
    this.#credit = Math.min(noteBurst, this.#credit + (now - this.#creditedAt) * notesPerMs);
    this.#creditedAt = now;
    if (this.#credit >= 1) {
      this.#credit--;
      this.#waiting = null;
      return link.send(encodeClient({ type: "note", text }));
    }
    const idle = this.#waiting === null;
    this.#waiting = text;
    if (idle) {
      this.#runtime.schedule(
        () => {
          if (this.#waiting !== null) this.push(this.#waiting, link);
        },
        noteBurst / notesPerMs,
        false,
      );
    }
  }
}
