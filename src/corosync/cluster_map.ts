/** Corosync's cluster map, with a memory: a daemon that comes back is told again what was set. */
import type { SamError } from "../errors.ts";
import type { ClusterMap } from "../api/cluster.ts";
import { connect } from "./daemon/connection.ts";

/** Opens the map, which `signal` closes; rejects where waiting for the daemon would not help. */
export async function openClusterMap(signal: AbortSignal): Promise<Required<ClusterMap>> {
  const entries = new Map<string, string | bigint>();
  let away: SamError | null = null;
  const connection = await connect("clusterMap", {
    away(error) {
      away = error;
    },
    up() {
      away = null;
      for (const [key, value] of entries) {
        connection.request("set", { key, value }, false).catch(() => {}); // away again: once more at the next `up`
      }
    },
  }, signal);
  await connection.tried;
  return {
    async set(key, value) {
      entries.set(key, value);
      if (away) throw away; // not sent now, so that the keys are set in their order when it is back
      try {
        await connection.request("set", { key, value });
      } catch (error) {
        if ((error as SamError).code !== "TRY_AGAIN") entries.delete(key);
        throw error;
      }
    },
    async delete(key) {
      entries.delete(key);
      await connection.request("delete", key);
    },
    async now() {
      return await connection.request("now") as bigint;
    },
    close: () => connection.close(),
  };
}
