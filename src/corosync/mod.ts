/**
 * Implements the options `quorum` and `clusterMap` with Corosync, and offers Corosync's process groups. A library is loaded
 * on first use: libquorum and libcmap in the SAM server, libcpg in the process that joins a group.
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

/** Options of `corosyncQuorum`. */
export interface CorosyncQuorumOptions {
  /** Milliseconds without an answer of the daemon after which quorum counts as lost. 100 to 2^31-1. Default 2,000. */
  readonly answerTimeout?: number;
}

/**
 * Watches Corosync's quorum, by libquorum (Debian: `libquorum5`). Pass the result as the option `quorum`.
 *
 * Quorum is lost when the daemon reports it, when the daemon ends, and when it has not answered for `answerTimeout`. Quorum
 * is back when the daemon, or a new daemon, reports it. After missing answers, a report is not enough: the daemon must
 * report a new membership, or answer for 10 seconds without a gap. If no daemon runs yet, `start()` waits for it.
 *
 * ```ts
 * import { corosyncQuorum } from "@x/sam/corosync";
 *
 * const options = { quorum: corosyncQuorum({ answerTimeout: 1000 }) };
 * console.log(options);
 * ```
 *
 * Throws INVALID_PARAM for a wrong option. If Corosync cannot be used here, `start()` rejects with
 *
 * - NOT_SUPPORTED: the system is not Linux, or Node is older than 26 and the package koffi is not installed
 * - ACCESS: Deno lacks `--allow-ffi`, or Corosync does not serve this user
 * - LIBRARY: libquorum is missing
 *
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
 * Publishes the state of a program in Corosync's cluster map, by libcmap (Debian: `libcmap4`). Pass the result as the
 * option `clusterMap`. The keys are `resources.process.PID.…`, with the names and values of libsam. When the daemon comes
 * back, all keys are set again.
 *
 * ```ts
 * import { corosyncClusterMap } from "@x/sam/corosync";
 *
 * const options = { clusterMap: corosyncClusterMap() };
 * console.log(options);
 * ```
 *
 * While the daemon is away, the methods of the map reject with TRY_AGAIN, and the map remembers the keys. They reject with
 * NOT_SUPPORTED, ACCESS or LIBRARY as described at `corosyncQuorum`, but for libcmap.
 *
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
      closing.abort(); // also ends an attempt to open the map of a frozen daemon
      closing = new AbortController();
      await (await map?.catch(() => undefined))?.close(); // the caller already knows that opening failed
    },
  };
}

/**
 * Joins a group of processes on the nodes of a Corosync cluster. Resolves as soon as this process is a member. A process
 * can be in many groups, but only once in each.
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
 * Stays pending while the daemon does not answer, so pass a signal. Rejects with
 *
 * - INVALID_PARAM: the name or an option is wrong
 * - BAD_HANDLE: this process is already in the group
 * - INTERRUPT: the signal was aborted
 * - TRY_AGAIN: the daemon is not running
 * - ACCESS: the daemon does not serve this user (it serves root, and the users named in `uidgid.d`), or Deno lacks
 *   `--allow-ffi`
 * - LIBRARY: libcpg is missing
 * - NOT_SUPPORTED: the system is not Linux, or Node is older than 26 and the package koffi is not installed
 *
 * Source: `cpg_model_initialize(3)`, `cpg_join(3)`.
 */
export async function corosyncGroup(
  name: string,
  options: GroupOptions = {},
): Promise<CorosyncGroup> {
  const { joinGroup } = await import("./group.ts");
  return await joinGroup(name, options);
}
