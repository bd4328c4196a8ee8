/** Chooses the module that calls C on this runtime. */
import { runtimeName } from "../runtime/load.ts";
import type { Native } from "./c_library.ts";

/** What this runtime can do with C. Rejects with NOT_SUPPORTED or ACCESS where that is nothing. */
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
