/**
 * The loop that talks to Corosync's daemon. It runs where calls may block. It connects each service, waits for events of
 * the daemon and commands of the owner, and connects again after the daemon was gone.
 */
import { SamError, type SamErrorCode } from "../../errors.ts";
import { allocate, type Memory } from "../../ffi/c_memory.ts";
import type { Native } from "../../ffi/c_library.ts";
import { loadNative } from "../../ffi/load_c_library.ts";
import { endIncrement, type ThreadPort } from "../../ffi/blocking_thread.ts";
import { isGone, little, type Service, type ServiceMaker } from "./service.ts";
import { groupService } from "./group_service.ts";
import { clusterMapService } from "./map_service.ts";
import { quorumService } from "./quorum_service.ts";

export type ServiceName = "quorum" | "clusterMap" | "group";

const services: Readonly<Record<ServiceName, ServiceMaker>> = {
  quorum: quorumService,
  clusterMap: clusterMapService,
  group: groupService,
};

/** An error in the form in which threads send it to each other. */
export interface PostedError {
  readonly code: SamErrorCode;
  readonly message: string;
}

/** A command of the owner, which chooses the numbers of connections. */
export type LoopCommand =
  | { readonly type: "connect"; readonly connection: number; readonly service: ServiceName }
  | {
    readonly type: "request";
    readonly connection: number;
    readonly id: number;
    readonly name: string;
    readonly argument: unknown;
  }
  | { readonly type: "disconnect"; readonly connection: number };

/** A message to the owner. */
export type LoopMessage =
  /** The daemon answers. */
  | { readonly type: "up"; readonly connection: number }
  /** The daemon does not answer. The loop tries again, unless this is `final`. */
  | {
    readonly type: "away";
    readonly connection: number;
    readonly error: PostedError;
    readonly final: boolean;
  }
  | { readonly type: "event"; readonly connection: number; readonly event: unknown }
  | {
    readonly type: "answer";
    readonly connection: number;
    readonly id: number;
    readonly result?: unknown;
    readonly error?: PostedError;
  }
  | { readonly type: "disconnected"; readonly connection: number }
  /** The loop cannot run here. */
  | { readonly type: "failed"; readonly error: PostedError };

/** The pause between attempts to connect. */
const retryMs = 200;
/** The errors for which waiting does not help. */
const lasting: readonly SamErrorCode[] = ["ACCESS", "NOT_SUPPORTED"];

const wakeFlags = 0o2004000; // EFD_CLOEXEC | EFD_NONBLOCK
const pollIn = 1;
const pollBytes = 8;
const maxConnections = 62;
const scratchAt = pollBytes * (1 + maxConnections);
const noAnswer: PostedError = {
  code: "TRY_AGAIN",
  message: "Corosync does not answer: start Corosync, or wait until it is back",
};

interface Connection {
  readonly id: number;
  readonly service: Service;
  up: boolean;
  retryAt: number;
  /** True if the owner knows that the daemon is away. */
  isReportedAway: boolean;
}

/** Runs the loop until the owner ends it. */
export async function serveCorosync(port: ThreadPort): Promise<void> {
  let loop: Loop;
  try {
    loop = new Loop(port, await loadNative());
  } catch (error) {
    return port.post({ type: "failed", error: posted(error) } satisfies LoopMessage);
  }
  try {
    await loop.run();
  } finally {
    await loop.close();
  }
}

class Loop {
  readonly #port: ThreadPort;
  readonly #native: Native;
  readonly #libc;
  readonly #memory: Memory;
  readonly #wake: number;
  readonly #connections = new Map<number, Connection>();

  constructor(port: ThreadPort, native: Native) {
    this.#port = port;
    this.#native = native;
    this.#libc = native.open("libc.so.6", {
      eventfd: { parameters: ["u32", "i32"], result: "i32" },
      poll: { parameters: ["u64", "u64", "i32"], result: "i32", blocks: true },
      clock_gettime: { parameters: ["i32", "u64"], result: "i32" },
      read: { parameters: ["i32", "u64", "u64"], result: "u64" },
    });
    this.#memory = allocate(native, scratchAt + 16);
    this.#wake = this.#libc.functions.eventfd(0, wakeFlags) as number;
    port.wakeBy(this.#wake);
  }

  async run(): Promise<void> {
    for (;;) {
      for (let command = this.#port.receive(); command; command = this.#port.receive()) {
        await this.#obey(command as LoopCommand);
      }
      for (const connection of this.#connections.values()) {
        if (!connection.up && connection.retryAt <= performance.now()) {
          await this.#connect(connection);
        }
      }
      if (await this.#wait()) return;
    }
  }

  async close(): Promise<void> {
    for (const { service, up } of this.#connections.values()) {
      if (up) await service.disconnect();
      service.close();
    }
    this.#memory.free();
    this.#libc.close();
  }

  /** Waits for something to do, and dispatches events of the daemon. Returns true if the loop should end. */
  async #wait(): Promise<boolean> {
    const { view, address } = this.#memory;
    const up = [...this.#connections.values()].filter((connection) => connection.up);
    [this.#wake, ...up.map(({ service }) => service.descriptor)].forEach((descriptor, at) => {
      view.setInt32(at * pollBytes, descriptor, little);
      view.setInt32(at * pollBytes + 4, pollIn, little); // sets `events` and clears `revents`
    });
    const retries = [...this.#connections.values()].filter(({ up }) => !up)
      .map(({ retryAt }) => retryAt - performance.now());
    const waitMs = Math.min(...retries);
    await this.#libc.functions.poll(
      address,
      BigInt(1 + up.length),
      waitMs === Infinity ? -1 : Math.max(0, Math.ceil(waitMs)),
    );
    // Read the result at once: on Deno the loop shares its thread, and a later call may reuse the memory.
    const ready = [undefined, ...up].filter((_, at) =>
      view.getUint16(at * pollBytes + 6, little) !== 0
    );
    const woken = view.getUint16(6, little) !== 0 && this.#isFarewell();
    if (woken) return true;
    for (const connection of ready) if (connection?.up) await this.#dispatch(connection);
    return false;
  }

  /** Reads the wake-ups that have arrived. Returns true if one of them is the end. */
  #isFarewell(): boolean {
    const { view, address } = this.#memory;
    view.setBigUint64(scratchAt, 0n, little);
    this.#libc.functions.read(this.#wake, address + BigInt(scratchAt), 8n);
    return view.getBigUint64(scratchAt, little) >= endIncrement;
  }

  async #obey(command: LoopCommand): Promise<void> {
    const { connection: id } = command;
    if (command.type === "connect") return this.#add(id, command.service);
    const connection = this.#connections.get(id);
    if (command.type === "request") return await this.#request(connection, command);
    this.#connections.delete(id);
    if (connection?.up) await connection.service.disconnect();
    connection?.service.close();
    this.#post({ type: "disconnected", connection: id });
  }

  #add(id: number, name: ServiceName): void {
    const connection = { id, up: false, retryAt: 0, isReportedAway: false };
    try {
      if (this.#connections.size >= maxConnections) {
        throw new SamError(
          "TRY_AGAIN",
          `this process already has ${maxConnections} connections to Corosync: leave a process group first`,
        );
      }
      const service = services[name]({
        native: this.#native,
        emit: (event) => this.#post({ type: "event", connection: id, event }),
      });
      this.#connections.set(id, { ...connection, service });
    } catch (error) {
      this.#post({
        type: "away",
        connection: id,
        final: true,
        error: error instanceof SamError ? posted(error) : {
          code: "LIBRARY",
          message: `cannot load Corosync's library: ${messageOf(error)}; is it installed?`,
        },
      });
    }
  }

  async #connect(connection: Connection): Promise<void> {
    try {
      await connection.service.connect();
      connection.up = true;
      connection.isReportedAway = false;
      this.#post({ type: "up", connection: connection.id });
    } catch (error) {
      this.#away(connection, error, "Corosync does not answer");
    }
  }

  async #dispatch(connection: Connection): Promise<void> {
    try {
      await connection.service.dispatch();
    } catch (error) {
      await this.#lose(connection, error);
    }
  }

  async #lose(connection: Connection, error: unknown): Promise<void> {
    connection.up = false;
    await connection.service.disconnect();
    this.#away(connection, error, "the connection to Corosync is lost");
  }

  #away(connection: Connection, error: unknown, failure: string): void {
    const { code, message } = posted(error);
    const final = lasting.includes(code);
    if (final) this.#connections.delete(connection.id);
    if (final) connection.service.close();
    connection.retryAt = performance.now() + retryMs;
    if (connection.isReportedAway && !final) return;
    connection.isReportedAway = true;
    this.#post({
      type: "away",
      connection: connection.id,
      final,
      error: final
        ? {
          code,
          message:
            `Corosync refuses (${message}): it serves only root, and the users and groups in /etc/corosync/uidgid.d`,
        }
        : {
          code: "TRY_AGAIN",
          message: `${failure} (${message}): start Corosync, or wait until it is back`,
        },
    });
  }

  async #request(
    connection: Connection | undefined,
    { id, name, argument, connection: number }: LoopCommand & { readonly type: "request" },
  ): Promise<void> {
    const answer = { type: "answer", connection: number, id } as const;
    if (name === "now") return this.#post({ ...answer, result: this.#now() });
    if (!connection?.up) return this.#post({ ...answer, error: noAnswer });
    try {
      this.#post({ ...answer, result: await connection.service.request(name, argument) });
    } catch (error) {
      const gone = isGone(error);
      if (gone) await this.#lose(connection, error);
      this.#post({ ...answer, error: gone ? noAnswer : posted(error) });
    }
  }

  /** Returns CLOCK_MONOTONIC, which is Corosync's clock, in nanoseconds. */
  #now(): bigint {
    const { view, address } = this.#memory;
    this.#libc.functions.clock_gettime(1, address + BigInt(scratchAt));
    return view.getBigInt64(scratchAt, little) * 1_000_000_000n +
      view.getBigInt64(scratchAt + 8, little);
  }

  #post(message: LoopMessage): void {
    this.#port.post(message);
  }
}

function posted(error: unknown): PostedError {
  if (error instanceof SamError) return { code: error.code, message: error.message };
  return { code: "LIBRARY", message: messageOf(error) };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
