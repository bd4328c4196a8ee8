/** The types of closed process groups: members, events and messages. */

/** A process in a group. */
export interface GroupMember {
  /** The id of the node that it runs on, as in `corosync.conf`. */
  readonly nodeId: number;
  /** Its process id on that node. */
  readonly pid: number;
}

/** A process that is no longer in the group, and the reason. */
export interface GroupLeaver extends GroupMember {
  /** `leave`: it left. `node`: its node, or the network to it, is down. `process`: it ended without leaving. */
  readonly reason: "leave" | "node" | "process";
}

/**
 * An event in a group. All members that remain connected to each other see the same events in the same order.
 *
 * - `message`: a message. A member also receives its own messages, at their place in the order.
 * - `members`: processes joined or left. The first event of each member is its own join.
 */
export type GroupEvent =
  | { readonly type: "message"; readonly from: GroupMember; readonly data: Uint8Array }
  | {
    readonly type: "members";
    readonly members: readonly GroupMember[];
    readonly joined: readonly GroupMember[];
    readonly left: readonly GroupLeaver[];
  };

/** Options of `corosyncGroup`. */
export interface GroupOptions {
  /** Ends the attempt to join, with INTERRUPT. It does not end a membership that exists: see `leave`. Default none. */
  readonly signal?: AbortSignal;
  /**
   * Limit in bytes for each of two queues: the events that wait for their reader, and the messages that wait to be sent.
   * Each message counts 64 bytes more than its size. Default 64 MiB. A member that reads too slowly leaves the group
   * instead of missing a message, and its events end with TOO_BIG.
   */
  readonly maxQueuedBytes?: number;
}

/** Options of `send`. */
export interface SendOptions {
  /** Ends the wait with INTERRUPT. The message may still be sent, if it was on its way to Corosync. Default none. */
  readonly signal?: AbortSignal;
}

/**
 * The membership of this process in a group; made by `corosyncGroup`. It ends by `leave()`, or when the daemon ends. In the
 * latter case calls and events fail with LIBRARY, and a new call of `corosyncGroup` joins again, as a new member.
 */
export interface CorosyncGroup {
  /** The name of the group. */
  readonly name: string;
  /** This process as a member. */
  readonly self: GroupMember;
  /** The current members, as of the last change that has arrived. The reader of events may not have read it yet. */
  readonly members: readonly GroupMember[];
  /** The size limit of a message in bytes. It is Corosync's own limit, a little below 1 MiB. */
  readonly maxMessageBytes: number;
  /**
   * Returns the events since this process joined, in the order that all members see. Events wait for the reader, up to
   * `maxQueuedBytes`. The iteration ends after `leave()`. It throws LIBRARY if the daemon is gone, and TOO_BIG if too much
   * waited. There can be one reader only: a second call throws BAD_HANDLE.
   */
  events(): AsyncIterableIterator<GroupEvent>;
  /**
   * Sends a message to all members, including this one. All members see the same sequence of messages and changes of
   * membership. In it, the messages of one member keep their order.
   *
   * Resolves when Corosync has taken the message, which takes longer while other members are slow (flow control). The
   * message has reached the members when it comes back through your own `events()`. A member that is cut off may see its
   * own messages come back although no other member receives them.
   *
   * Rejects with INVALID_PARAM (wrong argument), TOO_BIG (more than `maxMessageBytes`), TRY_AGAIN (too many bytes wait to be
   * sent: await each call), INTERRUPT (`signal` was aborted), BAD_HANDLE (the group was left) or LIBRARY (the daemon is
   * gone). Source: `cpg_mcast_joined(3)`.
   */
  send(data: Uint8Array, options?: SendOptions): Promise<void>;
  /**
   * Leaves the group after all earlier messages were sent. Resolves when the group has seen it, or after one second if
   * the daemon does not answer. Never rejects. Source: `cpg_leave(3)`.
   */
  leave(): Promise<void>;
  /** Leaves the group, as `leave()` does. */
  [Symbol.asyncDispose](): Promise<void>;
}
