/** Decides whether and in which way a program can be reloaded now. */
import type { SupervisorStatus } from "../api/events.ts";
import type { CheckedProgram } from "../api/program.ts";
import type { ReloadWay } from "../core/server/reload.ts";
import { SamError } from "../errors.ts";

/** The state of a program that is to be reloaded. */
export interface ReloadSituation extends Pick<SupervisorStatus, "state" | "pid"> {
  /** True while another reload of the program is going on. */
  readonly isReloading: boolean;
  /** True if two processes of the program may run at the same time. */
  readonly mayOverlap: boolean;
  /** True if the program is below a wrapper, and does not call `register()`. A spare would run it. */
  readonly isBelowWrapper: boolean;
  /** True if a program that can neither run twice nor have a spare may be restarted. */
  readonly mayRestart: boolean;
}

/** Returns the way in which a program can be reloaded now. Throws BAD_HANDLE, TRY_AGAIN or NOT_SUPPORTED if it cannot. */
export function reloadWay(
  { name, program: { isCommand, preload } }: {
    readonly name: string;
    readonly program: Pick<CheckedProgram, "isCommand" | "preload">;
  },
  { state, pid, isReloading, mayOverlap, isBelowWrapper, mayRestart }: ReloadSituation,
): ReloadWay {
  const refused = (code: "BAD_HANDLE" | "TRY_AGAIN" | "NOT_SUPPORTED", why: string) =>
    new SamError(code, `cannot reload ${name}: ${why}`);
  if (isReloading) {
    throw refused("TRY_AGAIN", "another reload of it is running. Wait until that has ended.");
  }
  switch (state) {
    case "finished":
      throw refused("BAD_HANDLE", "it has finished. Start it again with a new sam run.");
    case "stopped":
      throw refused("BAD_HANDLE", `it is stopped. Start it with sam restart ${name}.`);
    case "stopping":
      throw refused("TRY_AGAIN", "it is being stopped or restarted.");
    case "idle":
    case "pending":
    case "spawning":
      throw refused("TRY_AGAIN", "it has not started yet.");
  }
  if (mayOverlap) return "side by side";
  if (pid === null || state === "warned" || state === "killing") {
    throw refused("TRY_AGAIN", "it is being recovered.");
  }
  if (!isCommand || preload || (state !== "launched" && !isBelowWrapper)) return "spare";
  if (mayRestart) return "restart";
  throw refused(
    "NOT_SUPPORTED",
    `it must not run twice, and does not call register(). Use sam restart ${name}.`,
  );
}
