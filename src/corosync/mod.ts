/**
 * The cluster of a real Corosync, for the options `quorum` and `clusterMap`. What it needs is loaded when it is used, in the
 * server; a program that does not import this module carries nothing of it.
 *
 * ```ts cluster
 * import { initialize } from "@x/sam";
 * import { corosyncClusterMap, corosyncQuorum } from "@x/sam/corosync";
 *
 * const sam = await initialize({
 *   timeInterval: 2000,
 *   recoveryPolicy: "restart",
 *   quorum: corosyncQuorum(),
 *   clusterMap: corosyncClusterMap(),
 * });
 * await sam.register();
 * await sam.start(); // waits for quorum
 * console.log("the cluster is quorate");
 * ```
 *
 * @module
 */
import type { ClusterMap, QuorumSource } from "../api/cluster.ts";
import type { CorosyncGroup, GroupOptions } from "./group_types.ts";
import { checkObject, integerFrom } from "../api/validate.ts";

export type { ClusterMap, QuorumSource } from "../api/cluster.ts";
export type {
  CorosyncGroup,
  GroupEvent,
  GroupLeaver,
  GroupMember,
  GroupOptions,
  SendOptions,
} from "./group_types.ts";

/** How Corosync's quorum is watched. */
export interface CorosyncQuorumOptions {
  /** A daemon that has not answered for so many milliseconds counts as lost, and quorum with it. 100 to 2^31-1, default 2000. */
  readonly answerTimeout?: number;
}

/**
 * Corosync's quorum, by libquorum (Debian: `libquorum5`). Quorum is lost when the daemon says so, when it ends, and when it
 * has not answered for `answerTimeout`; it is regained when the daemon, or its successor, says so; after a silence when it tells
 * of a new membership, or has answered for 10 seconds. A daemon that is not up yet is waited for.
 *
 * ```ts
 * import { corosyncQuorum } from "@x/sam/corosync";
 *
 * const options = { quorum: corosyncQuorum({ answerTimeout: 1000 }) };
 * console.log(options);
 * ```
 *
 * Throws INVALID_PARAM. What `start()` rejects with when it cannot work here: NOT_SUPPORTED (not Linux; Node before 26 without
 * the package koffi), ACCESS (Deno without `--allow-ffi`; a user whom Corosync does not serve), LIBRARY (libquorum is missing).
 * Source: `SAM_RECOVERY_POLICY_QUORUM` of `sam_initialize(3)`.
 */
export function corosyncQuorum(options: CorosyncQuorumOptions = {}): QuorumSource {
  const given = checkObject("options", options, ["answerTimeout"]);
  const answerTimeout = integerFrom(100, "answerTimeout", given["answerTimeout"] ?? 2000);
  return {
    async watch(onChange, onProblem) {
      const { watchQuorum } = await import("./quorum.ts");
      return await watchQuorum(answerTimeout, onChange, onProblem);
    },
  };
}

/**
 * Corosync's cluster map, by libcmap (Debian: `libcmap4`): the keys `resources.process.PID.…`, as libsam writes them. They are
 * set again when the daemon comes back.
 *
 * ```ts
 * import { corosyncClusterMap } from "@x/sam/corosync";
 *
 * const options = { clusterMap: corosyncClusterMap() };
 * console.log(options);
 * ```
 *
 * Its calls reject with TRY_AGAIN while the daemon is away (what was set is remembered), and with what `corosyncQuorum` names.
 * Source: `SAM_RECOVERY_POLICY_CMAP` of `sam_initialize(3)`.
 */
export function corosyncClusterMap(): ClusterMap {
  let opening: Promise<Required<ClusterMap>> | undefined;
  let closing = new AbortController();
  const opened = () => {
    const { signal } = closing;
    return opening ??= import("./cluster_map.ts")
      .then(({ openClusterMap }) => openClusterMap(signal));
  };
  return {
    set: async (key, value) => await (await opened()).set(key, value),
    delete: async (key) => await (await opened()).delete(key),
    now: async () => await (await opened()).now(),
    async close() {
      const map = opening;
      opening = undefined;
      closing.abort(); // also where a frozen daemon keeps it from being opened
      closing = new AbortController();
      await (await map?.catch(() => undefined))?.close(); // one that was never opened has said so
    },
  };
}

/**
 * Joins a group of processes on the nodes of a Corosync cluster; resolved as soon as this process is a member. A process
 * may be in many groups, and once in each.
 *
 * ```ts cluster
 * import { corosyncGroup } from "@x/sam/corosync";
 *
 * await using group = await corosyncGroup("chat", { signal: AbortSignal.timeout(5000) });
 * await group.send(new TextEncoder().encode("hello"));
 * for await (const event of group.events()) {
 *   if (event.type === "members") console.log(`${event.members.length} are here`);
 *   else console.log(`${event.from.nodeId} says ${new TextDecoder().decode(event.data)}`);
 * }
 * ```
 *
 * Rejects with INVALID_PARAM, BAD_HANDLE (in the group already), INTERRUPT, TRY_AGAIN (the daemon is not up), ACCESS (the daemon serves root and whom
 * `uidgid.d` names; Deno without `--allow-ffi`), LIBRARY (libcpg is missing), NOT_SUPPORTED (Node before 26 without the
 * package koffi; not Linux). Pending while the daemon does not answer: give a signal.
 * Source: `cpg_model_initialize(3)`, `cpg_join(3)`.
 */
export async function corosyncGroup(
  name: string,
  options: GroupOptions = {},
): Promise<CorosyncGroup> {
  const { joinGroup } = await import("./group.ts");
  return await joinGroup(name, options);
}
