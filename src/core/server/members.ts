/**
 * The workers of node:cluster: processes below the instance, each with a heartbeat and a deadline of its own. The same rules as for
 * the instance protect a worker that gets no CPU time, or that sent its heartbeat while the server was stalled.
 *
 * 1. The instance announces a worker, with a key, before it starts the process. The driver admits one connection with that key.
 * 2. The worker registers over that connection, and calls `start()` when it has loaded its program.
 * 3. A worker that misses its deadline is examined and then killed. It gets no warn signal, because no handler could run there. The
 *    instance notices the end of the worker, and usually starts another one.
 *
 * The end of a worker is no failure of the instance. While the instance is not watched, its workers are not either.
 */
import { type ClientMessage, protocolVersion } from "../wire.ts";
import { SlackCounter } from "./slack.ts";
import type {
  Evidence,
  MemberEffect,
  MemberInput,
  ProcessEvidence,
  ServerEffect,
  ServerEvent,
  ServerSettings,
} from "./types.ts";
import { Watch } from "./watch.ts";

/** The limit of workers that are watched. */
export const maxMembers = 512;
/** Time limit for the connection of an announced worker, in milliseconds. */
const maxStartMs = 60_000;
/** A key: 24 random bytes in hexadecimal digits. */
const keyPattern = /^[0-9a-f]{48}$/;

/** A worker, for its timer. */
export interface Member {
  /** Process id; null before the worker has registered. */
  readonly pid: number | null;
  readonly state: string;
  readonly lastHeartbeat: number | null;
  readonly deadline: number | undefined;
  readonly responseDueAt: number;
  readonly doubtAt: number;
}

class MemberRecord implements Member {
  readonly watch: Watch;
  /** Time at which the worker must have connected; Infinity once it has. */
  admittedUntil: number;
  state: "announced" | "registered" | "started" | "failed" = "announced";
  pid: number | null = null;
  /** The way to capture the stack of the process, as the process reported it; null before it did. */
  stackAccess: string | null = null;
  /** The failure whose examination is not finished; null for none. */
  failure: { readonly detail: string; readonly at: number } | null = null;

  constructor(watch: Watch, now: number) {
    this.watch = watch;
    this.admittedUntil = now + maxStartMs;
  }

  get lastHeartbeat(): number | null {
    return this.watch.lastHeartbeat;
  }

  get deadline(): number | undefined {
    const next = Math.min(this.watch.next, this.admittedUntil);
    return next === Infinity ? undefined : next;
  }

  get responseDueAt(): number {
    return this.watch.responseDueAt;
  }

  get doubtAt(): number {
    return this.watch.doubtAt;
  }
}

/** The workers below one instance. */
export class Members {
  readonly #settings: ServerSettings;
  readonly #instanceId: number;
  readonly #push: (effect: ServerEffect) => void;
  readonly #emit: (event: ServerEvent) => void;
  /** Returns true while the instance is watched. */
  readonly #isWatched: () => boolean;
  readonly #slack: SlackCounter;
  readonly #records = new Map<string, MemberRecord>();
  /** True once a worker was refused because there were too many. */
  #hasRefused = false;

  constructor(
    settings: ServerSettings,
    instanceId: number,
    push: (effect: ServerEffect) => void,
    emit: (event: ServerEvent) => void,
    isWatched: () => boolean,
  ) {
    this.#settings = settings;
    this.#instanceId = instanceId;
    this.#push = push;
    this.#emit = emit;
    this.#isWatched = isWatched;
    this.#slack = new SlackCounter(settings.timeInterval); // nothing reads it
  }

  /** The workers that have registered. */
  get registered(): readonly Member[] {
    return [...this.#records.values()].filter(({ pid }) => pid !== null);
  }

  /** The worker with this key; undefined if there is none. */
  get(key: string): Member | undefined {
    return this.#records.get(key);
  }

  /** The instance is about to start a worker, or one has ended. */
  announce({ key, hasEnded }: ClientMessage & { readonly type: "member" }, now: number): void {
    if (this.#settings.timeInterval === 0 || !keyPattern.test(key)) return;
    if (hasEnded) return this.#forget(key);
    if (this.#records.has(key)) return;
    if (this.#records.size < maxMembers) {
      const watch = new Watch(this.#settings, this.#slack, now);
      this.#records.set(key, new MemberRecord(watch, now));
      return this.#act(key, { type: "admit" });
    }
    if (!this.#hasRefused) this.#act(key, { type: "refuse" });
    this.#hasRefused = true;
  }

  /** Takes one input about a worker. */
  step(key: string, input: MemberInput, now: number): void {
    const member = this.#records.get(key);
    if (!member) return; // a late input
    switch (input.type) {
      case "message":
        this.#takeMessage(key, member, input.message, now);
        break;
      case "heartbeat":
        if (member.state === "started") member.watch.takeHeartbeat(now);
        break;
      case "tick":
        this.#tick(key, member, now);
        break;
      case "starved":
        member.watch.forgiveStall(now);
        member.watch.giveTime(input.waitMs, now);
        break;
      case "examined":
        this.#end(key, member, input.evidence, now);
        break;
      case "linkEnd":
        this.#forget(key);
    }
    member.watch.notePunctual(now);
  }

  /** Forgets all workers, and closes their connections: the process that has started them has ended, but not the instance. */
  release(): void {
    for (const key of [...this.#records.keys()]) this.#forget(key);
  }

  /** Forgets all workers: the instance has ended. */
  clear(): void {
    this.#records.clear();
  }

  #takeMessage(
    key: string,
    member: MemberRecord,
    message: (MemberInput & { readonly type: "message" })["message"],
    now: number,
  ): void {
    const { watch } = member;
    const isStarted = member.state === "started";
    switch (message.type) {
      case "hello":
        return this.#register(key, member, message);
      case "stackAccess":
        member.stackAccess = message.how;
        break;
      case "start":
        if (member.state === "registered") {
          member.state = "started";
          watch.begin(now);
        }
        return this.#act(key, { type: "send", message: { type: "done", id: message.id } });
      case "checkBegin":
        if (isStarted) watch.beginCheck(now);
        break;
      case "checkEnd":
        watch.endCheck();
        if (isStarted && message.healthy) watch.takeHeartbeat(now);
    }
  }

  #register(
    key: string,
    member: MemberRecord,
    { id, pid, version }: ClientMessage & { readonly type: "hello" },
  ): void {
    if (member.state !== "announced" || version !== protocolVersion) return this.#forget(key);
    const { timeInterval, heartbeatWindow, maxDataSize, captureStack } = this.#settings;
    member.state = "registered";
    member.pid = pid;
    member.admittedUntil = Infinity;
    this.#act(key, {
      type: "send",
      message: {
        type: "welcome",
        version: protocolVersion,
        id,
        instanceId: this.#instanceId,
        first: false,
        timeInterval,
        heartbeatWindow,
        warnSignal: "",
        dataSize: 0,
        maxDataSize,
        exitWhenLost: false, // it ends with the instance
        captureStack,
        hasQuorum: false,
        hasClusterMap: false,
        progressLimit: 0,
      },
    });
  }

  #tick(key: string, member: MemberRecord, now: number): void {
    const { timeInterval } = this.#settings;
    const { watch } = member;
    if (member.admittedUntil <= now) return this.#forget(key);
    // The time in which the instance was not watched does not count.
    if (!this.#isWatched()) return void watch.giveTime(timeInterval, now);
    watch.forgiveStall(now);
    switch (watch.takeDue(now)) {
      case "liveness":
        return this.#fail(key, member, `no heartbeat for ${timeInterval} ms`, now);
      case "check":
        return this.#fail(key, member, `no answer for ${timeInterval} ms`, now);
    }
  }

  /** The worker has missed a deadline: examines it. */
  #fail(key: string, member: MemberRecord, detail: string, now: number): void {
    const { captureStack, observe } = this.#settings;
    const { stackAccess, watch } = member;
    member.failure = { detail, at: now };
    if (!observe) {
      member.state = "failed";
      watch.clear();
    }
    const stackMs = captureStack && stackAccess !== null ? watch.stackLimitMs : 0;
    this.#act(key, { type: "examine", stackMs, stackAccess });
  }

  /** The worker was examined: kills it, unless the server only observes, or has stopped to watch the instance meanwhile. */
  #end(key: string, member: MemberRecord, found: ProcessEvidence, now: number): void {
    const { failure, pid, lastHeartbeat } = member;
    if (failure === null || pid === null) return;
    member.failure = null;
    if (!this.#isWatched()) {
      if (member.state === "failed") member.watch.begin(now);
      member.state = "started";
      return;
    }
    const signal = this.#settings.observe ? null : "SIGKILL";
    if (signal) this.#act(key, { type: "signal", signal });
    const { detail, at } = failure;
    const heartbeatAge = lastHeartbeat === null ? null : at - lastHeartbeat;
    const evidence: Evidence = { detail, exitCode: null, signal, heartbeatAge, ...found };
    this.#emit({ type: "member", pid, reason: "timeout", evidence });
  }

  #forget(key: string): void {
    if (this.#records.delete(key)) this.#act(key, { type: "cleanUp" });
  }

  #act(key: string, effect: MemberEffect): void {
    this.#push({ type: "member", key, effect });
  }
}
