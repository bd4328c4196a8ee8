/** The judgement of an end: what follows the exit of an instance, from what is known about it. */
import { signalNumber } from "../signals.ts";
import type { Exit, InstanceRecord } from "./instance_record.ts";
import type { ExitStatus, RecoveryReason, ServerSettings, ServerState } from "./types.ts";

/** What follows the end of an instance. */
export type Verdict =
  /** The instance failed: the next one starts if policy and restart limit allow it. */
  | { readonly next: "recover"; readonly reason: RecoveryReason; readonly detail: string }
  /** Supervision ends. */
  | { readonly next: "finish"; readonly status: ExitStatus }
  /** A restart was asked for: the next instance starts. */
  | { readonly next: "spawn" }
  /** A stop until the next restart was asked for. */
  | { readonly next: "rest" };

/** Judges the exit of `instance`, which came in `state`. `isReplacement`: another instance ran before it. */
export function judgeEnd(
  instance: InstanceRecord,
  state: ServerState,
  isReplacement: boolean,
  settings: ServerSettings,
): Verdict {
  const { failure, goal } = instance;
  // A program that marked itself failed is not started again, whatever else was asked for meanwhile.
  if (failure?.reason === "failed") return recover("failed", failure.detail);
  if (goal === "stop") return finish(instance.exit!, "stopped");
  if (goal !== null) return { next: goal === "halt" ? "rest" : "spawn" };
  if (failure) return recover(failure.reason, failure.detail);
  return judgeUnplanned(instance, instance.orphanedIn ?? state, isReplacement, settings);
}

/** Judges the exit of an instance that nobody asked to end. */
function judgeUnplanned(
  instance: InstanceRecord,
  state: ServerState,
  isReplacement: boolean,
  settings: ServerSettings,
): Verdict {
  const exit = instance.exit!;
  const status = statusOf(exit);
  const failed = recover(exit.signal === null ? "exit" : "signal", exit.detail ?? "");
  if (settings.restart.on !== "started" && !instance.judgesItself) {
    // A spare that was promoted may end as the spare that it was: its exit code 0 does not end the work.
    const isDone = settings.restart.on === "failure" && status === 0 && !instance.isUnaware;
    return isDone ? finish(exit, "exit") : failed;
  }
  if (state === "finalized") return finish(exit, "exit");
  if (state !== "launched" && state !== "registered") return failed;
  if (settings.startedAtSpawn && !instance.isRegistered) return failed;
  const isStartup = isReplacement && !instance.hasStarted;
  if (isStartup && (status !== 0 || instance.isUnaware)) {
    return recover("startup", "the process ended before it called start()");
  }
  if (instance.isRegistered || status === 0) return finish(exit, "exit");
  return finish(exit, "exit", {
    code: "LIBRARY",
    message:
      `${settings.program} ended with status ${status} before it called register(): see its output for the reason`,
  });
}

function recover(reason: RecoveryReason, detail: string): Verdict {
  return { next: "recover", reason, detail };
}

function finish(exit: Exit, reason: "exit" | "stopped", error?: ExitStatus["error"]): Verdict {
  const status = { code: statusOf(exit), signal: exit.signal, reason };
  return { next: "finish", status: error ? { ...status, error } : status };
}

/** The status of an exit, as a shell counts it: the exit code, or 128 and the number of the signal. */
export function statusOf(exit: Pick<Exit, "code" | "signal">): number {
  return exit.signal === null ? exit.code ?? 0 : 128 + signalNumber(exit.signal);
}
