/** The server's side of the control socket: answers `sam status`, `events`, `restart`, `stop` and `signal`. */
import { isSignal } from "../../core/signals.ts";
import { SamError } from "../../errors.ts";
import type { Fleet } from "../../supervisor/fleet.ts";
import * as host from "../host/host.ts";
import type { Clock, Listener, Sockets } from "../../runtime/runtime.ts";
import { CommandError } from "../command_line/exit.ts";
import { eventText } from "../../supervisor/log.ts";
import type { Entry, Journal } from "./journal.ts";
import { connect, Lines, socketOf } from "../control/control_socket.ts";
import type { Request } from "../control/protocol.ts";

/** A reader for which more bytes wait than this is cut off. */
const maxUnsentBytes = 4 * 1024 * 1024;
/** Time limit for the readers of events to read the last ones when the server ends. */
const farewellMs = 1000;

/**
 * Opens the control socket under a name that no running server has: the name from the user, or else `made`, with a number if it
 * is taken. Where no socket can be opened, a line says so, and the programs run without it.
 */
export async function openControl(
  runtime: Clock & Sockets,
  given: string | undefined,
  made: string,
  writeLine: (line: string) => void,
): Promise<Control | undefined> {
  try {
    for (let number = 1;; number++) {
      const name = given ?? (number === 1 ? made : `${made}-${number}`);
      const control = await Control.open(runtime, name);
      if (control) return control;
      if (given === undefined) continue;
      throw new CommandError(
        "usage",
        `a server named ${name} runs already: choose another --name, or sam stop ${name}`,
      );
    }
  } catch (error) {
    const isTheirs = error instanceof CommandError && error.code === "INVALID_PARAM";
    if (isTheirs && given !== undefined) throw error;
    const { message } = error as Error;
    writeLine(`sam: no control socket, so sam status cannot see this server: ${message}`);
    return undefined;
  }
}

/** True if a running server has the name. The socket that a killed server left is removed. */
async function isTaken(runtime: Clock & Sockets, name: string): Promise<boolean> {
  try {
    const server = await connect(runtime, name);
    server?.close();
    return server !== undefined;
  } catch (error) {
    if ((error as SamError).code === "TRY_AGAIN") return true;
    throw error;
  }
}

/** The control socket of one server. */
export class Control {
  /** The name of the server. */
  readonly name: string;

  readonly #runtime: Clock & Sockets;
  readonly #path: string;
  readonly #clients = new Set<Lines>();
  /** The clients that have asked for events. */
  readonly #readers = new Set<Lines>();
  /** The clients that follow events, and how many bytes may wait for each. */
  readonly #followers = new Map<Lines, number>();
  #listener: Listener | null = null;
  #identity: string | undefined;
  #fleet: Fleet | null = null;
  #journal!: Journal;
  #onLastReader: () => void = () => {};

  private constructor(runtime: Clock & Sockets, name: string) {
    this.#runtime = runtime;
    this.name = name;
    this.#path = socketOf(name);
  }

  /** Listens; undefined if a running server has the name. Requests wait for `serve()`. */
  static async open(runtime: Clock & Sockets, name: string): Promise<Control | undefined> {
    const control = new Control(runtime, name);
    while (!await control.#listen()) {
      if (await isTaken(runtime, name)) return undefined;
    }
    return control;
  }

  /** Returns false if the path is taken. The kernel gives it to one server only. */
  async #listen(): Promise<boolean> {
    try {
      this.#listener = await this.#runtime.listen(this.#path, (stream) => {
        const client = new Lines(stream);
        this.#clients.add(client);
        if (this.#fleet) this.#serve(client, this.#fleet);
      });
      host.makePrivate(this.#path);
      this.#identity = host.identityOf(this.#path);
      return true;
    } catch (error) {
      this.#listener?.close();
      if (host.systemCode(error) === "EADDRINUSE" && host.isSocket(this.#path) !== false) {
        return false;
      }
      throw error;
    }
  }

  /** Answers requests from now on. */
  serve(fleet: Fleet, journal: Journal): void {
    this.#fleet = fleet;
    this.#journal = journal;
    journal.follow((entry) => this.#hear(entry));
    for (const client of this.#clients) this.#serve(client, fleet);
  }

  #serve(client: Lines, fleet: Fleet): void {
    client.receive((value) => void this.#answer(client, fleet, value as Request | null), () => {
      this.#clients.delete(client);
      this.#followers.delete(client);
      if (this.#readers.delete(client) && this.#readers.size === 0) this.#onLastReader();
    });
  }

  /** Closes the socket, after the readers of events have got the last ones. */
  async close(): Promise<void> {
    host.removeFile(this.#path, this.#identity); // first, so that no client finds a socket that refuses connections
    host.closeKeeping(this.#path, () => this.#listener?.close());
    for (const follower of this.#followers.keys()) follower.send({ ok: null });
    this.#followers.clear();
    if (this.#readers.size > 0) {
      await new Promise<void>((resolve) => {
        const cancel = this.#runtime.schedule(resolve, farewellMs, true);
        this.#onLastReader = () => {
          cancel();
          resolve();
        };
      });
    }
    for (const client of [...this.#clients]) client.close();
  }

  #hear({ program, event }: Entry): void {
    if (this.#followers.size === 0) return;
    const text = eventText(program, event);
    for (const [follower, most] of this.#followers) {
      if (follower.unsent > most) follower.close();
      else follower.sendText(text);
    }
  }

  async #answer(client: Lines, fleet: Fleet, request: Request | null): Promise<void> {
    if (client.unsent > maxUnsentBytes) return client.close(); // it sends requests and does not read the answers
    try {
      switch (request?.ask) {
        case "status":
          return client.send({ ok: this.#journal.status });
        case "events":
          this.#readers.add(client);
          for (const { program, event } of this.#journal.entries) {
            client.sendText(eventText(program, event));
          }
          if (request.follow) this.#followers.set(client, client.unsent + maxUnsentBytes);
          else client.send({ ok: null });
          return;
        case "restart": {
          const { program } = request;
          const waitsFor = program !== undefined && fleet.waitsFor(program);
          if (waitsFor) {
            throw new SamError("BAD_HANDLE", `${program} waits for ${waitsFor.join(", ")}`);
          }
          // Without a name, programs that were stopped on purpose stay stopped.
          const isMeant = (name: string) =>
            program !== undefined || !(fleet.waitsFor(name) || fleet.isStopped(name));
          await Promise.all(
            named(fleet, program).filter(isMeant).map((name) =>
              fleet.restartOne(name).catch((error: SamError) => {
                if (error.code !== "BAD_HANDLE") throw error;
                if (program === undefined) return; // it has finished
                throw new SamError(
                  "BAD_HANDLE",
                  `${name} has finished: only a new sam run starts it again`,
                );
              })
            ),
          );
          return client.send({ ok: null });
        }
        case "signal": {
          const { signal, program } = request;
          if (!isSignal(signal)) throw new SamError("INVALID_PARAM", `${signal} is no signal`);
          const there = named(fleet, program).map((name) => fleet.supervisor(name))
            .filter(({ status }) => status.pid !== null);
          if (there.length === 0) {
            const which = program ?? "any program";
            throw new SamError("BAD_HANDLE", `no process of ${which} is there to be signalled`);
          }
          for (const supervisor of there) supervisor.signal(signal);
          return client.send({ ok: null });
        }
        case "stop":
          if (request.program === undefined) fleet.stop(null); // the end of the connection is the answer
          else {
            await Promise.all(
              named(fleet, request.program).map((name) => fleet.stopOne(name)),
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
}

function named(fleet: Fleet, program: string | undefined): readonly string[] {
  return program === undefined ? fleet.names : fleet.names.filter((name) => name === program);
}
