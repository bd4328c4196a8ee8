/** Loads the access to C libraries for this runtime. */
import { runtimeName } from "../runtime/load.ts";
import type { Native } from "./c_library.ts";

/** Loads this runtime's access to C libraries. Rejects with NOT_SUPPORTED or ACCESS if there is none. */
export async function loadNative(): Promise<Native> {
  switch (runtimeName()) {
    case "deno":
      return (await import("./c_library_deno.ts")).denoNative();
    case "bun":
      return await (await import("./c_library_bun.ts")).bunNative();
    case "node":
      return (await import("./c_library_node.ts")).nodeNative();
  }
}
