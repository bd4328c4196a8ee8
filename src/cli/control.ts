/** The server's side of the control socket: what `sam status`, `events`, `restart`, `stop` and `signal` ask. */
import { isSignal } from "../core/signals.ts";
import { SamError, type SamErrorCode } from "../errors.ts";
import type { SupervisorEvent, SupervisorStatus } from "../events.ts";
import type { Fleet, Strategy } from "../fleet.ts";
import * as host from "../runtime/host.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { CommandError } from "./exit.ts";
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

/** A program, as `sam status --json` shows it. */
export interface ProgramStatus extends SupervisorStatus {
  readonly name: string;
  /** The resident memory of its process in bytes; null where that is not known. */
  readonly memory: number | null;
  /** Milliseconds since its process was started; null while there is none. */
  readonly uptime: number | null;
}

/** A server, as `sam status --json` shows it. */
export interface ServerStatus {
  readonly name: string;
  readonly pid: number;
  readonly strategy: Strategy;
  readonly programs: readonly ProgramStatus[];
}

/** So many events are kept for `sam events`. */
const maxKept = 1000;

/** An event as one line of JSON. */
export function eventText(program: string, event: SupervisorEvent): string {
  return JSON.stringify(
    { program, ...event },
    (_key, value: unknown) =>
      value instanceof SamError ? { code: value.code, message: value.message } : value,
  );
}

/** Which server this is. */
interface Identity {
  readonly name: string;
  readonly strategy: Strategy;
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
  identity: Identity,
): Promise<() => void> {
  const control = new Control(runtime, fleet, identity);
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
  readonly #identity: Identity;
  readonly #kept: string[] = [];
  readonly #followers = new Set<Lines>();
  readonly #clients = new Set<Lines>();
  readonly #spawnedAt = new Map<string, number>();
  #close: () => void = () => {};

  constructor(runtime: Runtime, fleet: Fleet, identity: Identity) {
    this.#runtime = runtime;
    this.#fleet = fleet;
    this.#identity = identity;
    fleet.subscribe((name, event) => this.#hear(name, event));
  }

  async open(): Promise<void> {
    const path = socketOf(this.#identity.name);
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

  #hear(name: string, event: SupervisorEvent): void {
    if (event.type === "spawn") this.#spawnedAt.set(name, event.at);
    const text = eventText(name, event);
    this.#kept.push(text);
    if (this.#kept.length > maxKept) this.#kept.shift();
    for (const follower of this.#followers) follower.sendText(text);
  }

  async #answer(client: Lines, request: Request): Promise<void> {
    try {
      switch (request.ask) {
        case "status":
          return client.send({ ok: this.#status() });
        case "events":
          for (const text of this.#kept) client.sendText(text);
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
              this.#named(request.program).map((name) => this.#fleet.supervisor(name).stop()),
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

  #status(): ServerStatus {
    return {
      name: this.#identity.name,
      pid: this.#runtime.pid,
      strategy: this.#identity.strategy,
      programs: this.#fleet.names.map((name) => {
        const { status } = this.#fleet.supervisor(name);
        const at = this.#spawnedAt.get(name);
        return {
          name,
          ...status,
          memory: (status.pid !== null && host.memoryOf(status.pid)) || null,
          uptime: status.pid === null || at === undefined ? null : Date.now() - at,
        };
      }),
    };
  }
}
