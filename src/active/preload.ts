/**
 * Loaded by the runtime ahead of a program that knows nothing of SAM (`--import`, `--preload`): registers the process, and
 * has it watched from its own event loop. Does nothing in a process that no server started: a worker thread, say.
 * @module
 */
import { birth, forgetPreload } from "../runtime/launch.ts";

forgetPreload(import.meta.url);
if (birth.link !== undefined || birth.denied !== undefined) {
  await (await import("./auto_register.ts")).attach();
}
