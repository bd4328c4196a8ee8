/**
 * What the SAM server does on each input in each state, as data: `table[state][event]` names an action of machine.ts, calls.ts
 * or ending.ts. An input that means nothing in a state is ignored. A request that is not allowed is refused with an answer, as
 * long as there is a process to answer.
 */
import type { JudgedMessage, ServerInput, ServerState } from "./types.ts";

/** The columns of the table: inputs, and messages of the active process by type. The others do the same in every state. */
export type ServerEventName =
  | Exclude<ServerInput["type"], "message" | "spare" | "tick" | "linkData" | "mapped">
  | Exclude<JudgedMessage["type"], "stackAccess">;

/** The actions of the table. */
export type ActionName =
  | "ignore"
  | "refuse"
  | "acknowledge"
  | "spawn"
  | "spawnAfresh"
  | "startProcess"
  | "launch"
  | "failSpawn"
  | "welcome"
  | "start"
  | "startIfQuorate"
  | "failQuorum"
  | "stop"
  | "finalize"
  | "markFailed"
  | "confirm"
  | "noteTurn"
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
  | "halt"
  | "haltOnceEnded"
  | "rest"
  | "finish";

type Row = Readonly<Record<ServerEventName, ActionName>>;

/** There is no process to warn or to answer. */
const silent: Row = {
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

/** A process lives. It may not have registered. */
const alive: Row = {
  ...silent,
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

/** The process has registered: these requests are allowed in every state. The program's `hello` may follow its preload's. */
const linked: Row = {
  ...alive,
  hello: "welcome",
  finalize: "finalize",
  setWarnSignal: "setWarnSignal",
  store: "store",
  fetch: "sendData",
};

/** The end of the instance is planned: every call still works, and none changes that. */
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

/** The table. */
export const table: Readonly<Record<ServerState, Row>> = {
  idle: { ...silent, begin: "spawn", shutdown: "finish", halt: "rest" },
  pending: { ...silent, allowStart: "startProcess", shutdown: "finish", halt: "rest" },
  spawning: {
    ...silent,
    spawned: "launch",
    spawnFailed: "failSpawn",
    shutdown: "shutDownOnceSpawned",
    restart: "restartOnceEnded",
    halt: "haltOnceEnded",
  },
  launched: { ...alive, hello: "welcome" },
  // A request may be repeated after its answer came too late: it has been granted, so it is again.
  registered: {
    ...linked,
    start: "start",
    stop: "acknowledge",
    markFailed: "markFailed",
    heartbeat: "noteTurn",
  },
  // A stop() here is a start() that was called off.
  waiting: { ...linked, quorum: "startIfQuorate", stop: "stop" },
  started: {
    ...linked,
    start: "acknowledge",
    stop: "stop",
    markFailed: "markFailed",
    heartbeat: "confirm",
    starved: "giveTime",
    checkBegin: "beginCheck",
    checkEnd: "endCheck",
    quorum: "recoverUnlessQuorate",
  },
  finalized: { ...alive, unhealthy: "ignore" },
  warned: { ...ending, heartbeat: "noteTurn", examined: "shortenGrace" },
  killing: ending,
  stopping: ending,
  backoff: { ...silent, shutdown: "finish", restart: "spawnAfresh", halt: "rest" },
  stopped: { ...silent, shutdown: "finish", restart: "spawnAfresh" },
  finished: { ...silent, quorum: "ignore" },
};
