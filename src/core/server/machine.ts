/**
 * The SAM server: the state machine that decides when an instance starts, is warned, is killed and is replaced. It takes inputs,
 * returns effects, and gets the time as an argument.
 *
 * Theory of operation. The server runs one instance of its program at a time:
 *
 * 1. An instance begins: the server starts a process, or promotes a parked spare. The process registers and calls `start()`,
 *    which may wait for quorum (calls.ts).
 * 2. The server watches the started instance. The instance must send heartbeats and answer its health checks. watch.ts has the
 *    deadlines.
 * 3. The server ends the instance if it misses a deadline, if it is unhealthy, or if a stop or restart is requested: warn signal,
 *    grace period, SIGKILL (ending.ts). Or the process exits by itself.
 * 4. After the exit, the server judges the end (verdict.ts). The next instance begins, at once or after a backoff, or
 *    supervision ends.
 *
 * This file contains the beginning, the watch and the exit of an instance, in that order. transitions.ts is the table of the
 * actions for each input in each state. The actions are in this file, in calls.ts and in ending.ts. All state is in a
 * `ProgramRecord`, which only these files change. The state of one instance is in its `InstanceRecord`, which is replaced when
 * the next one begins.
 *
 * The driver (src/supervisor/driver.ts) reads the getters of `Server`, feeds inputs, and carries out effects. It sets one timer
 * for `deadline`. A tick before that does nothing.
 */
import type { ClientMessage } from "../wire.ts";
import type { EndSignal, Signal } from "../signals.ts";
import * as calls from "./calls.ts";
import * as ending from "./ending.ts";
import { nextInstanceId } from "./instance_record.ts";
import { type Action, type Input, type Message, ProgramRecord } from "./program_record.ts";
import type { Members } from "./members.ts";
import type { Slack } from "./slack.ts";
import type { Promoted } from "./spare.ts";
import { type ActionName, type ServerEventName, table } from "./transitions.ts";
import type {
  ExitStatus,
  RecoveryReason,
  ServerEffect,
  ServerInput,
  ServerSettings,
  ServerState,
  SpareStatus,
} from "./types.ts";
import { judgeEnd, statusOf } from "./verdict.ts";

/** One program under supervision. */
export class Server {
  readonly #program: ProgramRecord;

  constructor(settings: ServerSettings, seed: number) {
    this.#program = new ProgramRecord(settings, seed);
  }

  // Queries.

  get state(): ServerState {
    return this.#program.state;
  }

  /** Number of the instance: 1 for the first one, +1 for each later one. After 2^31-1, it starts again from 0. */
  get instanceId(): number {
    return this.#program.instance.id;
  }

  /** Number of instances after the first one. */
  get restarts(): number {
    return this.#program.restarts;
  }

  /** Process id of the instance; null while there is no process. */
  get pid(): number | null {
    return this.#program.instance.pid;
  }

  /** Time of the last heartbeat, on the clock of `step()`; null before the first one. `start()` counts as a heartbeat. */
  get lastHeartbeat(): number | null {
    return this.#program.instance.watch.lastHeartbeat;
  }

  /** The spare; null while there is none. */
  get spare(): SpareStatus | null {
    return this.#program.spare.status;
  }

  /** The workers of node:cluster. Inputs go through `step()`. */
  get members(): Pick<Members, "get" | "registered"> {
    return this.#program.instance.members;
  }

  /** How close the heartbeats came to their deadline. */
  get slack(): Slack {
    return this.#program.slack.snapshot;
  }

  /** Number of bytes that the program has stored. */
  get dataSize(): number {
    return this.#program.data.size;
  }

  /** True if the watched process is below a wrapper, and only a preload has registered it. */
  get isBelowWrapper(): boolean {
    return this.#program.instance.isBelowWrapper && this.#program.instance.isPreloaded;
  }

  /** True if the process shares its listening sockets with other processes of the program. */
  get sharesSockets(): boolean {
    return this.#program.settings.listensOn !== undefined;
  }

  /** The port at which the process answers a health check of `port`, if it does not accept connections there yet. */
  checkPortOf(port: number): number | undefined {
    return this.#program.instance.checkPorts.get(port);
  }

  /** The bytes that the program has stored. */
  get storedData(): Uint8Array {
    return this.#program.data.part(0, Infinity);
  }

  get warnSignal(): Signal {
    return this.#program.warnSignal;
  }

  /** Time of the next tick, on the clock of `step()`; undefined if none is needed. */
  get deadline(): number | undefined {
    const { instance: { watch }, spare } = this.#program;
    const next = Math.min(watch.next, spare.deadline ?? Infinity, refreshAt(this.#program));
    return next === Infinity ? undefined : next;
  }

  /** Time by which the process must send a heartbeat or answer its health check; Infinity while it need not. */
  get responseDueAt(): number {
    return this.#program.instance.watch.responseDueAt;
  }

  /** Time from which the driver observes whether the process gets CPU time: see `Watch.doubtAt`. */
  get doubtAt(): number {
    return this.#program.instance.watch.doubtAt;
  }

  // Inputs.

  /** Takes one input, and returns the effects in their order. `now` is the time of any monotonic clock, in milliseconds. */
  step(input: ServerInput, now: number): readonly ServerEffect[] {
    const program = this.#program;
    switch (input.type) {
      case "tick":
        tick(program, now);
        break;
      case "reserveIds":
        program.reservedId = Math.max(program.reservedId, input.upTo);
        break;
      case "accept":
        calls.accept(program);
        break;
      case "linkData":
        program.data.replace(input.bytes);
        break;
      case "mapped":
        program.map.noteAnswer(true);
        calls.sendWelcome(program);
        break;
      case "spare":
        program.spare.step(input.input, now);
        break;
      case "member":
        program.instance.members.step(input.key, input.input, now);
        return program.takeEffects();
      case "message": {
        const { message } = input;
        if (calls.takeFact(program, message, now)) return program.takeEffects();
        if (message.type !== "hello") program.instance.hasNotAnsweredPromotion = false;
        act(program, message.type, message, now);
        break;
      }
      default:
        act(program, input.type, input, now);
    }
    program.instance.watch.notePunctual(now);
    return program.takeEffects();
  }
}

function act(
  program: ProgramRecord,
  event: ServerEventName,
  input: ServerInput | ClientMessage,
  now: number,
): void {
  actions[table[program.state][event]](program, input, now);
}

/** The actions of the table. */
const actions: Readonly<Record<ActionName, Action>> = {
  ignore: () => {},
  answerRegister: calls.answerRegister,
  start: calls.start,
  stop: calls.stop,
  finalize: calls.finalize,
  noteQuorum: calls.noteQuorum,
  startIfQuorate: calls.startIfQuorate,
  failQuorum: calls.failQuorum,
  acknowledge: calls.acknowledge,
  refuse: calls.refuse,
  setWarnSignal: calls.setWarnSignal,
  store: calls.store,
  sendData: calls.sendData,
  recover: ending.recover,
  recoverUnlessQuorate: ending.recoverUnlessQuorate,
  markFailed: ending.markFailed,
  reportObserved: ending.reportObserved,
  shortenGrace: ending.shortenGrace,
  endOrphan: ending.endOrphan,
  passOn: ending.passOn,
  shutDown: ending.shutDown,
  shutDownOnceSpawned: ending.shutDownOnceSpawned,
  shutDownOnceEnded: ending.shutDownOnceEnded,
  restart: ending.restart,
  restartOnceEnded: ending.restartOnceEnded,
  prepareSpare: (program, _input, now) => program.spare.prepare(now),
  halt: ending.halt,
  haltOnceEnded: ending.haltOnceEnded,
  spawn: (program, _input, now) => spawn(program, now),
  spawnAfresh: (program, _input, now) => {
    program.spare.end(); // the restart must not use its old code
    spawn(program, now);
  },
  begin: beginAllowed,
  launch,
  failSpawn,
  takeHeartbeat: (program, _input, now) => takeHeartbeat(program, now),
  noteLoopHeartbeat: (program, _input, now) => program.instance.watch.noteLoopHeartbeat(now),
  giveTime,
  beginCheck: (program, _input, now) => program.instance.watch.beginCheck(now),
  endCheck,
  endLink: ending.endLink,
  noteExit,
  conclude,
  abandon,
  rest,
  finish: (program, input: Input<"shutdown">) => finishWithoutProcess(program, input.signal),
};

function tick(program: ProgramRecord, now: number): void {
  const { map, settings: { timeInterval } } = program;
  program.spare.tick(now);
  if (refreshAt(program) <= now) map.refresh(now);
  forgiveStall(program, now);
  switch (program.instance.watch.takeDue(now)) {
    case "backoff":
      return beginNext(program, now);
    case "grace":
      return ending.kill(program);
    case "map":
      map.noteAnswer(false);
      return calls.sendWelcome(program);
    case "startup":
      return endStartup(program, now);
    case "liveness":
      return ending.fail(program, "timeout", `no heartbeat for ${timeInterval} ms`, now);
    case "check": {
      const detail = `the health check did not answer within ${timeInterval} ms`;
      return ending.fail(program, "unhealthy", detail, now);
    }
    case "lostLink":
      return ending.fail(program, "exit", "the process closed its connection and did not end", now);
  }
}

/** Time at which `last_updated` in the cluster map must be updated without a heartbeat; Infinity if that is not needed. */
function refreshAt({ state, map }: ProgramRecord): number {
  return state === "started" ? map.refreshAt : Infinity;
}

/** Gives the process more time if a late tick shows that this server was stalled. */
function forgiveStall(program: ProgramRecord, now: number): void {
  const lateMs = program.instance.watch.forgiveStall(now);
  if (lateMs > 0) program.emit({ type: "stall", lateMs });
}

// An instance begins.

/** Begins the next instance: promotes the spare if there is one, or starts a process. */
function beginNext(program: ProgramRecord, now: number): void {
  const promoted = program.spare.promote();
  if (!promoted) return spawn(program, now);
  program.beginInstance(now);
  promote(program, promoted, now);
}

/** Begins the instance that has the permission to start. In a reload, a spare has loaded the new code before the first one. */
function beginAllowed(program: ProgramRecord, _input: unknown, now: number): void {
  const promoted = program.spare.promote();
  if (promoted) promote(program, promoted, now);
  else startProcess(program);
}

function promote(program: ProgramRecord, promoted: Promoted, now: number): void {
  program.noteProcessStart();
  program.instance.spawnedAt = now; // the time that it waited for permission is no run time
  program.push({ type: "promote" });
  program.instance.hasNotAnsweredPromotion = true;
  enterLaunched(program, promoted.pid, now);
  program.emit({ type: "spare", state: "promoted", pid: promoted.pid });
  if (promoted.hello) calls.answerRegister(program, promoted.hello, now);
}

/** Starts a process, or asks for permission if other programs come first. */
function spawn(program: ProgramRecord, now: number): void {
  program.beginInstance(now);
  if (!program.settings.asksBeforeStart) return startProcess(program);
  program.state = "pending";
  program.push({ type: "askToStart" });
}

function startProcess(program: ProgramRecord): void {
  program.noteProcessStart();
  program.state = "spawning";
  program.push({ type: "spawn", instanceId: program.instance.id });
}

/** The process exists: enters the state `launched`. */
function launch(program: ProgramRecord, { pid }: Input<"spawned">, now: number): void {
  const { instance } = program;
  instance.spawnedAt = now;
  enterLaunched(program, pid, now);
  program.emit({ type: "spawn", pid });
  if (instance.goal === "restart") instance.goal = null; // this process fulfills the restart
  if (instance.goal === null) return;
  const signal = instance.killWhenSpawned ? "SIGKILL" : instance.goalSignal;
  ending.beginEnd(program, instance.goal, signal, now);
}

function enterLaunched(program: ProgramRecord, pid: number, now: number): void {
  const { instance, settings } = program;
  program.state = "launched";
  instance.pid = pid;
  // A command need not call start(), so it counts as healthy. If it registers, its startup timeout begins then.
  if (settings.startedAtSpawn) instance.healthySince = now;
  else instance.watch.limitStartup(now);
}

/** The process could not be started. This ends supervision for the first instance, and is a failure of a later one. */
function failSpawn(program: ProgramRecord, { error }: Input<"spawnFailed">, now: number): void {
  const { instance } = program;
  program.push({ type: "cleanUp" });
  program.emit({ type: "spawnFailed", error });
  if (instance.goal === "stop") return finishWithoutProcess(program, instance.goalSignal);
  if (instance.goal === "halt") return rest(program);
  if (instance.goal === "restart") return spawn(program, now);
  if (!program.isProven) {
    return finish(program, { code: 1, signal: null, reason: "spawn", error });
  }
  program.lastExit ??= { code: 1, signal: null };
  instance.spawnedAt = now; // its run time is 0
  recover(program, "startup", error.message, now);
}

/**
 * The startup timeout is over. A preload calls `start()` only after the event loop has turned freely for a while. If the loop
 * turns, but is too busy for that, the watch begins now.
 */
function endStartup(program: ProgramRecord, now: number): void {
  const { isPreloaded, isLinked, watch } = program.instance;
  if (isPreloaded && calls.mustListen(program)) {
    return ending.fail(program, "startup", calls.notListening(program), now);
  }
  if (!isPreloaded || !isLinked || !watch.hasRecentLoopHeartbeat(now)) {
    const detail = `the program did not start within ${program.settings.startupTimeout} ms`;
    return ending.fail(program, "startup", detail, now);
  }
  if (program.isQuorate) calls.watch(program, now);
  else watch.limitStartup(now);
}

// The instance is watched.

/** Takes a heartbeat. A healthy answer of the health check counts as one. */
function takeHeartbeat({ instance, map }: ProgramRecord, now: number): void {
  instance.watch.takeHeartbeat(now);
  map.touch(now);
}

/** The health check has answered. */
function endCheck(program: ProgramRecord, message: Message<"checkEnd">, now: number): void {
  program.instance.watch.endCheck();
  if (message.healthy) takeHeartbeat(program, now);
  else ending.fail(program, "unhealthy", message.detail, now, false);
}

/** The process got no CPU time: gives it more time for its next heartbeat. */
function giveTime(program: ProgramRecord, { waitMs }: Input<"starved">, now: number): void {
  forgiveStall(program, now);
  if (program.instance.watch.giveTime(waitMs, now)) program.emit({ type: "starved" });
}

// The process ends.

/** The process has exited. Its last messages may still arrive. */
function noteExit(program: ProgramRecord, { code, signal }: Input<"exit">): void {
  const { instance } = program;
  if (instance.exit) return;
  instance.watch.clear();
  instance.exit = { code, signal };
  program.emit({ type: "exit", code, signal });
}

/** Everything that the exited process wrote has arrived: judges its end. */
function conclude(program: ProgramRecord, input: Input<"concluded">, now: number): void {
  const { instance } = program;
  if (!instance.exit) return;
  instance.exit = { ...instance.exit, detail: input.detail };
  instance.processEvidence = input.evidence;
  judge(program, now);
}

function judge(program: ProgramRecord, now: number): void {
  const { instance } = program;
  const verdict = judgeEnd(instance, program.state, program.isProven, program.settings);
  cleanUp(program);
  program.lastExit = instance.exit;
  if (verdict.next === "recover") return recover(program, verdict.reason, verdict.detail, now);
  if (verdict.next === "finish") return finish(program, verdict.status);
  program.restart.addRunTime(instance.ranMs(now), instance.healthyMs(now));
  return verdict.next === "spawn" ? spawn(program, now) : rest(program);
}

/** Replaces an instance that failed and has ended, unless the recovery policy or the restart limit forbids it. */
function recover(program: ProgramRecord, reason: RecoveryReason, detail: string, now: number) {
  const { instance, settings } = program;
  const { signal } = program.lastExit!;
  const status = statusOf(program.lastExit!);
  const evidence = instance.evidence(detail, now);
  program.map.show({ state: "failed" }, now);
  if (program.policy === "quit") {
    program.emit({ type: "recovery", reason, evidence, delay: null });
    if (reason === "failed") program.emit({ type: "failed", reason, evidence });
    // A failed process may exit with 0 after the warn signal. If 0 means that the work is done, the caller would take that for
    // success, so the status is 1.
    const zeroMeansDone = settings.restart.on !== "started" && !instance.registeredItself;
    const code = zeroMeansDone ? status || 1 : status;
    return finish(program, { code, signal, reason: reason === "failed" ? "failed" : "quit" });
  }
  const delay = program.restart.nextDelay(instance.ranMs(now), instance.healthyMs(now));
  const next = program.nextId === nextInstanceId(instance.id)
    ? {}
    : { nextInstanceId: program.nextId };
  program.emit({ type: "recovery", reason, evidence, delay: delay ?? null, ...next });
  if (delay === undefined) {
    program.emit({ type: "failed", reason, evidence });
    return finish(program, { code: status || 1, signal, reason: "restart-limit" });
  }
  instance.watch.clear();
  if (delay === 0) return beginNext(program, now);
  program.state = "backoff";
  instance.watch.beginBackoff(delay, now);
}

/** The process cannot be killed, so no instance can follow: ends supervision, and leaves the process running. */
function abandon(program: ProgramRecord, { problem }: Input<"unkillable">, now: number): void {
  const { instance: { exit, goal }, map } = program;
  if (exit) return;
  cleanUp(program);
  map.show({ state: "failed" }, now);
  const reason = goal === "stop" ? "stopped" : "failed";
  finish(program, { code: 1, signal: null, reason, error: problem });
}

function cleanUp(program: ProgramRecord): void {
  program.push({ type: "cleanUp" });
  program.instance.pid = null;
  program.instance.members.clear();
  program.map.takeWelcome(); // no process is left to read it
}

// Without a process.

/** Starts no process until a restart is requested. */
function rest(program: ProgramRecord): void {
  program.instance.watch.clear();
  program.spare.end();
  program.state = "stopped";
  program.emit({ type: "stopped" });
}

/** Ends supervision on request while no process exists. */
function finishWithoutProcess(program: ProgramRecord, signal: EndSignal | null): void {
  finish(program, { code: statusOf({ code: 0, signal }), signal, reason: "stopped" });
}

/** Ends supervision. */
function finish(program: ProgramRecord, status: ExitStatus): void {
  program.instance.watch.clear();
  program.spare.end();
  program.state = "finished";
  program.map.end();
  program.push({ type: "finish", status });
}
