/**
 * The SAM server: the state machine that owns the policy. Inputs in, effects out, `now` an argument.
 *
 * Theory of operation. The server keeps one instance of its program alive:
 *
 * 1. An instance begins: a process is spawned, or a parked spare is promoted. The process registers and calls `start()`,
 *    which may wait for quorum (calls.ts).
 * 2. A started instance is watched: it must send heartbeats, and its health checks must answer (watch.ts has the deadlines).
 * 3. Its end is planned when it misses a deadline, says that it is unhealthy, or when somebody asks for a stop or a restart:
 *    a warning, a grace period, SIGKILL (ending.ts). Or the process exits by itself.
 * 4. The process is gone. The server judges the end (verdict.ts): the next instance begins, at once or after a backoff, or
 *    supervision ends.
 *
 * This file has the beginning, the watching and the exit, in that order. transitions.ts is the table of what each input does in
 * each state: an action of this file, of calls.ts, or of ending.ts. All state is in a `ProgramRecord`, which only these files
 * change. What holds for one instance is in its `InstanceRecord`, which is replaced whole when the next instance begins.
 *
 * The driver reads the getters of `Server`, feeds inputs, and carries out effects. It sets one timer for `deadline`. A tick
 * before that does nothing.
 */
import type { ClientMessage } from "../wire.ts";
import type { EndSignal, Signal } from "../signals.ts";
import * as calls from "./calls.ts";
import * as ending from "./ending.ts";
import { type Action, type Input, type Message, ProgramRecord } from "./program_record.ts";
import type { Slack } from "./slack.ts";
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

  /** Where the program is in its life. */
  get state(): ServerState {
    return this.#program.state;
  }

  /** 1 for the first instance, +1 for each later one, 0 after 2^31-1. */
  get instanceId(): number {
    return this.#program.instance.id;
  }

  /** How many instances began after the first. */
  get restarts(): number {
    return this.#program.restarts;
  }

  /** The process id of the instance; null while there is no process. */
  get pid(): number | null {
    return this.#program.instance.pid;
  }

  /** When the instance was last known healthy, on the clock of `now`; null before its first sign of life. */
  get lastHeartbeat(): number | null {
    return this.#program.instance.watch.lastHeartbeat;
  }

  /** The spare process; null when there is none. */
  get spare(): SpareStatus | null {
    return this.#program.spare.status;
  }

  /** How much of the time interval was left at the signs of life of the instance. */
  get slack(): Slack {
    return this.#program.slack.snapshot;
  }

  /** The bytes stored by the active process. */
  get dataSize(): number {
    return this.#program.data.size;
  }

  /** The signal that warns the active process. */
  get warnSignal(): Signal {
    return this.#program.warnSignal;
  }

  /** When the next tick is due, on the clock of `now`; undefined for never. */
  get deadline(): number | undefined {
    const { instance: { watch }, spare } = this.#program;
    const next = Math.min(watch.next, spare.deadline ?? Infinity, refreshAt(this.#program));
    return next === Infinity ? undefined : next;
  }

  /** When the process will have been silent for too long; Infinity while no sign of life is expected. */
  get silenceAt(): number {
    return this.#program.instance.watch.silenceAt;
  }

  /** When a silent process comes into doubt, so that the driver looks whether it gets CPU time: see `Watch.doubtAt`. */
  get doubtAt(): number {
    return this.#program.instance.watch.doubtAt;
  }

  // Inputs.

  /** Takes one input and returns what must be done, in this order. */
  step(input: ServerInput, now: number): readonly ServerEffect[] {
    const program = this.#program;
    switch (input.type) {
      case "tick":
        tick(program, now);
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
      case "message": {
        const { message } = input;
        if (message.type === "stackAccess") {
          program.instance.stackAccess = message.how;
          return [];
        }
        if (message.type !== "hello") program.instance.isUnaware = false;
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
  welcome: calls.welcome,
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
  halt: ending.halt,
  haltOnceEnded: ending.haltOnceEnded,
  spawn: (program, _input, now) => spawn(program, now),
  spawnAfresh: (program, _input, now) => {
    program.spare.end(); // it holds old code
    spawn(program, now);
  },
  startProcess,
  launch,
  failSpawn,
  confirm: (program, _input, now) => confirm(program, now),
  noteTurn: (program, _input, now) => program.instance.watch.noteTurn(now),
  giveTime,
  beginCheck: (program, _input, now) => program.instance.watch.beginCheck(now),
  endCheck,
  endLink,
  noteExit,
  conclude,
  abandon,
  rest,
  finish: (program, input: Input<"shutdown">) => finishBetween(program, input.signal),
};

/** Time has passed: does what is due. */
function tick(program: ProgramRecord, now: number): void {
  const { map, settings: { timeInterval } } = program;
  program.spare.tick(now);
  if (refreshAt(program) <= now) map.show({}, now);
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

/** When `last_updated` must move in the cluster map without a heartbeat. */
function refreshAt({ state, map }: ProgramRecord): number {
  return state === "started" ? map.refreshAt : Infinity;
}

/** A late tick shows that this server was stalled: the process gets the time back. */
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
  program.noteStart();
  program.push({ type: "promote" });
  program.instance.isUnaware = true;
  enterLaunched(program, promoted.pid, now);
  program.emit({ type: "spare", state: "promoted", pid: promoted.pid });
  if (promoted.hello) calls.welcome(program, promoted.hello, now);
}

/** Starts a process, or asks to start it where other programs come first. */
function spawn(program: ProgramRecord, now: number): void {
  program.beginInstance(now);
  if (!program.settings.asksBeforeStart) return startProcess(program);
  program.state = "pending";
  program.push({ type: "askToStart" });
}

function startProcess(program: ProgramRecord): void {
  program.noteStart();
  program.state = "spawning";
  program.push({ type: "spawn", instanceId: program.instance.id });
}

/** The process exists. */
function launch(program: ProgramRecord, { pid }: Input<"spawned">, now: number): void {
  const { instance } = program;
  instance.spawnedAt = now;
  enterLaunched(program, pid, now);
  program.emit({ type: "spawn", pid });
  if (instance.goal === "restart") instance.goal = null; // this process is new enough
  if (instance.goal === null) return;
  const signal = instance.isHastened ? "SIGKILL" : instance.goalSignal;
  ending.beginEnd(program, instance.goal, signal, now);
}

function enterLaunched(program: ProgramRecord, pid: number, now: number): void {
  const { instance, settings } = program;
  program.state = "launched";
  instance.pid = pid;
  // A `{ command }` need not call start(): it counts as healthy. If it registers, its startup timeout begins then.
  if (settings.startedAtSpawn) instance.healthySince = now;
  else instance.watch.limitStartup(now);
}

/** The process could not be started: fatal for the first instance, a failed recovery for a later one. */
function failSpawn(program: ProgramRecord, { error }: Input<"spawnFailed">, now: number): void {
  const { instance } = program;
  program.push({ type: "cleanUp" });
  program.emit({ type: "spawnFailed", error });
  if (instance.goal === "stop") return finishBetween(program, instance.goalSignal);
  if (instance.goal === "halt") return rest(program);
  if (instance.goal === "restart") return spawn(program, now);
  if (program.restarts === 0) {
    return finish(program, { code: 1, signal: null, reason: "spawn", error });
  }
  program.lastExit ??= { code: 1, signal: null };
  instance.spawnedAt = now; // it never ran
  recover(program, "startup", error.message, now);
}

/** The startup timeout is over. A preloaded program whose event loop turns, but is never idle, is watched from now on. */
function endStartup(program: ProgramRecord, now: number): void {
  const { isPreloaded, isLinked, watch } = program.instance;
  if (!isPreloaded || !isLinked || !watch.isLoopTurning(now)) {
    const detail = `the program did not start within ${program.settings.startupTimeout} ms`;
    return ending.fail(program, "startup", detail, now);
  }
  if (program.isQuorate) calls.watch(program, now);
  else watch.limitStartup(now);
}

// The instance is watched.

/** Takes a sign of life: a heartbeat, or a healthy answer of the check. */
function confirm({ instance, map }: ProgramRecord, now: number): void {
  instance.watch.confirm(now);
  map.touch(now);
}

/** The health check has answered. */
function endCheck(program: ProgramRecord, message: Message<"checkEnd">, now: number): void {
  program.instance.watch.endCheck();
  if (message.healthy) confirm(program, now);
  else ending.fail(program, "unhealthy", message.detail, now, false);
}

/** The process got no CPU time: it gets more time for a sign of life. */
function giveTime(program: ProgramRecord, { waitMs }: Input<"starved">, now: number): void {
  forgiveStall(program, now);
  if (program.instance.watch.giveTime(waitMs, now)) program.emit({ type: "starved" });
}

// The process ends.

/** The link has ended. The exit follows soon, or has come already. */
function endLink(program: ProgramRecord, _input: unknown, now: number): void {
  const { instance, state } = program;
  if (!instance.isLinked) return;
  instance.isLinked = false;
  if (instance.exit) return;
  if (state === "started" || state === "waiting") instance.watch.awaitExit(now);
}

/** The process has exited. What it wrote before may still arrive. */
function noteExit(program: ProgramRecord, { code, signal }: Input<"exit">): void {
  const { instance } = program;
  if (instance.exit) return;
  instance.watch.clear();
  instance.exit = { code, signal };
  program.emit({ type: "exit", code, signal });
}

/** Everything that the exited process wrote has arrived. */
function conclude(program: ProgramRecord, input: Input<"concluded">, now: number): void {
  const { instance } = program;
  if (!instance.exit) return;
  instance.exit = { ...instance.exit, detail: input.detail };
  instance.processEvidence = input.evidence;
  judge(program, now);
}

/** The process is gone, and everything it wrote has arrived: decides what follows. */
function judge(program: ProgramRecord, now: number): void {
  const { instance } = program;
  const verdict = judgeEnd(instance, program.state, program.restarts > 0, program.settings);
  cleanUp(program);
  program.lastExit = instance.exit;
  if (verdict.next === "recover") return recover(program, verdict.reason, verdict.detail, now);
  if (verdict.next === "finish") return finish(program, verdict.status);
  program.restart.ran(instance.ranMs(now), instance.healthyMs(now));
  return verdict.next === "spawn" ? spawn(program, now) : rest(program);
}

/** The instance has failed and is gone: the next one begins, unless the policy or the restart limit forbids it. */
function recover(program: ProgramRecord, reason: RecoveryReason, detail: string, now: number) {
  const { instance, settings } = program;
  const { signal } = program.lastExit!;
  const status = statusOf(program.lastExit!);
  const evidence = instance.evidence(detail, now);
  program.map.show({ state: "failed" }, now);
  if (program.policy === "quit") {
    program.emit({ type: "recovery", reason, evidence, delay: null });
    if (reason === "failed") program.emit({ type: "failed", reason, evidence });
    // A failed process may answer its warning with exit code 0. Where 0 means that the work is done, supervision ends with 1.
    const isFailure = settings.restart.on !== "started" && !instance.judgesItself;
    const code = isFailure ? status || 1 : status;
    return finish(program, { code, signal, reason: reason === "failed" ? "failed" : "quit" });
  }
  const delay = program.restart.next(instance.ranMs(now), instance.healthyMs(now));
  program.emit({ type: "recovery", reason, evidence, delay: delay ?? null });
  if (delay === undefined) {
    program.emit({ type: "failed", reason, evidence });
    return finish(program, { code: status || 1, signal, reason: "restart-limit" });
  }
  instance.watch.clear();
  if (delay === 0) return beginNext(program, now);
  program.state = "backoff";
  instance.watch.beginBackoff(delay, now);
}

/** The process cannot be killed, so no instance can follow it: supervision ends, and the process lives on. */
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
  program.map.takeWelcome(); // no process is left to read it
}

// There is no process.

/** Starts no process until a restart is asked for. */
function rest(program: ProgramRecord): void {
  program.instance.watch.clear();
  program.spare.end();
  program.state = "stopped";
  program.emit({ type: "stopped" });
}

/** A stop is asked for while there is no process. */
function finishBetween(program: ProgramRecord, signal: EndSignal | null): void {
  finish(program, { code: statusOf({ code: 0, signal }), signal, reason: "stopped" });
}

/** Supervision ends. */
function finish(program: ProgramRecord, status: ExitStatus): void {
  program.instance.watch.clear();
  program.spare.end();
  program.state = "finished";
  program.map.end();
  program.push({ type: "finish", status });
}
