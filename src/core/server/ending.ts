/**
 * The planned end of an instance, after a failure or on request. Both have three steps: warn signal, grace period, SIGKILL.
 * verdict.ts decides what follows the exit.
 */
import type { Signal } from "../signals.ts";
import { interruptStart, leaveToWrapper, noteQuorum, sendWelcome } from "./calls.ts";
import type { Goal } from "./instance_record.ts";
import type { Input, Message, ProgramRecord } from "./program_record.ts";
import type { RecoveryReason } from "./types.ts";

// Failures.

/** Warns a failed instance, and kills it after a grace period. `mayBeBlocked`: its event loop may be blocked. */
export function fail(
  program: ProgramRecord,
  reason: RecoveryReason,
  detail: string,
  now: number,
  mayBeBlocked = true,
): void {
  const { instance, settings } = program;
  const failure = { reason, detail, at: now };
  // An exited process has no deadlines. It is judged when everything it wrote has arrived.
  if (instance.exit) return instance.watch.clear();
  if (settings.observe) {
    instance.observed.push(failure);
    return examine(program, false);
  }
  instance.failure = failure;
  program.map.show({ state: "failed" }, now);
  examine(program, mayBeBlocked); // before the warning changes the state of the process
  warn(program, reason, detail, now);
}

/** Starts the examination of the process. A stack trace is captured only if the event loop may be blocked. */
function examine(program: ProgramRecord, mayBeBlocked: boolean): void {
  const { instance: { stackAccess, watch }, settings } = program;
  // A command that did not say how its stack can be captured need not be JavaScript.
  const hasStack = settings.captureStack && (stackAccess !== null || !settings.startedAtSpawn);
  const stackMs = mayBeBlocked && hasStack ? watch.stackLimitMs : 0;
  program.push({ type: "examine", stackMs, stackAccess });
}

/** With `observe`: reports the failure after the examination of the process. */
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

/** A health check of the server, or the user's code, found the program unhealthy. */
export function recover(program: ProgramRecord, input: Input<"unhealthy">, now: number): void {
  fail(program, input.reason, input.detail, now);
}

/** Starts a recovery if the cluster lost quorum while the instance is started. */
export function recoverUnlessQuorate(
  program: ProgramRecord,
  input: Input<"quorum">,
  now: number,
): void {
  noteQuorum(program, input);
  if (!input.quorate) fail(program, "quorum", "the cluster lost quorum", now, false);
}

/** The process called `markFailed()`: kills it without a warning, and starts no other. */
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

/**
 * A wrapper has ended by itself: warns the program below it. When that has ended too, the verdict depends on the exit status of
 * the wrapper, and on the state at the end of the wrapper.
 */
export function endOrphan(program: ProgramRecord, input: Input<"orphaned">, now: number): void {
  const { instance } = program;
  if (instance.exit) return;
  instance.orphanedIn = program.state;
  interruptStart(program, "the wrapper of this process ended");
  const reason = input.signal === null ? "exit" : "signal";
  const how = input.signal === null ? `with exit code ${input.code}` : `by ${input.signal}`;
  const detail = `the wrapper ended ${how}, but the program that it started still runs`;
  warn(program, reason, detail, now);
}

/** A wrapper that was being ended has ended: sends the signal to the processes below it. */
export function passOn(program: ProgramRecord): void {
  program.push({ type: "passOn" });
}

function warn(program: ProgramRecord, reason: RecoveryReason, detail: string, now: number): void {
  const { instance: { isLinked, watch }, warnSignal: signal } = program;
  sendWelcome(program);
  program.emit({ type: "warn", reason, detail, signal });
  if (isLinked) program.send({ type: "warn", reason, detail, drain: "" });
  if (signal === "SIGKILL") return kill(program);
  program.state = "warned";
  program.push({ type: "signal", signal });
  watch.beginGrace(watch.recoveryGraceMs, now);
}

/** Shortens the grace period of a warned process if the examination shows that its event loop is blocked. */
export function shortenGrace(program: ProgramRecord, input: Input<"examined">, now: number): void {
  const { failure, isPreloaded, isLinked, watch } = program.instance;
  // Without a failure, only the wrapper has ended, and the program below it need not be unresponsive.
  // The documentation promises a full grace period to programs that register themselves.
  if (input.isBlocked && failure && isPreloaded && isLinked) watch.shortenGrace(failure.at, now);
}

/** Kills the process: its grace period is over, or it gets none. */
export function kill(program: ProgramRecord): void {
  if (program.instance.exit) return;
  program.instance.watch.clear();
  if (program.state !== "stopping") program.state = "killing";
  program.emit({ type: "kill" });
  program.push({ type: "signal", signal: "SIGKILL" });
}

/** The link has ended. The exit must follow soon, or has happened already. */
export function endLink(program: ProgramRecord, _input: unknown, now: number): void {
  const { instance, state } = program;
  if (!instance.isLinked) return;
  instance.isLinked = false;
  if (instance.exit) return;
  if (instance.isPreloaded && instance.isBelowWrapper) return leaveToWrapper(program, now);
  if (state === "started" || state === "waiting") instance.watch.awaitExit(now);
}

// Requests to stop or restart.

/** Stops the program: no instance follows. */
export function shutDown(program: ProgramRecord, input: Input<"shutdown">, now: number): void {
  beginEnd(program, "stop", input.signal, now, input.delivered);
}

/** Ends the instance, and then starts the next one. */
export function restart(program: ProgramRecord, _input: unknown, now: number): void {
  beginEnd(program, "restart", null, now);
}

/** Ends the instance, and starts no other until a restart is requested. */
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
  // A stop does not need the spare, and a restart must not use its old code.
  program.spare.end();
  if (instance.exit) return; // judged when everything it wrote has arrived
  sendWelcome(program);
  program.state = "stopping";
  const sent = signal ?? program.warnSignal;
  // Without a handler, the signal would end the process at once, with its requests.
  const drains = instance.drains && instance.isPreloaded && instance.isLinked && !delivered;
  program.map.show({ state: "stopped" }, now);
  program.emit({ type: "stopping", signal: sent });
  if (instance.isLinked) {
    const reason = goal === "halt" ? "stop" : goal;
    const detail = `the SAM server was asked to ${reason}`;
    program.send({ type: "warn", reason, detail, drain: drains ? sent : "" });
    interruptStart(program, detail);
  }
  if (sent === "SIGKILL") return kill(program);
  if (delivered) program.push({ type: "delivered" });
  else if (!drains) program.push({ type: "signal", signal: sent });
  instance.watch.beginGrace(program.settings.stopTimeout, now);
}

/** Notes a stop while the process is being started. A second stop kills the process as soon as it exists. */
export function shutDownOnceSpawned(program: ProgramRecord, { signal }: Input<"shutdown">): void {
  const { instance } = program;
  if (instance.goal === "stop") instance.killWhenSpawned = true;
  else instance.goalSignal = signal;
  instance.goal = "stop";
}

/** Notes a stop while the process is being ended: no instance follows. A second stop kills the process. */
export function shutDownOnceEnded(program: ProgramRecord): void {
  if (program.instance.goal === "stop") kill(program);
  program.instance.goal = "stop";
  program.spare.end();
}

/** Notes a halt while the process is being started or ended. A second halt kills a process that is being ended. */
export function haltOnceEnded(program: ProgramRecord): void {
  const { instance } = program;
  if (instance.goal === "stop") return;
  if (instance.goal === "halt" && program.state !== "spawning") kill(program);
  instance.goal = "halt";
  program.spare.end();
}

/**
 * Notes a restart while the process is being started or ended. The next process fulfills it. After a halt, or after the end of a
 * wrapper, no process would follow, so the restart becomes the goal.
 */
export function restartOnceEnded(program: ProgramRecord): void {
  const { instance } = program;
  if (program.state !== "spawning") program.spare.end(); // the restart must not use its old code
  const isOrphan = instance.orphanedIn !== null && instance.goal === null;
  if (instance.goal === "halt" || isOrphan) instance.goal = "restart";
}
