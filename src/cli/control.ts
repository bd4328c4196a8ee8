/** The server's side of the control socket: what `sam status`, `events`, `restart`, `stop` and `signal` ask. */
import { isSignal } from "../core/signals.ts";
import { SamError, type SamErrorCode } from "../errors.ts";
import type { Fleet } from "../fleet.ts";
import * as host from "../runtime/host.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { CommandError } from "./exit.ts";
import { eventText } from "../log.ts";
import type { Entry, Journal } from "./journal.ts";
import { connect, Lines, socketOf } from "./socket.ts";

/** What a server is asked. */
export type Request =
  | { readonly ask: "status" }
  | { readonly ask: "events"; readonly follow: boolean }
  | { readonly ask: "restart" | "stop"; readonly program?: string }
  | { readonly ask: "signal"; readonly program?: string; readonly signal: string };

/** What a server answers: a request that it has carried out, or why not. Events come as they are. */
export interface Answer {
  readonly ok?: unknown;
  readonly error?: { readonly code: SamErrorCode; readonly message: string };
}

/**
 * A name that no living server has: the one the user gave, or, where we make it, the next with a number. Undefined where
 * there can be no control socket; the programs are none the worse: it is said, and nobody can ask.
 */
export async function freeName(
  runtime: Runtime,
  given: string | undefined,
  made: string,
): Promise<string | undefined> {
  try {
    for (let number = 1;; number++) {
      const name = given ?? (number === 1 ? made : `${made}-${number}`);
      const other = await connect(runtime, name);
      if (other === undefined) return name;
      other.close();
      if (given === undefined) continue;
      throw new CommandError(
        "usage",
        `a server named ${name} runs already: choose another --name, or sam stop ${name}`,
      );
    }
  } catch (error) {
    if (error instanceof CommandError && error.code === "INVALID_PARAM") throw error;
    complain(error);
    return undefined;
  }
}

function complain(error: unknown): void {
  const { message } = error as Error;
  host.stderr.write(`sam: no control socket, so sam status cannot see this server: ${message}\n`);
}

/** Opens the control socket; returns how it is closed. */
export async function openControl(
  runtime: Runtime,
  fleet: Fleet,
  journal: Journal,
): Promise<() => void> {
  const control = new Control(runtime, fleet, journal);
  try {
    await control.open();
  } catch (error) {
    complain(error);
  }
  return () => control.close();
}

class Control {
  readonly #runtime: Runtime;
  readonly #fleet: Fleet;
  readonly #journal: Journal;
  readonly #followers = new Set<Lines>();
  readonly #clients = new Set<Lines>();
  #close: () => void = () => {};

  constructor(runtime: Runtime, fleet: Fleet, journal: Journal) {
    this.#runtime = runtime;
    this.#fleet = fleet;
    this.#journal = journal;
    journal.follow((entry) => this.#hear(entry));
  }

  async open(): Promise<void> {
    const path = socketOf(this.#journal.name);
    const listener = await this.#runtime.listen(path, (stream) => {
      const lines = new Lines(stream);
      this.#clients.add(lines);
      lines.receive((value) => void this.#answer(lines, value as Request), () => {
        this.#clients.delete(lines);
        this.#followers.delete(lines);
      });
    });
    this.#close = () => {
      listener.close();
      host.removeFile(path);
    };
    host.makePrivate(path);
  }

  close(): void {
    this.#close();
    for (const client of [...this.#clients]) client.close();
  }

  #hear({ program, event }: Entry): void {
    if (this.#followers.size === 0) return;
    const text = eventText(program, event);
    for (const follower of this.#followers) follower.sendText(text);
  }

  async #answer(client: Lines, request: Request): Promise<void> {
    try {
      switch (request.ask) {
        case "status":
          return client.send({ ok: this.#journal.status });
        case "events":
          for (const { program, event } of this.#journal.entries) {
            client.sendText(eventText(program, event));
          }
          if (request.follow) this.#followers.add(client);
          else client.close();
          return;
        case "restart":
          await Promise.all(
            this.#named(request.program).map((name) => this.#fleet.supervisor(name).restart()),
          );
          return client.send({ ok: null });
        case "signal": {
          const { signal } = request;
          if (!isSignal(signal)) throw new SamError("INVALID_PARAM", `${signal} is no signal`);
          for (const name of this.#named(request.program)) {
            this.#fleet.supervisor(name).signal(signal);
          }
          return client.send({ ok: null });
        }
        case "stop":
          if (request.program === undefined) this.#fleet.stop(null); // the answer is the end of the link
          else {
            await Promise.all(
              this.#named(request.program).map((name) => this.#fleet.stopOne(name)),
            );
            client.send({ ok: null });
          }
          return;
        default:
          throw new SamError(
            "MESSAGE_ERROR",
            "no such request: is the server a sam of another version?",
          );
      }
    } catch (error) {
      const { code, message } = error as SamError;
      client.send({ error: { code, message } });
    }
  }

  #named(program: string | undefined): readonly string[] {
    return program === undefined
      ? this.#fleet.names
      : this.#fleet.names.filter((name) => name === program);
  }
}
