/**
 * Process 1 of a container inherits the orphans of all the others, and no JavaScript runtime reaps what it did not start. So
 * a server that is process 1 does it, by `waitpid` of the C library.
 */
import { SamError } from "../../errors.ts";
import { loadNative } from "../../ffi/load_c_library.ts";
import { zombiesOf } from "../../runtime/procfs.ts";
import type { Clock, OwnProcess, SystemFiles } from "../../runtime/runtime.ts";

type ReaperRuntime = Clock & SystemFiles & Pick<OwnProcess, "pid">;

/** How often ended processes are looked for. The runtime reaps its own long before they are seen twice. */
const lookMs = 1000;
const doNotWait = 1;

let reaping: Promise<void> | undefined;

/** Reaps orphans from now on, as long as this process lives. Rejects where that cannot be done. */
export function reapOrphans(runtime: ReaperRuntime): Promise<void> {
  return reaping ??= begin(runtime);
}

async function begin(runtime: ReaperRuntime): Promise<void> {
  const { functions } = (await loadNative()).open("libc.so.6", {
    waitpid: { parameters: ["i32", "u64", "i32"], result: "i32" },
  });
  if (!zombiesOf(runtime, runtime.pid)) throw new SamError("ACCESS", "/proc cannot be read");
  let before: readonly number[] = [];
  const look = () => {
    const now = zombiesOf(runtime, runtime.pid) ?? [];
    for (const pid of now) if (before.includes(pid)) void functions.waitpid(pid, 0n, doNotWait);
    before = now;
    runtime.schedule(look, lookMs, false);
  };
  look();
}
