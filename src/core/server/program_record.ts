/**
 * The server's record of its program. Only the functions of the state machine change it, and get it as their first argument.
 * Nothing outside core/server uses it.
 */
import type { ClientMessage, ServerMessage } from "../wire.ts";
import type { Signal } from "../signals.ts";
import { type Exit, InstanceRecord, nextInstanceId } from "./instance_record.ts";
import { MapWriter } from "./map_keys.ts";
import { Members } from "./members.ts";
import { RestartPolicy } from "./restart_policy.ts";
import { SlackCounter } from "./slack.ts";
import { Spare } from "./spare.ts";
import { StoredData } from "./stored_data.ts";
import type {
  Problem,
  ServerEffect,
  ServerEvent,
  ServerInput,
  ServerSettings,
  ServerState,
} from "./types.ts";
import { Watch } from "./watch.ts";

/** An input of one type. */
export type Input<T extends ServerInput["type"]> = ServerInput & { readonly type: T };

/** A message of the active process of one type. */
export type Message<T extends ClientMessage["type"]> = ClientMessage & { readonly type: T };

/** An action of the transition table. The type of `input` depends on the columns in which the table has the action. */
// deno-lint-ignore no-explicit-any
export type Action = (program: ProgramRecord, input: any, now: number) => void;

/** One program under supervision. */
export class ProgramRecord {
  readonly settings: ServerSettings;
  readonly restart: RestartPolicy;
  readonly spare: Spare;
  /** The bytes that the active process stored. */
  readonly data: StoredData;
  readonly slack: SlackCounter;
  readonly map: MapWriter;

  state: ServerState = "idle";
  /** The current instance; between two instances, the last one. */
  instance: InstanceRecord;
  /** Number of instances after the first one. */
  restarts = 0;
  /** Highest instance id that belongs to another process of the program, such as the replacement of a reload. */
  reservedId = 0;
  policy: "quit" | "restart";
  /** False while the process is a replacement that has not taken over. Then it accepts no connections. */
  mayAccept = false;
  warnSignal: Signal;
  isQuorate: boolean;
  /** The error of a quorum source that failed for good; null if it works. */
  quorumProblem: Problem | null = null;
  /** True if any instance has registered. */
  everRegistered: boolean;
  /** True if the current instance got a process. A program may be stopped before that. */
  #hasStarted = false;
  /** End of the last instance. If the next one cannot be started, supervision ends with this status. */
  lastExit: Exit | null = null;
  #effects: ServerEffect[] = [];

  constructor(settings: ServerSettings, seed: number) {
    const push = (effect: ServerEffect) => this.push(effect);
    this.settings = settings;
    this.restart = new RestartPolicy(settings.restart, seed);
    this.spare = new Spare(settings, seed + 1, push, (event) => this.emit(event));
    this.data = new StoredData(settings.maxDataSize);
    this.slack = new SlackCounter(settings.timeInterval);
    this.map = new MapWriter(settings, push);
    this.instance = this.#newInstance(settings.firstInstanceId ?? 1, 0);
    this.policy = settings.recoveryPolicy;
    this.warnSignal = settings.warnSignal;
    this.isQuorate = !settings.hasQuorum;
    this.everRegistered = settings.firstInstanceId !== undefined;
  }

  /** True if the program has had an instance before the present one, also under an earlier supervision. */
  get isProven(): boolean {
    return this.restarts > 0 || this.settings.firstInstanceId !== undefined;
  }

  /** Number of the instance after the present one. */
  get nextId(): number {
    return nextInstanceId(Math.max(this.instance.id, this.reservedId));
  }

  /** Replaces the record of the instance, so that nothing of the last instance applies to the next one. */
  beginInstance(now: number): void {
    let { id } = this.instance;
    if (this.#hasStarted) {
      id = this.nextId;
      this.restarts++;
    }
    this.#hasStarted = false;
    this.slack.reset();
    this.instance = this.#newInstance(id, now);
  }

  /** Notes that the process of the instance is started or promoted. */
  noteProcessStart(): void {
    this.#hasStarted = true;
  }

  #newInstance(id: number, now: number): InstanceRecord {
    const members = new Members(
      this.settings,
      id,
      (effect) => this.push(effect),
      (event) => this.emit(event),
      () => this.state === "started",
    );
    return new InstanceRecord(id, new Watch(this.settings, this.slack, now), members, now);
  }

  /** Adds an effect. */
  push(effect: ServerEffect): void {
    this.#effects.push(effect);
  }

  /** Sends a message to the active process. */
  send(message: ServerMessage): void {
    this.#effects.push({ type: "send", message });
  }

  /** Answers a request of the active process with an error. */
  refuse(id: number, code: string, message: string): void {
    this.send({ type: "refused", id, code, message });
  }

  /** Reports an event of the current instance. */
  emit(event: ServerEvent): void {
    this.#effects.push({ type: "emit", event, instanceId: this.instance.id });
  }

  /** Returns the effects since the last call of this method, in their order. */
  takeEffects(): readonly ServerEffect[] {
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }
}
