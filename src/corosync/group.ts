/** The membership of this process in a group of Corosync's: its events, what it sends, and its end. */
import { SamError } from "../errors.ts";
import { checkObject, integerFrom, invalid } from "../api/validate.ts";
import { loadRuntime } from "../runtime/load.ts";
import type { Clock, OwnProcess } from "../runtime/runtime.ts";
import { connect, type Connection } from "./daemon/connection.ts";
import {
  type GroupAddress,
  type GroupJoin,
  type GroupJoined,
  type GroupServiceEvent,
  maxNameBytes,
  queuedBytesOf,
} from "./daemon/group_service.ts";
import type {
  CorosyncGroup,
  GroupEvent,
  GroupLeaver,
  GroupMember,
  GroupOptions,
  SendOptions,
} from "./group_types.ts";
import { interruptible, Outbox } from "./group_outbox.ts";

type MemberRuntime = Clock & Pick<OwnProcess, "pid">;

const defaultQueuedBytes = 64 * 1024 * 1024;
const leaveMs = 1000;
/** The pause before the next attempt to join or leave, in milliseconds. */
const retryMs = 20;
/** Bytes taken by the reader are reported in portions. */
const reportBytes = 64 * 1024;

/** Joins a group; see `corosyncGroup`. */
export async function joinGroup(
  name: string,
  options: GroupOptions = {},
): Promise<CorosyncGroup> {
  const encoded = typeof name === "string" ? new TextEncoder().encode(name) : undefined;
  if (!encoded || encoded.length === 0 || encoded.length > maxNameBytes) {
    throw invalid("name", name, `a text of 1 to ${maxNameBytes} bytes in UTF-8`);
  }
  const given = checkObject("options", options, ["signal", "maxQueuedBytes"]);
  const maxQueuedBytes = integerFrom(
    1,
    "maxQueuedBytes",
    given["maxQueuedBytes"] ?? defaultQueuedBytes,
    "bytes",
  );
  const signal = checkAbortSignal(given["signal"]);
  const runtime = await loadRuntime();
  while (present.get(name)?.over) await present.get(name)!.close();
  if (present.has(name)) {
    throw new SamError("BAD_HANDLE", `this process is in "${name}" already: leave() it first`);
  }
  const member = new Member(name, maxQueuedBytes, runtime);
  present.set(name, member);
  try {
    await member.join(encoded, signal);
    return member;
  } catch (error) {
    void member.abandon(error as SamError); // a daemon that does not answer is not waited for
    throw error;
  }
}

/** The groups that this process is in, or on its way into or out of: Corosync knows a member by its process. */
const present = new Map<string, Member>();

function memberOf({ nodeId, pid }: GroupAddress): GroupMember {
  return { nodeId, pid };
}

/** `cpg_reason_t` of those who left. */
const reasons: Readonly<Record<number, GroupLeaver["reason"]>> = {
  2: "leave",
  3: "node",
  5: "process",
};

function checkAbortSignal(value: unknown): AbortSignal | undefined {
  if (value === undefined || value instanceof AbortSignal) return value;
  throw invalid("signal", value, "an AbortSignal");
}

class Member implements CorosyncGroup {
  readonly name: string;
  self!: GroupMember;
  members: readonly GroupMember[] = [];
  maxMessageBytes = 0;

  readonly #maxQueuedBytes: number;
  readonly #runtime: MemberRuntime;
  #connecting: Promise<Connection> | undefined;
  #connection: Connection | undefined;
  #isIn = false;
  /** Why there is no more: what calls fail with. */
  #over: SamError | undefined;
  /** It was left: no failure for the reader. */
  #orderly = false;
  #leaving: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  readonly #events: GroupEvent[] = [];
  #read = false;
  #wakeReader = () => {};
  #takenBytes = 0;

  readonly #outbox: Outbox;
  #whenIn!: () => void;
  readonly #untilIn = new Promise<void>((resolve) => this.#whenIn = resolve);
  #whenOver!: () => void;
  readonly #untilOver = new Promise<void>((resolve) => this.#whenOver = resolve);

  constructor(name: string, maxQueuedBytes: number, runtime: MemberRuntime) {
    this.name = name;
    this.#maxQueuedBytes = maxQueuedBytes;
    this.#runtime = runtime;
    this.#outbox = new Outbox({
      maxBytes: maxQueuedBytes,
      give: (messages) => this.#connection!.request("send", messages) as Promise<number>,
      pause: (ms) => this.#pause(ms),
    });
  }

  // Coming and going.

  join(name: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    return interruptible(this.#join(name), signal, `joining "${this.name}"`);
  }

  async #join(name: Uint8Array): Promise<void> {
    this.#connecting = connect("group", {
      away: (error) => this.#end(error),
      event: (event) => this.#hear(event as GroupServiceEvent),
    });
    const connection = this.#connection = await this.#connecting;
    await connection.tried;
    const wish: GroupJoin = { name, maxQueuedBytes: this.#maxQueuedBytes };
    const { nodeId, maxMessageBytes } = await this.#ask("join", wish) as GroupJoined;
    this.self = { nodeId, pid: this.#runtime.pid };
    this.maxMessageBytes = maxMessageBytes;
    connection.hold(true); // a member keeps its process alive
    if (!this.members.some((each) => this.#isSelf(each))) {
      await Promise.race([this.#untilIn, this.#untilOver]);
    }
    if (this.#over) throw this.#over;
    this.#isIn = true;
  }

  /** Asks the daemon, again while it is forming a ring; one that is away is told of by `away`. */
  async #ask(name: string, argument?: unknown): Promise<unknown> {
    for (;;) {
      try {
        return await this.#connection!.request(name, argument);
      } catch (error) {
        if (this.#over) throw this.#over;
        if ((error as SamError).code !== "TRY_AGAIN") throw error;
        await this.#pause(retryMs);
      }
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => void this.#runtime.schedule(resolve, ms, true));
  }

  leave(): Promise<void> {
    return this.#leaving ??= this.#leave();
  }

  async #leave(): Promise<void> {
    if (!this.#over) {
      let cancel!: () => void;
      const limit = new Promise<void>((resolve) =>
        cancel = this.#runtime.schedule(resolve, leaveMs, true)
      );
      const left = async () => {
        await this.#outbox.empty;
        await this.#ask("leave");
        await this.#untilOver;
      };
      await Promise.race([left().catch(() => {}), this.#untilOver, limit]);
      cancel();
    }
    this.#end(new SamError("BAD_HANDLE", `"${this.name}" was left: join again`), true);
    await this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.leave();
  }

  /** The membership is over, and only the connection may still be there. */
  get over(): boolean {
    return this.#over !== undefined;
  }

  /** It did not become a member. */
  async abandon(error: SamError): Promise<void> {
    this.#end(error);
    await this.close();
  }

  /** Gives the connection back. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    const connection = await this.#connecting?.catch(() => undefined);
    connection?.hold(false);
    await connection?.close();
    if (present.get(this.name) === this) present.delete(this.name);
  }

  /** There is no more: from now on calls fail with `error`, and events, unless this is the orderly end. */
  #end(error: SamError, orderly = false): void {
    if (this.#over) return;
    const lost = this.#isIn && error.code === "TRY_AGAIN";
    this.#over = lost
      ? new SamError(
        "LIBRARY",
        `the membership in "${this.name}" is lost: Corosync's daemon does not answer; join again`,
        {
          cause: error,
        },
      )
      : error;
    this.#orderly = orderly;
    this.#outbox.end(this.#over);
    this.#whenOver();
    this.#wakeReader();
    if (this.#isIn && !orderly) void this.close();
  }

  // What happens in the group.

  #hear(event: GroupServiceEvent): void {
    if (this.#over) return;
    switch (event.type) {
      case "message": {
        const { nodeId, pid, data } = event;
        this.#push({ type: "message", from: { nodeId, pid }, data });
        break;
      }
      case "members":
        this.#change(event.members, event.joined, event.left);
        break;
      case "overflow":
        this.#end(
          new SamError(
            "TOO_BIG",
            `over ${this.#maxQueuedBytes} bytes waited to be read, so "${this.name}" was left: ` +
              "read faster, send less or raise maxQueuedBytes, and join again",
          ),
        );
    }
  }

  #change(
    members: readonly GroupAddress[],
    joined: readonly GroupAddress[],
    left: readonly GroupAddress[],
  ): void {
    this.members = members.map(memberOf);
    this.#push({
      type: "members",
      members: this.members,
      joined: joined.map(memberOf),
      left: left.map((each) => ({ ...memberOf(each), reason: reasons[each.reason] ?? "process" })),
    });
    if (joined.some((each) => this.#isSelf(each))) this.#whenIn();
    if (left.some((each) => this.#isSelf(each))) {
      this.#end(new SamError("BAD_HANDLE", `"${this.name}" was left: join again`), true);
    }
  }

  #isSelf({ nodeId, pid }: GroupMember): boolean {
    return nodeId === this.self?.nodeId && pid === this.self.pid;
  }

  #push(event: GroupEvent): void {
    this.#events.push(event);
    this.#wakeReader();
  }

  events(): AsyncIterableIterator<GroupEvent> {
    if (this.#read) {
      throw new SamError("BAD_HANDLE", `the events of "${this.name}" have a reader already`);
    }
    this.#read = true;
    return this.#reader();
  }

  async *#reader(): AsyncIterableIterator<GroupEvent> {
    for (;;) {
      const event = this.#events.shift();
      if (event) {
        this.#take(event);
        yield event;
      } else if (this.#over) {
        if (this.#orderly) return;
        throw this.#over;
      } else {
        await new Promise<void>((resolve) => this.#wakeReader = resolve);
      }
    }
  }

  /** The reader has an event: its bytes do not wait any more. */
  #take(event: GroupEvent): void {
    if (event.type !== "message") return;
    this.#takenBytes += queuedBytesOf(event.data.length);
    if (this.#takenBytes < Math.min(reportBytes, this.#maxQueuedBytes / 4)) return;
    this.#connection?.request("taken", this.#takenBytes, false).catch(() => {});
    this.#takenBytes = 0;
  }

  async send(data: Uint8Array, options: SendOptions = {}): Promise<void> {
    if (this.#over) throw this.#over;
    if (this.#leaving) throw new SamError("BAD_HANDLE", `"${this.name}" is being left`);
    if (!(data instanceof Uint8Array)) throw invalid("data", data, "a Uint8Array");
    if (data.length > this.maxMessageBytes) {
      throw new SamError(
        "TOO_BIG",
        `a message of ${data.length} bytes; Corosync takes ${this.maxMessageBytes}: send it in parts`,
      );
    }
    const signal = checkAbortSignal(checkObject("options", options, ["signal"])["signal"]);
    await this.#outbox.send(data, signal);
  }
}
