/**
 * Reaps orphans in a server that is process 1 of a container. Process 1 inherits all orphans, and a JavaScript runtime reaps
 * only its own child processes, so the server calls `waitpid` of the C library.
 */
import { SamError } from "../../errors.ts";
import { loadNative } from "../../ffi/load_c_library.ts";
import { zombiesOf } from "../../runtime/procfs.ts";
import type { Clock, OwnProcess, SystemFiles } from "../../runtime/runtime.ts";

type ReaperRuntime = Clock & SystemFiles & Pick<OwnProcess, "pid">;

/** The search period for ended processes. The runtime reaps its own child processes before two searches find them. */
const searchMs = 1000;
const doNotWait = 1;

let reaping: Promise<void> | undefined;

/** Reaps orphans from now on until this process ends. Rejects if it cannot. */
export function reapOrphans(runtime: ReaperRuntime): Promise<void> {
  return reaping ??= begin(runtime);
}

async function begin(runtime: ReaperRuntime): Promise<void> {
  const { functions } = (await loadNative()).open("libc.so.6", {
    waitpid: { parameters: ["i32", "u64", "i32"], result: "i32" },
  });
  if (!zombiesOf(runtime, runtime.pid)) throw new SamError("ACCESS", "cannot read /proc");
  let before: readonly number[] = [];
  const search = () => {
    const now = zombiesOf(runtime, runtime.pid) ?? [];
    for (const pid of now) if (before.includes(pid)) void functions.waitpid(pid, 0n, doNotWait);
    before = now;
    runtime.schedule(search, searchMs, false);
  };
  search();
}
