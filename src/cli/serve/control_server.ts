/** The control socket of a running server: answers `sam status`, `events`, `restart`, `reload`, `stop` and `signal`. */
import { isSignal } from "../../core/signals.ts";
import { SamError } from "../../errors.ts";
import type { Fleet } from "../../supervisor/fleet.ts";
import * as host from "../host/host.ts";
import type { Clock, Listener, Sockets } from "../../runtime/runtime.ts";
import { CommandError } from "../command_line/exit.ts";
import { eventText } from "../../supervisor/log.ts";
import type { Entry, Journal } from "./journal.ts";
import { connect, JsonLineConnection, socketPath } from "../control/control_socket.ts";
import type { Request } from "../control/protocol.ts";
import { type ConfigSource, named, reload, restart } from "./requests.ts";

/** The limit for bytes that a client has not read. The connection to a slower client is closed. */
const maxUnsentBytes = 4 * 1024 * 1024;
/** Time limit for clients to read the last events when the server ends. */
const lastEventsMs = 1000;

/**
 * Opens the control socket. `given` is the name from the user, and must not be in use by a running server. Without it, the name is
 * `defaultName`, or `defaultName` with a number if that is in use. If no socket can be opened, writes a warning and resolves to
 * undefined: the programs run without a control socket.
 */
export async function openControl(
  runtime: Clock & Sockets,
  given: string | undefined,
  defaultName: string,
  writeLine: (line: string) => void,
): Promise<Control | undefined> {
  try {
    for (let number = 1;; number++) {
      const name = given ?? (number === 1 ? defaultName : `${defaultName}-${number}`);
      const control = await Control.open(runtime, name);
      if (control) return control;
      if (given === undefined) continue;
      throw new CommandError(
        "usage",
        `a SAM server named ${name} is already running. Choose another --name, or stop that SAM server with sam stop ${name}.`,
      );
    }
  } catch (error) {
    const isUserError = error instanceof CommandError && error.code === "INVALID_PARAM";
    if (isUserError && given !== undefined) throw error;
    const { message } = error as Error;
    writeLine(`sam: no control socket, so sam status cannot show this SAM server: ${message}`);
    return undefined;
  }
}

/** Resolves to true if a running server has the name. Removes the socket of a killed server. */
async function isNameTaken(runtime: Clock & Sockets, name: string): Promise<boolean> {
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
  readonly #clients = new Set<JsonLineConnection>();
  /** The clients that have requested events. */
  readonly #readers = new Set<JsonLineConnection>();
  /** The clients that follow new events, and the limit for unread bytes of each. */
  readonly #followers = new Map<JsonLineConnection, number>();
  #listener: Listener | null = null;
  #identity: string | undefined;
  #fleet: Fleet | null = null;
  #journal!: Journal;
  #config: ConfigSource | undefined;
  #onLastReader: () => void = () => {};

  private constructor(runtime: Clock & Sockets, name: string) {
    this.#runtime = runtime;
    this.name = name;
    this.#path = socketPath(name);
  }

  /** Listens. Resolves to undefined if a running server has the name. Requests are answered after `serve()`. */
  static async open(runtime: Clock & Sockets, name: string): Promise<Control | undefined> {
    const control = new Control(runtime, name);
    while (!await control.#listen()) {
      if (await isNameTaken(runtime, name)) return undefined;
    }
    return control;
  }

  /** Resolves to false if the path is in use. The kernel lets only one server bind it. */
  async #listen(): Promise<boolean> {
    try {
      this.#listener = await this.#runtime.listen(this.#path, (stream) => {
        const client = new JsonLineConnection(stream);
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

  /** Starts to answer requests. */
  serve(fleet: Fleet, journal: Journal, config?: ConfigSource): void {
    this.#fleet = fleet;
    this.#journal = journal;
    this.#config = config;
    journal.follow((entry) => this.#sendToFollowers(entry));
    for (const client of this.#clients) this.#serve(client, fleet);
  }

  #serve(client: JsonLineConnection, fleet: Fleet): void {
    client.receive((value) => void this.#answer(client, fleet, value as Request | null), () => {
      this.#clients.delete(client);
      this.#followers.delete(client);
      if (this.#readers.delete(client) && this.#readers.size === 0) this.#onLastReader();
    });
  }

  /** Closes the socket after the clients have read the last events. */
  async close(): Promise<void> {
    host.removeFile(this.#path, this.#identity); // before the close, so that no client finds a socket that refuses connections
    host.closePreserving(this.#path, () => this.#listener?.close());
    for (const follower of this.#followers.keys()) follower.send({ ok: null });
    this.#followers.clear();
    if (this.#readers.size > 0) {
      await new Promise<void>((resolve) => {
        const cancel = this.#runtime.schedule(resolve, lastEventsMs, true);
        this.#onLastReader = () => {
          cancel();
          resolve();
        };
      });
    }
    for (const client of [...this.#clients]) client.close();
  }

  #sendToFollowers({ program, event }: Entry): void {
    if (this.#followers.size === 0) return;
    const text = eventText(program, event);
    for (const [follower, maxBytes] of this.#followers) {
      if (follower.unsent > maxBytes) follower.close();
      else follower.sendText(text);
    }
  }

  async #answer(client: JsonLineConnection, fleet: Fleet, request: Request | null): Promise<void> {
    if (client.unsent > maxUnsentBytes) return client.close(); // the client sends requests, but does not read the answers
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
        case "restart":
          await restart(fleet, request.program);
          return client.send({ ok: null });
        case "reload":
          return client.send({ ok: await reload(fleet, request.program, this.#config) });
        case "signal": {
          const { signal, program } = request;
          if (!isSignal(signal)) throw new SamError("INVALID_PARAM", `${signal} is not a signal`);
          const running = named(fleet, program).map((name) => fleet.supervisor(name))
            .filter(({ status }) => status.pid !== null);
          if (running.length === 0) {
            const target = program === undefined ? "no program has a" : `${program} has no`;
            throw new SamError("BAD_HANDLE", `cannot send ${signal}: ${target} running process`);
          }
          for (const supervisor of running) supervisor.signal(signal);
          return client.send({ ok: null });
        }
        case "stop":
          if (request.program === undefined) fleet.stop(null); // the end of the connection is the answer
          else {
            await fleet.stopProgram(request.program);
            client.send({ ok: null });
          }
          return;
        default:
          throw new SamError(
            "MESSAGE_ERROR",
            "unknown request. The SAM server may run a different version of sam.",
          );
      }
    } catch (error) {
      const { code, message, reason } = error as SamError & Partial<CommandError>;
      client.send({ error: { code, message, reason } });
    }
  }
}
