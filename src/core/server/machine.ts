/**
 * The SAM server: the state machine that owns the policy. Inputs in, effects out, `now` an argument.
 *
 * Theory of operation. One instance of the program lives at a time. It is spawned, launches, registers, starts (perhaps
 * after waiting for quorum) and is from then on held to its deadlines. When one passes, a recovery is planned: the instance is
 * warned, after a grace killed, and when it is gone the next one is spawned, at once or after a backoff. An orderly end
 * (`stopping`) walks the same way with another goal. What each input does in each state is the table of server_table.ts. All
 * deadlines live in one record, the earliest is `deadline`; a tick before it does nothing.
 */
import { Deadlines } from "./deadlines.ts";
import { chunkBytes, type ClientMessage, protocolVersion, type ServerMessage } from "../wire.ts";
import { RestartPolicy } from "./restart_policy.ts";
import { type Slack, SlackCounter } from "./slack.ts";
import { Spare } from "./spare.ts";
import { StoredData } from "./stored_data.ts";
import { type ActionName, type ServerEventName, table } from "./transitions.ts";
import { type EndSignal, isSignal, type Signal, signalNumber } from "../signals.ts";
import type {
  Evidence,
  ExitStatus,
  FinishReason,
  MapKeys,
  Problem,
  RecoveryReason,
  ServerEffect,
  ServerInput,
  ServerSettings,
  ServerState,
  SpareStatus,
} from "./types.ts";

/** An exit is judged when the link has ended too, or this much later: a grandchild may hold the link open. */
const drainMs = 50;
/** A link that ended without an exit: with time interval 0 the process has this long to follow. */
const lostLinkMs = 1000;
/** The server itself was stalled when a deadline is met so late; the time it did not see does not count. */
const leastStallMs = 10;
/** With a long time interval so much lateness is a stall, even where it is a small part of it. */
const sureStallMs = 50;
/** The kernel counts the time of what runs in steps of 1 to 10 ms: in less than so much it is not seen who has a processor. */
const leastDoubtMs = 20;
/** The signals that end a process that hangs wait so long for its stack, and never longer than the grace. */
const maxStackMs = 2000;
/** Heartbeats move `last_updated` in the cluster map at most once in so many milliseconds, or in an eighth of the time interval. */
const mapUpdateMs = { least: 10, most: 1000 };

/** `register()` waits so long for a cluster map that does not answer. */
const maxMapMs = 1000;

type Deadline =
  | "liveness"
  | "check"
  | "startup"
  | "grace"
  | "drain"
  | "lostLink"
  | "backoff"
  | "map";
type Message<T extends ClientMessage["type"]> = ClientMessage & { readonly type: T };
type Input<T extends ServerInput["type"]> = ServerInput & { readonly type: T };
type Exit = Pick<Input<"exit">, "code" | "signal" | "detail">;
// deno-lint-ignore no-explicit-any
type Action = (server: Server, input: any, now: number) => void;

/** One program under supervision. */
export class Server {
  /** Where the program is in its life. */
  state: ServerState = "idle";
  /** 1 for the first instance, +1 for each further one, 0 after 2^31-1. */
  instanceId = 1;
  /** How many instances were started after the first. */
  restarts = 0;
  /** The process id of the instance, while there is one. */
  pid: number | null = null;
  /** When the active process was last known healthy, on the clock of `now`. */
  lastHeartbeat: number | null = null;

  readonly #settings: ServerSettings;
  readonly #restart: RestartPolicy;
  readonly #deadlines = new Deadlines<Deadline>();
  readonly #data: StoredData;
  readonly #spare: Spare;
  readonly #slack: SlackCounter;
  #effects: ServerEffect[] = [];
  #policy: "quit" | "restart";
  #warnSignal: Signal;
  #quorate: boolean;
  /** Why quorum cannot be known. */
  #quorumProblem: Problem | null = null;
  /** A deadline that was met late has been put off, once until the next sign of life. */
  #credited = false;
  /** It was said that the process could not run, once until the next sign of life. */
  #starved = false;
  /** When this server last did something with no deadline behind it: a stall began after that. */
  #punctualAt = 0;
  #replacement = false;
  #everRegistered = false;
  #mapUpdated = -Infinity;
  /** It has not answered for too long: nobody waits for it until it does. */
  #mapIsSilent = false;
  /** The state that the cluster map shows; null before it shows any. */
  #mapped: MapKeys["state"] | null = null;
  /** The exit of an instance that has not ended for good yet stands here until the next one is spawned. */
  #lastExit: Exit | null = null;

  // Of the present instance:
  #spawnedAt = 0;
  #registered = false;
  /** A preload has registered it, and not the program itself. */
  #preloaded = false;
  /** What was set before `register()` is the first instance's: nobody had registered before it. */
  #first = false;
  #startedOnce = false;
  /** It was a spare, and nothing that it said shows that it knows of its promotion. */
  #unaware = false;
  #healthySince: number | null = null;
  /** When its event loop last showed, before it was watched or after it was warned, that it turns. */
  #turnedAt: number | null = null;
  /** Its event loop is blocked, so that its grace period ends early, unless the loop turns again. */
  #hastyGrace = false;
  #linked = false;
  #startRequest: number | null = null;
  /** The answer to `register()`, which waits until the cluster map shows the process. */
  #heldWelcome: ServerMessage | null = null;
  #exited: Exit | null = null;
  /** The state in which a wrapper ended and left the program behind; its end is judged by that. */
  #orphanedIn: ServerState | null = null;
  #planned: { reason: RecoveryReason; detail: string; at: number } | null = null;
  #goal: "stop" | "restart" | "halt" | null = null;
  #goalSignal: Signal | null = null;
  /** Asked to stop twice while it was being started. */
  #hastened = false;

  /** The actions of the table; each takes its input as narrow as its columns there guarantee. */
  static readonly #actions: Readonly<Record<ActionName, Action>> = {
    ignore: () => {},
    refuse: (server, message: { type: string; id: number }) =>
      server.#refuse(
        message.id,
        "BAD_HANDLE",
        `${message.type}() is not allowed while ${server.state}`,
      ),
    acknowledge: (server, message: { id: number }) =>
      server.#send({ type: "done", id: message.id }),
    spawn: (server, _input, now) => server.#spawn(now),
    spawnAfresh: (server, _input, now) => {
      server.#spare.end(); // it holds old code
      server.#spawn(now);
    },
    launch: (server, input: Input<"spawned">, now) => server.#launch(input.pid, now),
    failSpawn: (server, input: Input<"spawnFailed">, now) => server.#failSpawn(input.error, now),
    welcome: (server, message: Message<"hello">, now) => server.#welcome(message, now),
    start: (server, message: Message<"start">, now) => server.#start(message.id, now),
    startIfQuorate: (server, input: Input<"quorum">, now) => {
      server.#noteQuorum(input.quorate);
      if (input.quorate) server.#watch(now);
    },
    failQuorum: (server, input: Input<"quorumFailed">, now) =>
      server.#failQuorum(input.problem, now),
    stop: (server, message: Message<"stop">, now) => server.#stop(message.id, now),
    finalize: (server, message: Message<"finalize">, now) => server.#finalize(message.id, now),
    markFailed: (server, message: Message<"markFailed">, now) =>
      server.#markFailed(message.id, now),
    confirm: (server, _input, now) => server.#confirm(now),
    noteTurn: (server, _input, now) => server.#noteTurn(now),
    shortenGrace: (server, _input, now) => server.#shortenGrace(now),
    wait: (server, input: Input<"starved">, now) => server.#wait(input.waitMs, now),
    beginCheck: (server, _input, now) => server.#beginCheck(now),
    endCheck: (server, message: Message<"checkEnd">, now) => server.#endCheck(message, now),
    setWarnSignal: (server, message: Message<"setWarnSignal">) => server.#setWarnSignal(message),
    store: (server, message: Message<"store">) => server.#store(message),
    fetch: (server, message: Message<"fetch">) => server.#fetch(message),
    noteQuorum: (server, input: Input<"quorum">) => server.#noteQuorum(input.quorate),
    recoverUnlessQuorate: (server, input: Input<"quorum">, now) => {
      server.#noteQuorum(input.quorate);
      if (!input.quorate) server.#plan("quorum", "the cluster lost quorum", now, false);
    },
    recover: (server, input: Input<"unhealthy">, now) =>
      server.#plan(input.reason, input.detail, now),
    endLink: (server, _input, now) => server.#endLink(now),
    noteExit: (server, input: Input<"exit">, now) => server.#noteExit(input, now),
    endOrphan: (server, input: Input<"orphaned">, now) => server.#endOrphan(input, now),
    passOn: (server) => server.#effects.push({ type: "passOn" }),
    abandon: (server, input: Input<"unkillable">, now) => server.#abandon(input.problem, now),
    leave: (server, input: Input<"shutdown">, now) =>
      server.#leave("stop", input.signal, now, input.delivered),
    leaveOnceSpawned: (server, input: Input<"shutdown">) => server.#leaveOnceSpawned(input.signal),
    makeFinal: (server) => server.#makeFinal(),
    renew: (server, _input, now) => server.#leave("restart", null, now),
    renewOnceEnded: (server) => server.#renewOnceEnded(),
    halt: (server, _input, now) => server.#leave("halt", null, now),
    haltOnceEnded: (server) => server.#haltOnceEnded(),
    rest: (server) => server.#rest(),
    finish: (server, input: Input<"shutdown">) => server.#finishBetween(input.signal),
  };

  constructor(settings: ServerSettings, seed: number) {
    this.#settings = settings;
    this.#restart = new RestartPolicy(settings.restart, seed);
    this.#spare = new Spare(
      settings,
      seed + 1,
      (effect) => this.#effects.push(effect),
      (event) => this.#emit(event),
    );
    this.#data = new StoredData(settings.maxDataSize);
    this.#slack = new SlackCounter(settings.timeInterval);
    this.#policy = settings.recoveryPolicy;
    this.#warnSignal = settings.warnSignal;
    this.#quorate = !settings.hasQuorum;
  }

  /** The bytes stored by the active process. */
  get dataSize(): number {
    return this.#data.size;
  }

  /** The signal that warns the active process. */
  get warnSignal(): Signal {
    return this.#warnSignal;
  }

  /** When the next tick is due, on the clock of `now`; undefined for never. */
  get deadline(): number | undefined {
    const next = Math.min(
      this.#deadlines.next ?? Infinity,
      this.#spare.deadline ?? Infinity,
      this.#refreshAt,
    );
    return next === Infinity ? undefined : next;
  }

  /** When the process will have been silent for too long; Infinity while nothing is expected of it. */
  get silenceAt(): number {
    return Math.min(
      this.#deadlines.at("liveness") ?? Infinity,
      this.#deadlines.at("check") ?? Infinity,
    );
  }

  /**
   * A process that is silent for so long is in doubt. Whoever can see that from then to `silenceAt` it was ready to run and
   * was given no processor, or waited for the disk, says so with `starved`. Infinity where the time interval is too short to
   * see that.
   */
  get doubtAt(): number {
    return this.#doubtMs < leastDoubtMs ? Infinity : this.silenceAt - this.#doubtMs;
  }

  get #doubtMs(): number {
    return this.#settings.timeInterval / 4;
  }

  /** With time interval 0 no heartbeat need come: `last_updated` is moved all the same, for Corosync's watchdog. */
  get #refreshAt(): number {
    const { timeInterval, hasClusterMap } = this.#settings;
    if (!hasClusterMap || timeInterval > 0 || this.state !== "started") return Infinity;
    return this.#mapUpdated + mapUpdateMs.most;
  }

  /** The spare process; null when there is none. */
  get standby(): SpareStatus | null {
    return this.#spare.status;
  }

  /** How much of the time interval was left at the signs of life of the instance. */
  get slack(): Slack {
    return this.#slack.snapshot;
  }

  /** Takes one input and returns what must be done, in this order. */
  step(input: ServerInput, now: number): readonly ServerEffect[] {
    if (input.type === "tick") this.#tick(now);
    else if (input.type === "kept") this.#data.replace(input.bytes);
    else if (input.type === "mapped") {
      this.#mapIsSilent = false;
      this.#sendWelcome();
    } else if (input.type === "spare") this.#spare.step(input.input, now);
    else if (input.type === "message") {
      if (input.message.type === "note" || input.message.type === "stackAccess") return [];
      if (input.message.type !== "hello") this.#unaware = false;
      this.#act(input.message.type, input.message, now);
    } else this.#act(input.type, input, now);
    if (now < (this.#deadlines.next ?? Infinity)) this.#punctualAt = now;
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  #act(event: ServerEventName, input: ServerInput | ClientMessage, now: number): void {
    Server.#actions[table[this.state][event]](this, input, now);
  }

  #tick(now: number): void {
    this.#spare.tick(now);
    if (this.#refreshAt <= now) this.#map({}, now);
    this.#forgiveStall(now);
    const due = (name: Deadline) => this.#deadlines.due(name, now);
    if (due("drain")) return this.#judge(now);
    if (due("backoff")) return this.#advance(now);
    if (due("grace")) return this.#kill();
    if (due("map")) {
      this.#mapIsSilent = true;
      return this.#sendWelcome();
    }
    if (due("startup")) return this.#endStartup(now);
    const { timeInterval } = this.#settings;
    if (due("liveness")) return this.#plan("timeout", `no heartbeat for ${timeInterval} ms`, now);
    if (due("check")) {
      return this.#plan("unhealthy", `the health check gave no answer for ${timeInterval} ms`, now);
    }
    if (due("lostLink")) {
      return this.#plan("exit", "the process closed its link and did not end", now);
    }
  }

  /** A late tick means that this server was stopped, suspended or starved: what it missed is not held against the process. */
  #forgiveStall(now: number): void {
    const due = this.#deadlines.next;
    if (
      due === undefined || this.#deadlines.has("drain") ||
      this.#deadlines.has("backoff")
    ) return;
    const { timeInterval } = this.#settings;
    const late = now - due;
    if (late < Math.max(leastStallMs, Math.min(timeInterval / 4, sureStallMs))) return;
    if (this.#credited && late < Math.max(timeInterval, 2 * sureStallMs)) return;
    this.#credited = true;
    // When it began is not known: where it was long, none of the time since then is held against the process.
    const shift = late + Math.min(late, due - this.#punctualAt);
    this.#deadlines.shift(shift);
    if (this.#turnedAt !== null) this.#turnedAt = Math.min(now, this.#turnedAt + shift);
    this.#emit({ type: "stall", lateMs: late });
  }

  // The life of an instance.

  /** Starts the first process, or the next. */
  #spawn(now: number): void {
    this.#beginInstance(now);
    this.state = "spawning";
    this.#effects.push({ type: "spawn", instanceId: this.instanceId });
  }

  /** The next instance: the spare, where there is one, or a new process. */
  #advance(now: number): void {
    const promoted = this.#spare.promote();
    if (!promoted) return this.#spawn(now);
    this.#beginInstance(now);
    this.#effects.push({ type: "promote" });
    this.#unaware = true;
    this.state = "launched";
    this.pid = promoted.pid;
    this.#emit({ type: "standby", state: "promoted", pid: promoted.pid });
    this.#limitStartup(now);
    if (promoted.hello) this.#welcome(promoted.hello, now);
  }

  /** All that is known of the last instance is forgotten. */
  #beginInstance(now: number): void {
    if (this.state !== "idle") {
      this.instanceId = this.instanceId >= 2 ** 31 - 1 ? 0 : this.instanceId + 1;
      this.restarts++;
      this.#replacement = true;
    }
    this.#deadlines.clear();
    this.#spawnedAt = now;
    this.#registered =
      this.#preloaded =
      this.#startedOnce =
      this.#unaware =
      this.#linked =
      this.#credited =
      this.#starved =
      this.#hastyGrace =
      this.#hastened =
        false;
    this.#healthySince =
      this.#turnedAt =
      this.#startRequest =
      this.#heldWelcome =
      this.#exited =
      this.#orphanedIn =
      this.#planned =
      this.#goal =
      this.#goalSignal =
        null;
    this.lastHeartbeat = null;
    this.#slack.reset();
  }

  /** The process exists. */
  #launch(pid: number, now: number): void {
    this.state = "launched";
    this.pid = pid;
    this.#spawnedAt = now;
    this.#emit({ type: "spawn", pid });
    this.#limitStartup(now);
    if (this.#goal === "restart") this.#goal = null; // it is new enough
    if (this.#goal === null) return;
    this.#leave(this.#goal, this.#hastened ? "SIGKILL" : this.#goalSignal, now);
  }

  /** A process that is to call `start()` has so long; a command need not call it, and has so long once it has registered. */
  #limitStartup(now: number): void {
    const { startupTimeout, startedAtSpawn } = this.#settings;
    if (startedAtSpawn && !this.#registered) return;
    if (startupTimeout === 0 || this.#deadlines.has("startup")) return;
    this.#deadlines.set("startup", now + startupTimeout);
  }

  /** The time to start is over. A preloaded program whose event loop turns, but is never free, is watched from now on. */
  #endStartup(now: number): void {
    const { startupTimeout, timeInterval } = this.#settings;
    const turns = this.#turnedAt !== null && now - this.#turnedAt < (timeInterval || Infinity);
    if (!this.#preloaded || !this.#linked || !turns) {
      return this.#plan("startup", `not started within ${startupTimeout} ms`, now);
    }
    if (this.#quorate) this.#watch(now);
    else this.#deadlines.set("startup", now + startupTimeout);
  }

  /** The process could not be started: fatal for the first, a failed recovery for a later one. */
  #failSpawn(error: Problem, now: number): void {
    this.#effects.push({ type: "bury" });
    this.#emit({ type: "spawnFailed", error });
    if (this.#goal === "stop") return this.#finishBetween(this.#goalSignal);
    if (this.#goal === "halt") return this.#rest();
    if (this.#goal === "restart") return this.#spawn(now);
    if (!this.#replacement) return this.#finish(1, null, "spawn", error);
    this.#lastExit ??= { code: 1, signal: null };
    this.#spawnedAt = now; // it never ran
    this.#recover("startup", error.message, now);
  }

  /** The process said who it is. */
  #welcome(message: Message<"hello">, now: number): void {
    if (message.version !== protocolVersion) {
      return this.#refuse(
        message.id,
        "MESSAGE_ERROR",
        `the program speaks protocol ${message.version}, its server ${protocolVersion}: use one version of @x/sam`,
      );
    }
    const settings = this.#settings;
    if (this.#preloaded) this.#yield(now);
    else if (this.#registered) {
      return this.#refuse(message.id, "BAD_HANDLE", "this instance has registered already");
    } else {
      this.#preloaded = settings.preloaded ?? false;
      this.#first = !this.#everRegistered;
    }
    this.#registered = this.#everRegistered = this.#linked = true;
    if (this.state === "launched") {
      this.state = "registered";
      this.#limitStartup(now);
    }
    this.#sendWelcome(); // a preload's, which its program has overtaken
    this.#heldWelcome = {
      type: "welcome",
      version: protocolVersion,
      id: message.id,
      instanceId: this.instanceId,
      first: this.#first,
      timeInterval: settings.timeInterval,
      heartbeatWindow: settings.heartbeatWindow,
      warnSignal: this.#warnSignal,
      dataSize: this.#data.size,
      maxDataSize: settings.maxDataSize,
      exitWhenLost: settings.serverLost === "exit",
      captureStack: settings.captureStack,
      hasQuorum: settings.hasQuorum,
      hasClusterMap: settings.hasClusterMap,
    };
    if (!settings.hasClusterMap || this.#mapIsSilent) this.#sendWelcome();
    else this.#deadlines.set("map", now + maxMapMs);
    this.#map({
      recovery: this.#policy,
      pollPeriod: BigInt(settings.timeInterval),
      state: "stopped",
    });
    this.#emit({ type: "register", pid: message.pid });
  }

  /** Answers `register()`, where that has not been done yet. */
  #sendWelcome(): void {
    this.#deadlines.clear("map");
    if (this.#heldWelcome) this.#send(this.#heldWelcome);
    this.#heldWelcome = null;
  }

  /** The program registers itself: what a preload had begun for it is over. */
  #yield(now: number): void {
    this.#preloaded = this.#startedOnce = false;
    this.#healthySince = null;
    if (this.state !== "started" && this.state !== "waiting") return;
    this.#startRequest = null;
    this.#unwatch(now);
    this.state = "registered";
    this.#emit({ type: "stop" });
  }

  /** The active process asks to be watched from now on. */
  #start(id: number, now: number): void {
    if (this.#quorumProblem) {
      return this.#refuse(id, this.#quorumProblem.code, this.#quorumProblem.message);
    }
    this.#startRequest = id;
    if (this.#quorate) return this.#watch(now);
    this.state = "waiting";
    this.#deadlines.clear("startup");
    this.#map({ state: "waiting for quorum" }, now);
    this.#emit({ type: "waiting" });
  }

  /** The request to start is granted. */
  #watch(now: number): void {
    this.state = "started";
    this.#startedOnce = true;
    this.#healthySince ??= now;
    this.#deadlines.clear("startup");
    this.#map({ state: "running" }, now);
    this.#confirm(now, true);
    this.#emit({ type: "start" });
    if (this.#policy === "restart") this.#spare.want(now);
    if (this.#startRequest !== null) this.#send({ type: "done", id: this.#startRequest });
    this.#startRequest = null;
  }

  /** No longer watched, still linked. */
  #stop(id: number, now: number): void {
    this.#interruptStart("stop() was called");
    this.#unwatch(now);
    this.state = "registered";
    this.#emit({ type: "stop" });
    this.#send({ type: "done", id });
  }

  /** No longer watched, for good. (Where its end is planned, finalize() is acknowledged, and lets nothing go.) */
  #finalize(id: number, now: number): void {
    this.#interruptStart("finalize() was called");
    this.#unwatch(now);
    this.state = "finalized";
    this.#effects.push({ type: "letGo" });
    this.#spare.end();
    this.#emit({ type: "finalize" });
    this.#send({ type: "done", id });
  }

  /** A `start()` that waits for quorum will not be granted. */
  #interruptStart(why: string): void {
    this.#refuseStart("INTERRUPT", `${why} while start() waited for quorum`);
  }

  #refuseStart(code: string, message: string): void {
    if (this.#startRequest === null) return;
    this.#refuse(this.#startRequest, code, message);
    this.#startRequest = null;
  }

  /** Whether the cluster is quorate will never be known: nobody waits for it. */
  #failQuorum(problem: Problem, now: number): void {
    this.#quorumProblem = problem;
    if (this.state !== "waiting") return;
    this.#refuseStart(problem.code, problem.message);
    this.#unwatch(now);
    this.state = "registered";
  }

  #unwatch(now: number): void {
    this.#deadlines.clear("liveness", "check", "lostLink", "startup");
    this.#map({ state: "stopped" }, now);
  }

  /** A sign of life: a heartbeat, a confirmation of the event loop, a healthy answer. */
  #confirm(now: number, first = false): void {
    const { timeInterval, heartbeatWindow } = this.#settings;
    this.#credited = this.#starved = false;
    if (timeInterval > 0) {
      const missed = () => this.lastHeartbeat! + timeInterval; // and reported: see `observe`
      if (!first) this.#slack.add((this.#deadlines.at("liveness") ?? missed()) - now);
      this.#deadlines.set("liveness", now + timeInterval + heartbeatWindow);
    }
    this.lastHeartbeat = now;
    const { least, most } = mapUpdateMs;
    const moves = Math.max(least, Math.min(timeInterval / 8, most));
    if (now - this.#mapUpdated >= moves) this.#map({}, now);
  }

  /** The event loop turns, of a process that is not watched yet, or that is warned. */
  #noteTurn(now: number): void {
    this.#turnedAt = now;
    if (!this.#hastyGrace || !this.#deadlines.has("grace")) return;
    this.#hastyGrace = false;
    this.#deadlines.set("grace", now + this.#settings.timeInterval);
  }

  /**
   * As long as its event loop is blocked, no handler of the warn signal can run in a warned process: a quarter of the time
   * interval is enough. Not for programs that register themselves: they are promised a whole time interval.
   */
  #shortenGrace(now: number): void {
    const planned = this.#planned;
    if (planned === null) return; // its wrapper has ended, and nothing says that it hangs
    const { timeInterval } = this.#settings;
    const turnedAt = Math.max(this.lastHeartbeat ?? -Infinity, this.#turnedAt ?? -Infinity);
    // Loops that turn confirm themselves four times in a time interval; one that has turned since the warning has its grace.
    const isSilent = turnedAt < planned.at && now - turnedAt >= timeInterval / 2;
    const end = this.#deadlines.at("grace");
    if (!this.#preloaded || !this.#linked || timeInterval === 0 || !isSilent || end === undefined) {
      return;
    }
    this.#hastyGrace = true;
    this.#deadlines.set("grace", Math.min(end, now + timeInterval / 4));
  }

  /** The process could not run: it is given more time, and then looked at again. */
  #wait(waitMs: number, now: number): void {
    this.#forgiveStall(now);
    if (this.silenceAt > now) return;
    for (const name of ["liveness", "check"] as const) {
      const at = this.#deadlines.at(name);
      if (at !== undefined) this.#deadlines.set(name, Math.max(at, now + waitMs));
    }
    if (!this.#starved) this.#emit({ type: "starved" });
    this.#starved = true;
  }

  /** The health check was called: it has one time interval to answer. */
  #beginCheck(now: number): void {
    if (this.#settings.timeInterval > 0) {
      this.#deadlines.set("check", now + this.#settings.timeInterval);
    }
  }

  /** The health check answered. */
  #endCheck(message: Message<"checkEnd">, now: number): void {
    this.#deadlines.clear("check");
    if (message.healthy) this.#confirm(now);
    else this.#plan("unhealthy", message.detail, now, false);
  }

  /** Killed without a warning, never to be started again. */
  #markFailed(id: number, now: number): void {
    if (!this.#settings.hasClusterMap) {
      return this.#refuse(
        id,
        "INVALID_PARAM",
        "markFailed() needs a cluster map: set the option clusterMap",
      );
    }
    this.#policy = "quit";
    this.#send({ type: "done", id });
    this.#planned = { reason: "failed", detail: "markFailed() was called", at: now };
    this.#map({ recovery: "quit", state: "failed" }, now);
    this.#kill();
  }

  // What the active process may ask at any time.

  /** Sets the signal of the next warning. */
  #setWarnSignal(message: Message<"setWarnSignal">): void {
    if (!isSignal(message.signal)) {
      return this.#refuse(message.id, "INVALID_PARAM", `"${message.signal}" is no signal`);
    }
    this.#warnSignal = message.signal;
    this.#send({ type: "done", id: message.id });
  }

  /** Takes a part of the data. */
  #store(message: Message<"store">): void {
    const problem = this.#data.put(message.total, message.offset, message.bytes);
    if (problem) this.#refuse(message.id, problem.code, problem.message);
    else this.#send({ type: "done", id: message.id });
  }

  /** Hands out a part of the data. */
  #fetch(message: Message<"fetch">): void {
    this.#send({
      type: "chunk",
      id: message.id,
      bytes: this.#data.part(message.offset, chunkBytes),
    });
  }

  // The end of an instance.

  /** A recovery is due: warn now, kill one time interval later. `silent`: its event loop may be blocked. */
  #plan(reason: RecoveryReason, detail: string, now: number, silent = true): void {
    if (this.#exited) return; // the end has come already: it is judged as soon as all it said is known
    const graceMs = this.#recoveryGraceMs;
    const stackMs = silent && this.#settings.captureStack ? Math.min(maxStackMs, graceMs) : 0;
    if (this.#settings.observe) {
      this.#effects.push({ type: "examine", stackMs });
      return this.#emit({ type: "observed", reason, evidence: this.#evidence(detail, now) });
    }
    this.#planned = { reason, detail, at: now };
    this.#map({ state: "failed" }, now);
    this.#effects.push({ type: "examine", stackMs }); // before it wakes up to hear of it
    this.#warn(reason, detail, now);
  }

  get #recoveryGraceMs(): number {
    return this.#settings.timeInterval || this.#settings.stopTimeout;
  }

  #warn(reason: RecoveryReason, detail: string, now: number): void {
    const signal = this.#warnSignal;
    this.#sendWelcome();
    this.#deadlines.clear();
    this.#emit({ type: "warn", reason, detail, signal });
    if (this.#linked) this.#send({ type: "warn", reason, detail });
    if (signal === "SIGKILL") return this.#kill();
    this.state = "warned";
    this.#effects.push({ type: "signal", signal });
    this.#deadlines.set("grace", now + this.#recoveryGraceMs);
  }

  /** An orderly end: warn now, kill after `stopTimeout`. */
  #leave(
    goal: "stop" | "restart" | "halt",
    signal: Signal | null,
    now: number,
    delivered = false,
  ): void {
    this.#goal = goal;
    this.#goalSignal = signal;
    this.#spare.end(); // asked to stop, it has no use; asked to restart, it holds old code
    if (this.#exited) return; // it is gone already: what is left is to judge it
    this.#sendWelcome();
    this.#deadlines.clear();
    this.state = "stopping";
    const sent = signal ?? this.#warnSignal;
    this.#map({ state: "stopped" }, now);
    this.#emit({ type: "stopping", signal: sent });
    if (this.#linked) {
      const reason = goal === "halt" ? "stop" : goal;
      const detail = `the server was asked to ${reason}`;
      this.#send({ type: "warn", reason, detail });
      this.#interruptStart(detail);
    }
    if (sent === "SIGKILL") return this.#kill();
    this.#effects.push(delivered ? { type: "delivered" } : { type: "signal", signal: sent });
    this.#deadlines.set("grace", now + this.#settings.stopTimeout);
  }

  /** Asked to stop while the process is being started. */
  #leaveOnceSpawned(signal: Signal | null): void {
    if (this.#goal === "stop") this.#hastened = true;
    else this.#goalSignal = signal;
    this.#goal = "stop";
  }

  /** Asked to stop while the end is under way: the exit is final now; asked a second time, the wait is over. */
  #makeFinal(): void {
    if (this.#goal === "stop") this.#kill();
    this.#goal = "stop";
    this.#spare.end();
  }

  /** Asked to halt while the process is being started, or its end is under way; asked a second time, the wait is over. */
  #haltOnceEnded(): void {
    if (this.#goal === "stop") return;
    if (this.#goal === "halt" && this.state !== "spawning") this.#kill();
    this.#goal = "halt";
    this.#spare.end();
  }

  /** Asked to restart in the same situation: the next process is new enough. After the end of a wrapper there may be none. */
  #renewOnceEnded(): void {
    if (this.state !== "spawning") this.#spare.end(); // it holds old code
    const isOrphan = this.#orphanedIn !== null && this.#goal === null;
    if (this.#goal === "halt" || isOrphan) this.#goal = "restart";
  }

  /** No process is there, and none is started until a restart is asked for. */
  #rest(): void {
    this.#deadlines.clear();
    this.#spare.end();
    this.state = "stopped";
    this.#emit({ type: "stopped" });
  }

  #kill(): void {
    if (this.#exited) return;
    this.#deadlines.clear();
    if (this.state !== "stopping") this.state = "killing";
    this.#emit({ type: "kill" });
    this.#effects.push({ type: "signal", signal: "SIGKILL" });
  }

  /** The link has ended; the exit should follow, or has come already. */
  #endLink(now: number): void {
    if (!this.#linked) return;
    this.#linked = false;
    if (this.#exited) return this.#judge(now);
    if (this.state === "started" || this.state === "waiting") {
      this.#deadlines.set("lostLink", now + (this.#settings.timeInterval || lostLinkMs));
    }
  }

  /** A wrapper ended by itself: the program below it is warned, and its end is judged as the wrapper's. */
  #endOrphan(input: Input<"orphaned">, now: number): void {
    if (this.#exited) return;
    this.#orphanedIn = this.state;
    this.#interruptStart("the process that was started ended");
    const how = input.signal === null ? `with exit code ${input.code}` : `by ${input.signal}`;
    this.#warn(
      input.signal === null ? "exit" : "signal",
      `the wrapper ended ${how}, and the program below it lives on`,
      now,
    );
  }

  /** It cannot be killed, so no other instance can follow it: supervision ends, and it lives on. */
  #abandon(error: Problem, now: number): void {
    if (this.#exited) return;
    this.#effects.push({ type: "bury" });
    this.pid = null;
    this.#map({ state: "failed" }, now);
    this.#finish(1, null, this.#goal === "stop" ? "stopped" : "failed", error);
  }

  /** The process has exited; what it wrote before may still be on its way. */
  #noteExit(input: Input<"exit">, now: number): void {
    if (this.#exited) return;
    this.#deadlines.clear();
    this.#exited = { code: input.code, signal: input.signal, detail: input.detail };
    this.#emit({ type: "exit", code: input.code, signal: input.signal });
    if (this.#linked) this.#deadlines.set("drain", now + drainMs);
    else this.#judge(now);
  }

  /** The instance is gone, and all it said is known: what now? */
  #judge(now: number): void {
    const { signal, detail = "" } = this.#exited!;
    const status = statusOf(this.#exited!);
    this.#effects.push({ type: "bury" });
    this.pid = null;
    this.#heldWelcome = null;
    this.#lastExit = this.#exited;
    const planned = this.#planned;
    // What marked itself failed is not started again, whatever else was asked meanwhile.
    if (planned?.reason === "failed") return this.#recover("failed", planned.detail, now);
    if (this.#goal === "stop") return this.#finish(status, signal, "stopped");
    if (this.#goal !== null) {
      this.#restart.ran(now - this.#spawnedAt, this.#healthyMs(now));
      return this.#goal === "halt" ? this.#rest() : this.#spawn(now);
    }
    if (planned) return this.#recover(planned.reason, planned.detail, now);
    const ended: RecoveryReason = signal === null ? "exit" : "signal";
    const { on } = this.#settings.restart;
    if (on !== "started" && !this.#judgesItself) {
      if (on === "failure" && status === 0 && !this.#unaware) return this.#finish(0, null, "exit");
      return this.#recover(ended, detail, now);
    }
    switch (this.#orphanedIn ?? this.state) {
      case "launched":
      case "registered":
        if (this.#settings.startedAtSpawn && !this.#registered) {
          return this.#recover(ended, detail, now);
        }
        // What ended as the spare that it was says nothing about the program: an exit code of 0 does not end it.
        if (this.#replacement && !this.#startedOnce && (status !== 0 || this.#unaware)) {
          return this.#recover("startup", "it ended before it called start()", now);
        }
        return this.#finish(status, signal, "exit", this.#neverStarted(status));
      case "finalized":
        return this.#finish(status, signal, "exit");
      case "waiting":
      case "started":
        return this.#recover(ended, detail, now);
    }
  }

  /** It has registered itself: its ends are judged by libsam's rules. */
  get #judgesItself(): boolean {
    return this.#registered && !this.#preloaded;
  }

  #neverStarted(status: number): ExitStatus["error"] {
    if (this.#registered || status === 0) return undefined;
    return {
      code: "LIBRARY",
      message:
        `${this.#settings.program} ended with status ${status} before it called register(): what it printed says why`,
    };
  }

  #recover(reason: RecoveryReason, detail: string, now: number): void {
    const exit = this.#lastExit!;
    const evidence = this.#evidence(detail, now);
    const status = statusOf(exit);
    this.#map({ state: "failed" }, now);
    if (this.#policy === "quit") {
      this.#emit({ type: "recovery", reason, evidence, delay: null });
      if (reason === "failed") this.#emit({ type: "failed", reason, evidence });
      // Where an exit code of 0 is the end of the work, a failure is none, though the process may answer its warning so.
      const isFailure = this.#settings.restart.on !== "started" && !this.#judgesItself;
      const code = isFailure ? status || 1 : status;
      return this.#finish(code, exit.signal, reason === "failed" ? "failed" : "quit");
    }
    const delay = this.#restart.next(now - this.#spawnedAt, this.#healthyMs(now));
    this.#emit({ type: "recovery", reason, evidence, delay: delay ?? null });
    if (delay === undefined) {
      this.#emit({ type: "failed", reason, evidence });
      return this.#finish(status || 1, exit.signal, "restart-limit");
    }
    this.#deadlines.clear();
    if (delay === 0) return this.#advance(now);
    this.state = "backoff";
    this.#deadlines.set("backoff", now + delay);
  }

  #evidence(detail: string, now: number): Evidence {
    return {
      detail,
      exitCode: this.#exited?.code ?? null,
      signal: this.#exited?.signal ?? null,
      heartbeatAge: this.lastHeartbeat === null
        ? null
        : (this.#planned?.at ?? now) - this.lastHeartbeat,
    };
  }

  /** How long the instance was healthy before it ended, or before its end was decided. */
  #healthyMs(now: number): number {
    const since = this.#settings.startedAtSpawn && !this.#registered
      ? this.#spawnedAt
      : this.#healthySince;
    return since === null ? 0 : (this.#planned?.at ?? now) - since;
  }

  /** Asked to stop while there is no process. */
  #finishBetween(signal: Signal | null): void {
    this.#finish(signal === null ? 0 : 128 + signalNumber(signal), signal, "stopped");
  }

  #finish(
    code: number,
    signal: EndSignal | null,
    reason: FinishReason,
    error?: ExitStatus["error"],
  ): void {
    this.#deadlines.clear();
    this.#spare.end();
    this.state = "finished";
    if (this.#mapped === "stopped") this.#effects.push({ type: "unmap" });
    this.#effects.push({
      type: "finish",
      status: { code, signal, reason, ...(error && { error }) },
    });
  }

  // The vocabulary.

  /** Says something to the active process. */
  #send(message: ServerMessage): void {
    this.#effects.push({ type: "send", message });
  }

  /** Answers a request with an error. */
  #refuse(id: number, code: string, message: string): void {
    this.#send({ type: "refused", id, code, message });
  }

  /** Notes whether the cluster is quorate. */
  #noteQuorum(quorate: boolean): void {
    if (quorate === this.#quorate) return;
    this.#quorate = quorate;
    this.#emit({ type: "quorum", quorate });
  }

  #emit(event: (ServerEffect & { type: "emit" })["event"]): void {
    this.#effects.push({ type: "emit", event, instanceId: this.instanceId });
  }

  /** Sets keys of the cluster map; with `now`, `last_updated` too. */
  #map(keys: MapKeys, now?: number): void {
    if (!this.#settings.hasClusterMap) return;
    this.#mapped = keys.state ?? this.#mapped;
    if (now !== undefined) this.#mapUpdated = now;
    this.#effects.push({
      type: "map",
      keys: now === undefined ? keys : { ...keys, lastUpdated: now },
    });
  }
}

function statusOf(exit: Exit): number {
  return exit.signal === null ? exit.code ?? 0 : 128 + signalNumber(exit.signal);
}
