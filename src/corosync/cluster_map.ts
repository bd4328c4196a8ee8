/** Corosync's cluster map. It remembers the keys that were set, and sets them again when the daemon comes back. */
import type { SamError } from "../errors.ts";
import type { ClusterMap } from "../api/cluster.ts";
import { connect } from "./daemon/connection.ts";

/** Opens the map, which closes when `signal` is aborted. Rejects if waiting for the daemon would not help. */
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
        connection.request("set", { key, value }, false).catch(() => {}); // if it is away again, the next `up` retries
      }
    },
  }, signal);
  await connection.tried;
  return {
    async set(key, value) {
      entries.set(key, value);
      if (away) throw away; // `up` sets the keys in their order when the daemon is back
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
