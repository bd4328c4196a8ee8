/**
 * The end of an instance is planned: because it failed, or because somebody asked for it. Both go the same way: a warning, a
 * grace period, SIGKILL. What follows the exit is decided later, in verdict.ts.
 */
import type { Signal } from "../signals.ts";
import { interruptStart, noteQuorum, sendWelcome } from "./calls.ts";
import type { Goal } from "./instance_record.ts";
import type { Input, Message, ProgramRecord } from "./program_record.ts";
import type { RecoveryReason } from "./types.ts";

/** Signals wait at most this long for the stack trace of an unresponsive process, and never longer than the grace period. */
const maxStackMs = 2000;

// Failures.

/** The instance has failed: warns it, and kills it after a grace period. `isSilent`: its event loop may be blocked. */
export function fail(
  program: ProgramRecord,
  reason: RecoveryReason,
  detail: string,
  now: number,
  isSilent = true,
): void {
  const { instance, settings } = program;
  const failure = { reason, detail, at: now };
  // An exited process is judged as soon as everything it wrote has arrived, and no deadline holds for it.
  if (instance.exit) return instance.watch.clear();
  if (settings.observe) {
    instance.observed.push(failure);
    return examine(program, false);
  }
  instance.failure = failure;
  program.map.show({ state: "failed" }, now);
  examine(program, isSilent); // before the warning changes what the process does
  warn(program, reason, detail, now);
}

/** Has the process looked at from outside. `isSilent`: its event loop may be blocked, and its stack shows where. */
function examine(program: ProgramRecord, isSilent: boolean): void {
  const { instance: { stackAccess, watch }, settings } = program;
  // A `{ command }` that did not say how its stack can be had need not be JavaScript.
  const hasStack = settings.captureStack && (stackAccess !== null || !settings.startedAtSpawn);
  const stackMs = isSilent && hasStack ? Math.min(maxStackMs, watch.recoveryGraceMs) : 0;
  program.push({ type: "examine", stackMs, stackAccess });
}

/** With `observe`: the process that failed has been examined. */
export function reportObserved(
  program: ProgramRecord,
  { evidence: processEvidence }: Input<"examined">,
): void {
  const { instance } = program;
  const failure = instance.observed.shift();
  if (!failure) return;
  const { reason, detail, at } = failure;
  instance.processEvidence = processEvidence;
  program.emit({ type: "observed", reason, evidence: instance.evidence(detail, at) });
}

/** Somebody other than the process found that it is not healthy. */
export function recover(program: ProgramRecord, input: Input<"unhealthy">, now: number): void {
  fail(program, input.reason, input.detail, now);
}

/** A started instance may not go on without quorum. */
export function recoverUnlessQuorate(
  program: ProgramRecord,
  input: Input<"quorum">,
  now: number,
): void {
  noteQuorum(program, input);
  if (!input.quorate) fail(program, "quorum", "the cluster lost quorum", now, false);
}

/** The process marked itself failed: it is killed without a warning, and not started again. */
export function markFailed(
  program: ProgramRecord,
  { id }: Message<"markFailed">,
  now: number,
): void {
  if (!program.settings.hasClusterMap) {
    return program.refuse(
      id,
      "INVALID_PARAM",
      "markFailed() needs a cluster map: set the option clusterMap",
    );
  }
  program.policy = "quit";
  program.send({ type: "done", id });
  program.instance.failure = { reason: "failed", detail: "markFailed() was called", at: now };
  program.map.show({ recovery: "quit", state: "failed" }, now);
  kill(program);
}

/** A wrapper has ended by itself: the program below it is warned, and its end is judged as the wrapper's. */
export function endOrphan(program: ProgramRecord, input: Input<"orphaned">, now: number): void {
  const { instance } = program;
  if (instance.exit) return;
  instance.orphanedIn = program.state;
  interruptStart(program, "the wrapper of this process ended");
  const reason = input.signal === null ? "exit" : "signal";
  const how = input.signal === null ? `with exit code ${input.code}` : `by ${input.signal}`;
  const detail = `the wrapper ended ${how}, and the program below it still runs`;
  warn(program, reason, detail, now);
}

/** The wrapper of a process that is ending has ended: the processes below it get the signal. */
export function passOn(program: ProgramRecord): void {
  program.push({ type: "passOn" });
}

function warn(program: ProgramRecord, reason: RecoveryReason, detail: string, now: number): void {
  const { instance: { isLinked, watch }, warnSignal: signal } = program;
  sendWelcome(program);
  program.emit({ type: "warn", reason, detail, signal });
  if (isLinked) program.send({ type: "warn", reason, detail });
  if (signal === "SIGKILL") return kill(program);
  program.state = "warned";
  program.push({ type: "signal", signal });
  watch.beginGrace(watch.recoveryGraceMs, now);
}

/** A warned process was examined: where its event loop is blocked, a shorter grace period is enough. */
export function shortenGrace(program: ProgramRecord, input: Input<"examined">, now: number): void {
  const { failure, isPreloaded, isLinked, watch } = program.instance;
  // Without a failure only the wrapper has ended: nothing says that the program below it is unresponsive.
  // A program that registered itself is promised its whole grace period.
  if (input.isBlocked && failure && isPreloaded && isLinked) watch.shortenGrace(failure.at, now);
}

/** The warned process had its grace period, or gets none. */
export function kill(program: ProgramRecord): void {
  if (program.instance.exit) return;
  program.instance.watch.clear();
  if (program.state !== "stopping") program.state = "killing";
  program.emit({ type: "kill" });
  program.push({ type: "signal", signal: "SIGKILL" });
}

// Orders.

/** A stop is asked for: no instance follows. */
export function shutDown(program: ProgramRecord, input: Input<"shutdown">, now: number): void {
  beginEnd(program, "stop", input.signal, now, input.delivered);
}

/** A restart is asked for. */
export function restart(program: ProgramRecord, _input: unknown, now: number): void {
  beginEnd(program, "restart", null, now);
}

/** A stop until the next restart is asked for. */
export function halt(program: ProgramRecord, _input: unknown, now: number): void {
  beginEnd(program, "halt", null, now);
}

/** Warns the process now, and kills it after `stopTimeout`. */
export function beginEnd(
  program: ProgramRecord,
  goal: Goal,
  signal: Signal | null,
  now: number,
  delivered = false,
): void {
  const { instance } = program;
  instance.goal = goal;
  instance.goalSignal = signal;
  program.spare.end(); // after a stop it has no use, for a restart it holds old code
  if (instance.exit) return; // it is judged as soon as everything it wrote has arrived
  sendWelcome(program);
  program.state = "stopping";
  const sent = signal ?? program.warnSignal;
  program.map.show({ state: "stopped" }, now);
  program.emit({ type: "stopping", signal: sent });
  if (instance.isLinked) {
    const reason = goal === "halt" ? "stop" : goal;
    const detail = `the server was asked to ${reason}`;
    program.send({ type: "warn", reason, detail });
    interruptStart(program, detail);
  }
  if (sent === "SIGKILL") return kill(program);
  program.push(delivered ? { type: "delivered" } : { type: "signal", signal: sent });
  instance.watch.beginGrace(program.settings.stopTimeout, now);
}

/** A stop is asked for while the process is being started. A second one kills the process. */
export function shutDownOnceSpawned(program: ProgramRecord, { signal }: Input<"shutdown">): void {
  const { instance } = program;
  if (instance.goal === "stop") instance.isHastened = true;
  else instance.goalSignal = signal;
  instance.goal = "stop";
}

/** A stop is asked for while the process is ending: no instance follows. A second stop kills the process. */
export function shutDownOnceEnded(program: ProgramRecord): void {
  if (program.instance.goal === "stop") kill(program);
  program.instance.goal = "stop";
  program.spare.end();
}

/** A halt is asked for while the process is being started, or is ending. A second halt kills an ending process. */
export function haltOnceEnded(program: ProgramRecord): void {
  const { instance } = program;
  if (instance.goal === "stop") return;
  if (instance.goal === "halt" && program.state !== "spawning") kill(program);
  instance.goal = "halt";
  program.spare.end();
}

/** A restart is asked for in these situations: the next process is new enough. After the end of a wrapper there may be none. */
export function restartOnceEnded(program: ProgramRecord): void {
  const { instance } = program;
  if (program.state !== "spawning") program.spare.end(); // it holds old code
  const isOrphan = instance.orphanedIn !== null && instance.goal === null;
  if (instance.goal === "halt" || isOrphan) instance.goal = "restart";
}
