/** The membership of this process in one of Corosync's process groups: joins, sends, delivers events and leaves. */
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
/** Time limit for a daemon that does not answer when a member leaves. */
const leaveMs = 1000;
/** The pause before the next attempt to join or leave. */
const retryMs = 20;
/** The daemon thread learns in portions of this size how many bytes the reader has taken. */
const reportBytes = 64 * 1024;

/** Joins a group; see `corosyncGroup`. */
export async function joinGroup(
  name: string,
  options: GroupOptions = {},
): Promise<CorosyncGroup> {
  const encoded = typeof name === "string" ? new TextEncoder().encode(name) : undefined;
  if (!encoded || encoded.length === 0 || encoded.length > maxNameBytes) {
    throw invalid("name", name, `a string of 1 to ${maxNameBytes} bytes in UTF-8`);
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
  while (memberships.get(name)?.hasEnded) await memberships.get(name)!.close();
  if (memberships.has(name)) {
    throw new SamError(
      "BAD_HANDLE",
      `this process is already a member of the group "${name}": call leave() first`,
    );
  }
  const member = new Member(name, maxQueuedBytes, runtime);
  memberships.set(name, member);
  try {
    await member.join(encoded, signal);
    return member;
  } catch (error) {
    void member.abandon(error as SamError); // not awaited, because the daemon may not answer
    throw error;
  }
}

/** The groups that this process is in, joins or leaves. Corosync allows a process once in each group. */
const memberships = new Map<string, Member>();

function memberOf({ nodeId, pid }: GroupAddress): GroupMember {
  return { nodeId, pid };
}

/** The values of `cpg_reason_t` for members that left. */
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
  #hasJoined = false;
  /** The error with which calls fail after the end of the membership; undefined before. */
  #endError: SamError | undefined;
  /** True if the group was left, which is not an error for the reader. */
  #orderly = false;
  #leaving: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  readonly #events: GroupEvent[] = [];
  #hasReader = false;
  #wakeReader = () => {};
  #takenBytes = 0;

  readonly #outbox: Outbox;
  #onJoined!: () => void;
  readonly #untilJoined = new Promise<void>((resolve) => this.#onJoined = resolve);
  #onEnd!: () => void;
  readonly #untilEnded = new Promise<void>((resolve) => this.#onEnd = resolve);

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

  // Joining and leaving.

  join(name: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    return interruptible(this.#join(name), signal, `joining the group "${this.name}"`);
  }

  async #join(name: Uint8Array): Promise<void> {
    this.#connecting = connect("group", {
      away: (error) => this.#end(error),
      event: (event) => this.#receive(event as GroupServiceEvent),
    });
    const connection = this.#connection = await this.#connecting;
    await connection.tried;
    const request: GroupJoin = { name, maxQueuedBytes: this.#maxQueuedBytes };
    const { nodeId, maxMessageBytes } = await this.#ask("join", request) as GroupJoined;
    this.self = { nodeId, pid: this.#runtime.pid };
    this.maxMessageBytes = maxMessageBytes;
    connection.hold(true); // membership keeps the process alive
    if (!this.members.some((each) => this.#isSelf(each))) {
      await Promise.race([this.#untilJoined, this.#untilEnded]);
    }
    if (this.#endError) throw this.#endError;
    this.#hasJoined = true;
  }

  /** Sends a request, again while the daemon forms a ring. If the daemon is away, `away` sets the error. */
  async #ask(name: string, argument?: unknown): Promise<unknown> {
    for (;;) {
      try {
        return await this.#connection!.request(name, argument);
      } catch (error) {
        if (this.#endError) throw this.#endError;
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
    if (!this.#endError) {
      let cancel!: () => void;
      const limit = new Promise<void>((resolve) =>
        cancel = this.#runtime.schedule(resolve, leaveMs, true)
      );
      const left = async () => {
        await this.#outbox.empty;
        await this.#ask("leave");
        await this.#untilEnded;
      };
      await Promise.race([left().catch(() => {}), this.#untilEnded, limit]);
      cancel();
    }
    this.#end(this.#leftError(), true);
    await this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.leave();
  }

  /** True if the membership has ended. The connection may still exist. */
  get hasEnded(): boolean {
    return this.#endError !== undefined;
  }

  /** Ends a failed attempt to join. */
  async abandon(error: SamError): Promise<void> {
    this.#end(error);
    await this.close();
  }

  /** Closes the connection. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    const connection = await this.#connecting?.catch(() => undefined);
    connection?.hold(false);
    await connection?.close();
    if (memberships.get(this.name) === this) memberships.delete(this.name);
  }

  /** Ends the membership. From now on calls fail with `error`, and events too unless the end is orderly. */
  #end(error: SamError, orderly = false): void {
    if (this.#endError) return;
    const lost = this.#hasJoined && error.code === "TRY_AGAIN";
    this.#endError = lost
      ? new SamError(
        "LIBRARY",
        `the membership in the group "${this.name}" is lost because Corosync's daemon does not answer: join again`,
        {
          cause: error,
        },
      )
      : error;
    this.#orderly = orderly;
    this.#outbox.end(this.#endError);
    this.#onEnd();
    this.#wakeReader();
    if (this.#hasJoined && !orderly) void this.close();
  }

  // Events.

  #receive(event: GroupServiceEvent): void {
    if (this.#endError) return;
    switch (event.type) {
      case "message": {
        const { nodeId, pid, data } = event;
        this.#push({ type: "message", from: { nodeId, pid }, data });
        break;
      }
      case "members":
        this.#changeMembers(event.members, event.joined, event.left);
        break;
      case "overflow":
        this.#end(
          new SamError(
            "TOO_BIG",
            `this process has left the group "${this.name}" because more than ${this.#maxQueuedBytes} bytes waited to be ` +
              "read: read faster, send less or raise maxQueuedBytes, and join again",
          ),
        );
    }
  }

  #changeMembers(
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
    if (joined.some((each) => this.#isSelf(each))) this.#onJoined();
    if (left.some((each) => this.#isSelf(each))) {
      this.#end(this.#leftError(), true);
    }
  }

  #leftError(): SamError {
    return new SamError("BAD_HANDLE", `this process has left the group "${this.name}": join again`);
  }

  #isSelf({ nodeId, pid }: GroupMember): boolean {
    return nodeId === this.self?.nodeId && pid === this.self.pid;
  }

  #push(event: GroupEvent): void {
    this.#events.push(event);
    this.#wakeReader();
  }

  events(): AsyncIterableIterator<GroupEvent> {
    if (this.#hasReader) {
      throw new SamError(
        "BAD_HANDLE",
        `the events of the group "${this.name}" already have a reader: there can be only one`,
      );
    }
    this.#hasReader = true;
    return this.#reader();
  }

  async *#reader(): AsyncIterableIterator<GroupEvent> {
    for (;;) {
      const event = this.#events.shift();
      if (event) {
        this.#take(event);
        yield event;
      } else if (this.#endError) {
        if (this.#orderly) return;
        throw this.#endError;
      } else {
        await new Promise<void>((resolve) => this.#wakeReader = resolve);
      }
    }
  }

  /** The reader has taken an event, so its bytes no longer wait. */
  #take(event: GroupEvent): void {
    if (event.type !== "message") return;
    this.#takenBytes += queuedBytesOf(event.data.length);
    if (this.#takenBytes < Math.min(reportBytes, this.#maxQueuedBytes / 4)) return;
    this.#connection?.request("taken", this.#takenBytes, false).catch(() => {});
    this.#takenBytes = 0;
  }

  async send(data: Uint8Array, options: SendOptions = {}): Promise<void> {
    if (this.#endError) throw this.#endError;
    if (this.#leaving) {
      throw new SamError("BAD_HANDLE", `this process is leaving the group "${this.name}"`);
    }
    if (!(data instanceof Uint8Array)) throw invalid("data", data, "a Uint8Array");
    if (data.length > this.maxMessageBytes) {
      throw new SamError(
        "TOO_BIG",
        `a message of ${data.length} bytes is too large: Corosync takes ${this.maxMessageBytes}; send it in parts`,
      );
    }
    const signal = checkAbortSignal(checkObject("options", options, ["signal"])["signal"]);
    await this.#outbox.send(data, signal);
  }
}
