/** Decides what follows the exit of an instance. */
import { signalNumber } from "../signals.ts";
import type { Exit, InstanceRecord } from "./instance_record.ts";
import type { ExitStatus, RecoveryReason, ServerSettings, ServerState } from "./types.ts";

/** The decision after the end of an instance. */
export type Verdict =
  /** The instance failed. The next one starts if the recovery policy and the restart limit allow it. */
  | { readonly next: "recover"; readonly reason: RecoveryReason; readonly detail: string }
  /** Supervision ends. */
  | { readonly next: "finish"; readonly status: ExitStatus }
  /** A restart was requested: the next instance starts. */
  | { readonly next: "spawn" }
  /** A stop until the next restart was requested. */
  | { readonly next: "rest" };

/** Judges the exit of `instance` in `state`. `isReplacement` is true if another instance ran before it. */
export function judgeEnd(
  instance: InstanceRecord,
  state: ServerState,
  isReplacement: boolean,
  settings: ServerSettings,
): Verdict {
  const { failure, goal } = instance;
  // A program that called markFailed() is not started again, even if a restart was requested meanwhile.
  if (failure?.reason === "failed") return recover("failed", failure.detail);
  if (goal === "stop") return finish(instance.exit!, "stopped");
  if (goal !== null) return { next: goal === "halt" ? "rest" : "spawn" };
  if (failure) return recover(failure.reason, failure.detail);
  return judgeUnplanned(instance, instance.orphanedIn ?? state, isReplacement, settings);
}

/** Judges the exit of an instance that ended by itself. */
function judgeUnplanned(
  instance: InstanceRecord,
  state: ServerState,
  isReplacement: boolean,
  settings: ServerSettings,
): Verdict {
  const exit = instance.exit!;
  const status = statusOf(exit);
  const failed = recover(exit.signal === null ? "exit" : "signal", exit.detail ?? "");
  if (settings.restart.on !== "started" && !instance.registeredItself) {
    // A promoted spare may exit before it knows of its promotion. Its exit code 0 then does not mean that the work is done.
    const isDone = settings.restart.on === "failure" && status === 0 &&
      !instance.hasNotAnsweredPromotion;
    return isDone ? finish(exit, "exit") : failed;
  }
  if (state === "finalized") return finish(exit, "exit");
  if (state !== "launched" && state !== "registered") return failed;
  if (settings.startedAtSpawn && !instance.isRegistered) return failed;
  const isStartup = isReplacement && !instance.hasStarted;
  if (isStartup && (status !== 0 || instance.hasNotAnsweredPromotion)) {
    return recover("startup", "the process ended before it called start()");
  }
  if (instance.isRegistered || status === 0) return finish(exit, "exit");
  return finish(exit, "exit", {
    code: "LIBRARY",
    message:
      `${settings.program} ended with exit code ${status} before it called register(): see its output for the reason`,
  });
}

function recover(reason: RecoveryReason, detail: string): Verdict {
  return { next: "recover", reason, detail };
}

function finish(exit: Exit, reason: "exit" | "stopped", error?: ExitStatus["error"]): Verdict {
  const status = { code: statusOf(exit), signal: exit.signal, reason };
  return { next: "finish", status: error ? { ...status, error } : status };
}

/** The exit status as a shell shows it: the exit code, or 128 + the number of the signal. */
export function statusOf(exit: Pick<Exit, "code" | "signal">): number {
  return exit.signal === null ? exit.code ?? 0 : 128 + signalNumber(exit.signal);
}
