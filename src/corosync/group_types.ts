/** Closed process groups, as their members see them: who is there, and messages that all get in one order. */

/** A process in a group. */
export interface GroupMember {
  /** The node it runs on, as in `corosync.conf`. */
  readonly nodeId: number;
  /** Its process id there. */
  readonly pid: number;
}

/** A process that is no longer in the group, and why. */
export interface GroupLeaver extends GroupMember {
  /** It left; its node, or the way to it, is down; it ended without leaving. */
  readonly reason: "leave" | "node" | "process";
}

/** Something that happened in a group. All members that stay together see the same, in the same order. */
export type GroupEvent =
  /** A message; one's own come too, at their place in the order. */
  | { readonly type: "message"; readonly from: GroupMember; readonly data: Uint8Array }
  /** Processes came or went. The first event of each member is the one by which it came. */
  | {
    readonly type: "members";
    readonly members: readonly GroupMember[];
    readonly joined: readonly GroupMember[];
    readonly left: readonly GroupLeaver[];
  };

/** How to join. */
export interface GroupOptions {
  /** Ends the attempt with INTERRUPT. The membership that came of it is not ended by it: see `leave`. */
  readonly signal?: AbortSignal;
  /**
   * How many bytes may wait for their reader, and how many for Corosync to take them. A member that reads too slowly
   * leaves the group rather than miss a message: its events end with TOO_BIG. 64 bytes are added for each message.
   * Default 64 MiB.
   */
  readonly maxQueuedBytes?: number;
}

/** How to send. */
export interface SendOptions {
  /** Ends the wait with INTERRUPT; a message that Corosync was just being given may still be sent. */
  readonly signal?: AbortSignal;
}

/**
 * The membership of this process in a group; made by `corosyncGroup`. It ends by `leave()`, or when the daemon does: then
 * calls and events fail with LIBRARY, and a new call of `corosyncGroup` joins again, as a new member.
 */
export interface CorosyncGroup {
  /** The group's name. */
  readonly name: string;
  /** This process. */
  readonly self: GroupMember;
  /** Who is in the group, as of the last change that has arrived (which may not have been read yet). */
  readonly members: readonly GroupMember[];
  /** The largest message, in bytes; Corosync's own limit, a little below 1 MiB. */
  readonly maxMessageBytes: number;
  /**
   * What happens, from the moment of joining on, in the order that all members see. For one reader; what it does not read
   * waits, up to `maxQueuedBytes`. Ends after `leave()`. Throws LIBRARY when the daemon is gone, TOO_BIG when too much
   * waited; a second call throws BAD_HANDLE.
   */
  events(): AsyncIterableIterator<GroupEvent>;
  /**
   * Sends a message to all members, this one included, in agreed order: every member gets all messages in the same order,
   * and each at the same place between changes of membership. Resolved when Corosync has taken the message, which may take
   * as long as others are slow (flow control); messages of one member keep their order. It is delivered when it comes back
   * by `events()`; a member that is cut off may see its own messages come back that nobody else gets.
   * Rejects with INVALID_PARAM, TOO_BIG (over `maxMessageBytes`), TRY_AGAIN (`maxQueuedBytes` wait already: await each
   * call), INTERRUPT, BAD_HANDLE (left), LIBRARY (the daemon is gone). Source: `cpg_mcast_joined(3)`.
   */
  send(data: Uint8Array, options?: SendOptions): Promise<void>;
  /**
   * Leaves, after what was sent before; resolved when the group has seen it, or after a second with a daemon that does not
   * answer. Never rejects. Source: `cpg_leave(3)`.
   */
  leave(): Promise<void>;
  /** Leaves. */
  [Symbol.asyncDispose](): Promise<void>;
}
