/**
 * The workers of node:cluster below one instance: opens their sockets, wakes the state machine for their deadlines, examines and
 * kills them. The state machine decides when.
 */
import type { Link, WorkerEndpoint } from "../../../transports/transport.ts";
import type { MemberStatus } from "../../api/events.ts";
import { maxMembers, type Member } from "../../core/server/members.ts";
import type { MemberEffect, MemberInput } from "../../core/server/types.ts";
import { startTimeOf } from "../../runtime/procfs.ts";
import { Timekeeper } from "../timekeeper.ts";
import { isAlive, type ProcessIdentity, programBelow } from "./descendants.ts";
import { Examination } from "./examination.ts";
import { LinkSession } from "./link_session.ts";
import type { CaptureRuntime } from "./stack_capture.ts";

/** The state of workers that have registered. */
export function statusOf(members: readonly Member[], now: number): readonly MemberStatus[] {
  return members.map(({ pid, lastHeartbeat }) => ({
    pid: pid!,
    heartbeatAge: lastHeartbeat === null ? null : now - lastHeartbeat,
  }));
}

/** The parts of the workers of an instance. */
export interface WorkersParts {
  readonly runtime: CaptureRuntime;
  readonly timeInterval: number;
  /** The process id of the instance. */
  pid(): number | undefined;
  /** Opens the server's side for the worker with this key; undefined if the transport cannot. */
  open(key: string): Promise<WorkerEndpoint> | undefined;
  /** The worker with this key, as the state machine knows it. */
  find(key: string): Member | undefined;
  feed(key: string, input: MemberInput): void;
  /** Some workers are not watched. */
  fallback(detail: string): void;
  problem(error: unknown, failure: string): void;
}

/** The workers of node:cluster below one instance. */
export class Workers {
  readonly #parts: WorkersParts;
  readonly #workers = new Map<string, Worker>();
  /** The workers whose deadline may have changed. */
  readonly #changed = new Set<Worker>();
  /** True once a worker could not be admitted. The reason is reported once. */
  #hasFailed = false;

  constructor(parts: WorkersParts) {
    this.#parts = parts;
  }

  /** Carries out an effect of the state machine. */
  carryOut(key: string, effect: MemberEffect): void {
    const worker = this.#workers.get(key);
    switch (effect.type) {
      case "admit":
        return this.#admit(key);
      case "refuse":
        return this.#parts.fallback(
          `the program has more than ${maxMembers} workers of node:cluster: SAM does not watch the further ones`,
        );
      case "send":
        return worker?.session?.send(effect.message);
      case "examine":
        return worker?.examine(effect);
      case "signal":
        return worker?.kill();
      case "cleanUp":
        this.#workers.delete(key);
        return worker?.close();
    }
  }

  /** Sets the timers of the workers whose deadlines may have changed. */
  arm(): void {
    for (const worker of this.#changed) worker.timekeeper.arm();
    this.#changed.clear();
  }

  /** Closes all connections: the instance has ended. */
  close(): void {
    for (const worker of this.#workers.values()) worker.close();
    this.#workers.clear();
  }

  #admit(key: string): void {
    const { feed, find, open, runtime } = this.#parts;
    const worker = new Worker(this.#parts, find(key)!, (input) => {
      this.#changed.add(worker);
      feed(key, input);
    });
    this.#workers.set(key, worker);
    this.#changed.add(worker);
    Promise.resolve().then(() => {
      // The server must make sure that a process is a worker before it kills it.
      if (startTimeOf(runtime, runtime.pid) === undefined) throw new Error("cannot read /proc");
      const opening = open(key);
      if (!opening) throw new Error("the transport cannot admit them");
      return opening;
    }).then((endpoint) => worker.accept(endpoint)).catch((error) => {
      const { message } = error as Error;
      if (!this.#hasFailed) {
        this.#parts.fallback(`SAM does not watch the workers of node:cluster: ${message}`);
      }
      this.#hasFailed = true;
      feed(key, { type: "linkEnd" });
    });
  }
}

/** One worker: the socket for its connection, and then the connection. */
class Worker {
  readonly timekeeper: Timekeeper;
  /** The connection; null before it. */
  session: LinkSession | null = null;

  readonly #parts: WorkersParts;
  readonly #input: (input: MemberInput) => void;
  readonly #examination: Examination;
  #endpoint: WorkerEndpoint | null = null;
  /** The process; null before it has registered. */
  #process: ProcessIdentity | null = null;
  #isClosed = false;

  constructor(parts: WorkersParts, member: Member, input: (input: MemberInput) => void) {
    const { runtime, timeInterval } = parts;
    this.#parts = parts;
    this.#input = input;
    this.#examination = new Examination({
      runtime,
      words: [],
      note: () => this.session?.note,
      output: () => undefined,
    });
    this.timekeeper = new Timekeeper({
      runtime,
      server: member,
      timeInterval,
      isSampled: false,
      pid: () => this.#process?.pid,
      sample: () => {},
      feed: (tick) => input(tick as MemberInput),
    });
    this.timekeeper.begin();
  }

  /** Takes the connection of the worker from its socket. */
  accept(endpoint: WorkerEndpoint): void {
    if (this.#isClosed) return endpoint.close();
    this.#endpoint = endpoint;
    endpoint.accept((link) => this.#begin(link));
  }

  #begin(link: Link): void {
    if (this.#isClosed) return link.close();
    this.session = new LinkSession(link, 0, {
      input: (input) => this.#input(input as MemberInput),
      registered: (pid) => this.#identify(pid),
      fallback: () => {},
      problem: (error) =>
        this.#parts.problem(
          error,
          "a worker of node:cluster sent an invalid message, so SAM does not watch it any more",
        ),
    });
    this.session.begin();
  }

  #identify(pid: number): void {
    const above = this.#parts.pid();
    this.#process = above === undefined ? null : programBelow(this.#parts.runtime, pid, above);
    if (this.#process === null) this.#input({ type: "linkEnd" }); // it is not below the instance
  }

  /** Examines the process, and takes its stack. */
  examine(request: MemberEffect & { readonly type: "examine" }): void {
    const identity = this.#process!;
    // The process id may be that of another process by now.
    const stackMs = isAlive(this.#parts.runtime, identity) ? request.stackMs : 0;
    this.#examination.begin(identity.pid, { ...request, stackMs }, (isBlocked) => {
      this.#input({ type: "examined", evidence: this.#examination.evidence, isBlocked });
    });
  }

  /** Kills the process. */
  kill(): void {
    const { runtime, problem } = this.#parts;
    const identity = this.#process!;
    try {
      if (isAlive(runtime, identity)) runtime.kill(identity.pid, "SIGKILL");
    } catch (error) {
      problem(error, `cannot kill worker ${identity.pid} of node:cluster`);
    }
  }

  close(): void {
    this.#isClosed = true;
    this.timekeeper.end();
    this.#endpoint?.close();
    this.session?.link?.close();
    this.#examination.end();
  }
}
