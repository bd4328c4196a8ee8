/** Actions for the calls of the active process: `register()`, `start()`, `stop()`, `finalize()`, and the stored data. */
import { isSignal } from "../signals.ts";
import { chunkBytes, protocolVersion } from "../wire.ts";
import type { Input, Message, ProgramRecord } from "./program_record.ts";
import type { Fact, JudgedMessage, Problem } from "./types.ts";

// Registration.

/** The process registers. If its preload has registered before, the program takes over. */
export function answerRegister(
  program: ProgramRecord,
  message: Message<"hello">,
  now: number,
): void {
  if (message.version !== protocolVersion) {
    return program.refuse(
      message.id,
      "MESSAGE_ERROR",
      `the program uses protocol ${message.version}, its SAM server protocol ${protocolVersion}: use the same version of @x/sam in both`,
    );
  }
  const { settings, instance, map } = program;
  if (instance.isPreloaded && instance.isRegistered) takeOver(program, now);
  else if (instance.isRegistered) {
    return program.refuse(message.id, "BAD_HANDLE", "this instance has already registered");
  } else {
    instance.isPreloaded = instance.isBelowWrapper || (settings.preloaded ?? false);
    instance.isFirst = !program.everRegistered;
  }
  instance.healthySince = null;
  instance.isRegistered = instance.isLinked = program.everRegistered = true;
  if (program.state === "launched") {
    program.state = "registered";
    instance.watch.limitStartup(now);
  }
  sendWelcome(program); // to the preload, if it still waits for its answer
  map.holdWelcome({
    type: "welcome",
    version: protocolVersion,
    id: message.id,
    instanceId: instance.id,
    first: instance.isFirst,
    timeInterval: settings.timeInterval,
    heartbeatWindow: settings.heartbeatWindow,
    warnSignal: program.warnSignal,
    dataSize: program.data.size,
    maxDataSize: settings.maxDataSize,
    exitWhenLost: settings.serverLost === "exit",
    captureStack: settings.captureStack,
    hasQuorum: settings.hasQuorum,
    hasClusterMap: settings.hasClusterMap,
    progressLimit: settings.progressLimit ?? 0,
  });
  if (map.mustAwaitMap) instance.watch.awaitMap(now);
  else sendWelcome(program);
  map.showRegistered(program.policy);
  program.emit({ type: "register", pid: message.pid });
}

/** Sends the answer to `register()`, unless it was sent already. */
export function sendWelcome(program: ProgramRecord): void {
  program.instance.watch.endMap();
  const message = program.map.takeWelcome();
  if (message) program.send(message);
}

/** The program registers itself: ends the watch that its preload has started. */
function takeOver(program: ProgramRecord, now: number): void {
  const { instance } = program;
  instance.isPreloaded = instance.hasStarted = false;
  if (program.state !== "started" && program.state !== "waiting") return;
  instance.startRequest = null;
  unwatch(program, now);
  program.emit({ type: "stop" });
}

/** Takes a message that tells a fact about the process. Returns false for every other message. */
export function takeFact(
  program: ProgramRecord,
  message: JudgedMessage,
  now: number,
): message is Fact {
  const { instance } = program;
  switch (message.type) {
    case "stackAccess":
      instance.stackAccess = message.how;
      return true;
    case "listens":
      noteListening(program, message);
      return true;
    case "belowWrapper":
      instance.isPreloaded = instance.isBelowWrapper = true;
      return true;
    case "progress":
      noteProgress(program, message.healthy, message.detail);
      return true;
    case "member":
      if (instance.isLinked && instance.pid !== null) instance.members.announce(message, now);
      return true;
    default:
      return false;
  }
}

/**
 * A program below a wrapper has ended. The wrapper may go on and start the next program, which may then register. Until then,
 * only the end of the wrapper counts.
 */
export function leaveToWrapper(program: ProgramRecord, now: number): void {
  const { instance, state } = program;
  if (state !== "registered" && state !== "waiting" && state !== "started") return;
  if (state !== "registered") program.emit({ type: "stop" });
  instance.startRequest = null;
  instance.isRegistered = instance.isPreloaded = instance.isBelowWrapper = false;
  noteProgress(program, true, ""); // the process with the requests has ended
  instance.members.release();
  instance.stackAccess = instance.listensElsewhere = null;
  instance.drains = false;
  unwatch(program, now);
  program.state = "launched";
  program.push({ type: "reopen" });
}

// Start and stop.

/** The process calls `start()`: watches it from now on, or waits for quorum. */
export function start(program: ProgramRecord, { id }: Message<"start">, now: number): void {
  const { instance, map, quorumProblem } = program;
  if (quorumProblem) return program.refuse(id, quorumProblem.code, quorumProblem.message);
  instance.startRequest = id;
  if (program.isQuorate) return watch(program, now);
  program.state = "waiting";
  instance.watch.endStartup();
  map.show({ state: "waiting for quorum" }, now);
  program.emit({ type: "waiting" });
}

/** Watches the instance from now on. */
export function watch(program: ProgramRecord, now: number): void {
  const { instance } = program;
  program.state = "started";
  instance.hasStarted = true;
  instance.healthySince ??= now;
  instance.watch.begin(now);
  program.map.show({ state: "running" }, now);
  program.emit({ type: "start" });
  if (program.policy === "restart") program.spare.scheduleSoon(now);
  if (instance.startRequest !== null) program.send({ type: "done", id: instance.startRequest });
  instance.startRequest = null;
}

/** The process calls `stop()`: ends the watch. */
export function stop(program: ProgramRecord, { id }: Message<"stop">, now: number): void {
  interruptStart(program, "stop() was called");
  unwatch(program, now);
  program.emit({ type: "stop" });
  program.send({ type: "done", id });
}

/** The process calls `finalize()`: ends the watch for good. During a planned end, the table only acknowledges this call. */
export function finalize(program: ProgramRecord, { id }: Message<"finalize">, now: number): void {
  interruptStart(program, "finalize() was called");
  unwatch(program, now);
  program.state = "finalized";
  program.push({ type: "letGo" });
  program.spare.end();
  program.emit({ type: "finalize" });
  program.send({ type: "done", id });
}

function unwatch(program: ProgramRecord, now: number): void {
  program.state = "registered";
  program.instance.watch.end();
  program.map.show({ state: "stopped" }, now);
}

/** Refuses a `start()` that waits for quorum. */
export function interruptStart(program: ProgramRecord, why: string): void {
  refuseStart(program, "INTERRUPT", `${why} while start() waited for quorum`);
}

function refuseStart(program: ProgramRecord, code: string, message: string): void {
  const { instance } = program;
  if (instance.startRequest !== null) program.refuse(instance.startRequest, code, message);
  instance.startRequest = null;
}

// Quorum.

/** The cluster gained or lost quorum. */
export function noteQuorum(program: ProgramRecord, { quorate }: Input<"quorum">): void {
  if (quorate === program.isQuorate) return;
  program.isQuorate = quorate;
  program.emit({ type: "quorum", quorate });
}

/** Grants the `start()` that waits, if the cluster is quorate now. */
export function startIfQuorate(program: ProgramRecord, input: Input<"quorum">, now: number): void {
  noteQuorum(program, input);
  if (input.quorate) watch(program, now);
}

/** The quorum source failed for good: refuses each `start()`. */
export function failQuorum(
  program: ProgramRecord,
  { problem }: { readonly problem: Problem },
  now: number,
): void {
  program.quorumProblem = problem;
  if (program.state !== "waiting") return;
  refuseStart(program, problem.code, problem.message);
  unwatch(program, now);
}

// Other requests.

/** The program listens on an address. */
function noteListening(program: ProgramRecord, message: Message<"listens">): void {
  const { instance } = program;
  const { address, isHeld, drains, checkPort } = message;
  instance.drains ||= drains;
  if (!isHeld) instance.listensElsewhere = address;
  if (checkPort === 0) return;
  instance.checkPorts.set(portOf(address), checkPort);
  if (program.mayAccept) accept(program);
}

/** The replacement takes over: its process accepts connections from now on. */
export function accept(program: ProgramRecord): void {
  program.mayAccept = true;
  const { instance: { checkPorts, isLinked } } = program;
  if (checkPorts.size > 0 && isLinked) program.send({ type: "accept" });
  checkPorts.clear();
}

/** The port of an address such as `127.0.0.1:8080` or `8080`. */
function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(":") + 1));
}

/** True for a replacement. It must listen before it takes over. */
export function mustListen({ instance, settings }: ProgramRecord): boolean {
  return settings.listensOn !== undefined && instance.id === settings.firstInstanceId;
}

/** Says that a replacement did not listen, and where it listens instead. */
export function notListening({ instance: { listensElsewhere }, settings }: ProgramRecord): string {
  const { listensOn, startupTimeout } = settings;
  const detail = `the program did not listen on ${listensOn} within ${startupTimeout} ms`;
  return listensElsewhere === null ? detail : `${detail}; it listens on ${listensElsewhere}`;
}

/** The process has reported that its HTTP requests wait and none finishes, or that one has finished again. */
function noteProgress(program: ProgramRecord, healthy: boolean, detail: string): void {
  const { instance, settings } = program;
  if (!settings.progressLimit || instance.exit || instance.hasProgress === healthy) return;
  instance.hasProgress = healthy;
  program.push({ type: "progress", healthy, detail });
}

/** Answers a request that changes nothing. */
export function acknowledge(program: ProgramRecord, { id }: { readonly id: number }): void {
  program.send({ type: "done", id });
}

/** Answers a request that the state does not allow. */
export function refuse(program: ProgramRecord, message: { type: string; id: number }): void {
  const { type, id } = message;
  program.refuse(id, "BAD_HANDLE", `${type}() is not allowed while ${program.state}`);
}

/** Sets the signal of the next warning. */
export function setWarnSignal(program: ProgramRecord, message: Message<"setWarnSignal">): void {
  if (!isSignal(message.signal)) {
    return program.refuse(message.id, "INVALID_PARAM", `"${message.signal}" is not a signal name`);
  }
  program.warnSignal = message.signal;
  program.send({ type: "done", id: message.id });
}

/** Takes a part of the data. */
export function store(program: ProgramRecord, message: Message<"store">): void {
  const problem = program.data.put(message.total, message.offset, message.bytes);
  if (problem) program.refuse(message.id, problem.code, problem.message);
  else program.send({ type: "done", id: message.id });
}

/** Sends a part of the data. */
export function sendData(program: ProgramRecord, { id, offset }: Message<"fetch">): void {
  program.send({ type: "chunk", id, bytes: program.data.part(offset, chunkBytes) });
}
