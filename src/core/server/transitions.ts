/**
 * The transition table of the SAM server: `table[state][event]` names an action of machine.ts, calls.ts or ending.ts. An input
 * without a meaning in a state is ignored. A request that is not allowed is refused with an answer, if there is a process.
 */
import type { Fact, JudgedMessage, ServerInput, ServerState } from "./types.ts";

/** The columns of the table: inputs, and the types of messages. Inputs that have the same effect in all states are not in it. */
export type ServerEventName =
  | Exclude<
    ServerInput["type"],
    "message" | "spare" | "member" | "tick" | "linkData" | "mapped" | "reserveIds" | "accept"
  >
  | Exclude<JudgedMessage["type"], Fact["type"]>;

/**
 * The actions of the table. `stop` is the call of `Sam.stop()`, `shutDown` that of `Supervisor.stop()`, and `halt` the command
 * `sam stop`. Without a process, `finish` is for `Supervisor.stop()`, and `rest` for `sam stop`.
 */
export type ActionName =
  | "ignore"
  | "refuse"
  | "acknowledge"
  | "spawn"
  | "spawnAfresh"
  | "begin"
  | "launch"
  | "failSpawn"
  | "answerRegister"
  | "start"
  | "startIfQuorate"
  | "failQuorum"
  | "stop"
  | "finalize"
  | "markFailed"
  | "takeHeartbeat"
  | "noteLoopHeartbeat"
  | "shortenGrace"
  | "giveTime"
  | "beginCheck"
  | "endCheck"
  | "setWarnSignal"
  | "store"
  | "sendData"
  | "noteQuorum"
  | "recoverUnlessQuorate"
  | "recover"
  | "endLink"
  | "noteExit"
  | "conclude"
  | "reportObserved"
  | "endOrphan"
  | "passOn"
  | "abandon"
  | "shutDown"
  | "shutDownOnceSpawned"
  | "shutDownOnceEnded"
  | "restart"
  | "restartOnceEnded"
  | "prepareSpare"
  | "halt"
  | "haltOnceEnded"
  | "rest"
  | "finish";

type Row = Readonly<Record<ServerEventName, ActionName>>;

/** No process exists that could be warned or answered. */
const withoutProcess: Row = {
  begin: "ignore",
  allowStart: "ignore",
  spawned: "ignore",
  spawnFailed: "ignore",
  exit: "ignore",
  concluded: "ignore",
  orphaned: "ignore",
  unkillable: "ignore",
  linkEnd: "ignore",
  quorum: "noteQuorum",
  quorumFailed: "failQuorum",
  shutdown: "ignore",
  restart: "ignore",
  prepareSpare: "ignore",
  halt: "ignore",
  unhealthy: "ignore",
  heartbeat: "ignore",
  starved: "ignore",
  examined: "ignore",
  hello: "ignore",
  start: "ignore",
  stop: "ignore",
  finalize: "ignore",
  markFailed: "ignore",
  setWarnSignal: "ignore",
  store: "ignore",
  fetch: "ignore",
  checkBegin: "ignore",
  checkEnd: "ignore",
};

/** A process exists. It may not have registered. */
const alive: Row = {
  ...withoutProcess,
  exit: "noteExit",
  concluded: "conclude",
  examined: "reportObserved",
  orphaned: "endOrphan",
  unkillable: "abandon",
  linkEnd: "endLink",
  shutdown: "shutDown",
  restart: "restart",
  halt: "halt",
  unhealthy: "recover",
  hello: "refuse",
  start: "refuse",
  stop: "refuse",
  finalize: "refuse",
  markFailed: "refuse",
  setWarnSignal: "refuse",
  store: "refuse",
  fetch: "refuse",
};

/** The process has registered: these requests are allowed. A second `hello` is allowed, because it may follow a preload's. */
const linked: Row = {
  ...alive,
  hello: "answerRegister",
  finalize: "finalize",
  setWarnSignal: "setWarnSignal",
  store: "store",
  fetch: "sendData",
};

/** The instance is being ended: every call is still answered, and none prevents the end. */
const ending: Row = {
  ...linked,
  start: "acknowledge",
  stop: "acknowledge",
  finalize: "acknowledge",
  markFailed: "markFailed",
  orphaned: "passOn",
  examined: "ignore",
  shutdown: "shutDownOnceEnded",
  unhealthy: "ignore",
  restart: "restartOnceEnded",
  halt: "haltOnceEnded",
};

export const table: Readonly<Record<ServerState, Row>> = {
  idle: { ...withoutProcess, begin: "spawn", shutdown: "finish", halt: "rest" },
  pending: {
    ...withoutProcess,
    allowStart: "begin",
    prepareSpare: "prepareSpare",
    shutdown: "finish",
    halt: "rest",
  },
  spawning: {
    ...withoutProcess,
    spawned: "launch",
    spawnFailed: "failSpawn",
    shutdown: "shutDownOnceSpawned",
    restart: "restartOnceEnded",
    halt: "haltOnceEnded",
  },
  launched: { ...alive, hello: "answerRegister" },
  // A call that timed out may be repeated. A request that has already been granted is acknowledged again.
  registered: {
    ...linked,
    start: "start",
    stop: "acknowledge",
    markFailed: "markFailed",
    heartbeat: "noteLoopHeartbeat",
  },
  // A stop() in this state cancels the start().
  waiting: { ...linked, quorum: "startIfQuorate", stop: "stop" },
  started: {
    ...linked,
    start: "acknowledge",
    stop: "stop",
    markFailed: "markFailed",
    heartbeat: "takeHeartbeat",
    starved: "giveTime",
    checkBegin: "beginCheck",
    checkEnd: "endCheck",
    quorum: "recoverUnlessQuorate",
  },
  finalized: { ...alive, unhealthy: "ignore" },
  warned: { ...ending, heartbeat: "noteLoopHeartbeat", examined: "shortenGrace" },
  killing: ending,
  stopping: ending,
  backoff: { ...withoutProcess, shutdown: "finish", restart: "spawnAfresh", halt: "rest" },
  stopped: { ...withoutProcess, shutdown: "finish", restart: "spawnAfresh" },
  finished: { ...withoutProcess, quorum: "ignore" },
};
