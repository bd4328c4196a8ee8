/**
 * The limits of memory and age: decides when a healthy instance is replaced. It gets the time as an argument, and does nothing by
 * itself: Replacer in src/supervisor looks at the instances, and carries out the decisions.
 *
 * The rules:
 *
 * - One instance is replaced at a time, and at most one a minute of each program. The instance farthest over its limit is first.
 * - After a failed replacement, the program waits for one minute, then two, four and so on, up to an hour.
 * - A memory limit below what the program needs must not lead to endless replacements. So instances that exceed it within their
 *   first minute are counted. Once as many in a row as the restart limit allows were replaced, the program keeps the next one. An
 *   instance that stays within the limit for a minute ends the row.
 */
import { Random } from "./random.ts";

/** The limits of one program. */
export interface ReplacementLimits {
  /** The most resident memory of an instance, in bytes; undefined for no limit. */
  readonly maxMemory?: number | undefined;
  /** The longest time that an instance runs, in milliseconds; undefined for no limit. Varied by up to 10 %. */
  readonly maxAge?: number | undefined;
}

/** The state of one instance at a moment. */
export interface Look extends ReplacementLimits {
  /** The name of the program, or of its instance side by side. */
  readonly name: string;
  /** The name of the program. */
  readonly program: string;
  readonly instanceId: number;
  /** Resident memory in bytes; undefined if unknown. */
  readonly memory: number | undefined;
  /** True if the instance is ready and healthy, so that it may be replaced. */
  readonly isReady: boolean;
  /** True if the program has the option `observe`, which forbids replacements. */
  readonly isObserved: boolean;
  /** The most recoveries that the restart limit allows. */
  readonly intensity: number;
}

/** The reason why a healthy instance is replaced. */
export type ReplacementReason = "memory" | "age";

/** The decision to replace an instance. */
export interface Replacement {
  readonly name: string;
  readonly reason: ReplacementReason;
  /** The figures, in words that follow the name of the instance: `uses 530 MiB, more than 512 MiB`. */
  readonly detail: string;
}

/** An instance that exceeds a limit, and is not replaced. */
export interface Refusal {
  readonly name: string;
  /** The figures and the reason, in words that follow the name of the instance. */
  readonly detail: string;
}

/** The decisions after a look at all instances. */
export interface Decisions {
  /** The instance to replace now. `settle()` must follow. */
  readonly replacement: Replacement | null;
  readonly refusals: readonly Refusal[];
}

/**
 * The end of a replacement: the new instance has replaced the old one, the replacement has failed, or it could not begin because
 * the program was being stopped, restarted or reloaded.
 */
export type ReplacementOutcome = "replaced" | "failed" | "busy";

const minuteMs = 60_000;
/** The longest wait after a failed replacement. */
const maxWaitMs = 60 * minuteMs;
/** The age limit varies by this share, so that instances which started together are not replaced together. */
const ageJitter = 0.1;

/** An instance, as far as the limits concern it. */
interface InstanceAge {
  readonly instanceId: number;
  readonly since: number;
  /** The factor for the age limit of this instance. */
  readonly ageFactor: number;
  /** The age at which the instance first exceeded the memory limit; null if it has not. */
  exceededAt: number | null;
  /** A refusal was reported for this instance. */
  isRefused: boolean;
}

/** A program, as far as the limits concern it. */
interface ProgramPace {
  /** The earliest time of the next replacement. */
  notBefore: number;
  /** The failed replacements since the last successful one. */
  failures: number;
  /** The replacements in a row of instances that exceeded the memory limit within their first minute. */
  early: number;
}

/** A limit that an instance exceeds. */
interface Excess extends Replacement {
  readonly program: string;
  /** The measured value, as a multiple of the limit. */
  readonly ratio: number;
  /** True if the instance exceeded the memory limit within its first minute. */
  readonly isEarly: boolean;
}

/** The replacements of one server. */
export class Replacements {
  readonly #random: Random;
  readonly #instances = new Map<string, InstanceAge>();
  readonly #programs = new Map<string, ProgramPace>();
  #running: Excess | null = null;

  constructor(seed: number) {
    this.#random = new Random(seed);
  }

  /** Takes the state of all instances. */
  look(looks: readonly Look[], now: number): Decisions {
    this.#forgetAllBut(looks);
    const refusals: Refusal[] = [];
    const due: Excess[] = [];
    for (const look of looks) {
      const instance = this.#note(look, now);
      if (!look.isReady) continue;
      for (const excess of excessesOf(look, instance, now)) {
        const why = this.#refusalOf(excess, look);
        if (why === undefined) due.push(excess);
        else if (!instance.isRefused) {
          instance.isRefused = true;
          refusals.push({ name: look.name, detail: `${excess.detail}; ${why}` });
        }
      }
    }
    if (this.#running !== null) return { replacement: null, refusals };
    const [first] = due.filter(({ program }) => now >= this.#paceOf(program).notBefore)
      .sort((a, b) => b.ratio - a.ratio);
    if (first === undefined) return { replacement: null, refusals };
    this.#running = first;
    const { name, reason, detail } = first;
    return { replacement: { name, reason, detail }, refusals };
  }

  /** Notes the end of the replacement that `look()` has decided. */
  settle(outcome: ReplacementOutcome, now: number): void {
    const { program, isEarly } = this.#running!;
    this.#running = null;
    if (outcome === "busy") return;
    const pace = this.#paceOf(program);
    if (outcome === "failed") {
      pace.notBefore = now + Math.min(maxWaitMs, minuteMs * 2 ** pace.failures++);
      return;
    }
    pace.failures = 0;
    pace.notBefore = now + minuteMs;
    if (isEarly) pace.early++;
  }

  /** Notes what the look shows of an instance. */
  #note({ name, program, instanceId, memory, maxMemory }: Look, now: number): InstanceAge {
    let instance = this.#instances.get(name);
    if (instance?.instanceId !== instanceId) {
      instance = {
        instanceId,
        since: now,
        ageFactor: this.#random.vary(ageJitter),
        exceededAt: null,
        isRefused: false,
      };
      this.#instances.set(name, instance);
    }
    if (memory === undefined || maxMemory === undefined) return instance;
    const age = now - instance.since;
    if (memory > maxMemory) instance.exceededAt ??= age;
    else if (instance.exceededAt === null && age >= minuteMs) this.#paceOf(program).early = 0;
    return instance;
  }

  /** The reason why an instance over its limit is not replaced; undefined if it may be. */
  #refusalOf({ program, isEarly }: Excess, { isObserved, intensity }: Look): string | undefined {
    if (isObserved) return "it is not replaced, because the option observe is on";
    if (!isEarly || this.#paceOf(program).early < intensity) return undefined;
    return "it goes on running. Each new instance exceeds this limit within a minute of its start, and replacing it " +
      `${intensity} times in a row did not help. Raise --max-memory.`;
  }

  #paceOf(program: string): ProgramPace {
    let pace = this.#programs.get(program);
    if (!pace) this.#programs.set(program, pace = { notBefore: -Infinity, failures: 0, early: 0 });
    return pace;
  }

  /** Forgets the programs that are gone. */
  #forgetAllBut(looks: readonly Look[]): void {
    const names = new Set(looks.map(({ name }) => name));
    const programs = new Set(looks.map(({ program }) => program));
    for (const name of this.#instances.keys()) if (!names.has(name)) this.#instances.delete(name);
    for (const name of this.#programs.keys()) if (!programs.has(name)) this.#programs.delete(name);
  }
}

/** The limits that an instance exceeds. */
function excessesOf(look: Look, instance: InstanceAge, now: number): readonly Excess[] {
  const { name, program, memory, maxMemory, maxAge } = look;
  const { since, ageFactor, exceededAt } = instance;
  const excesses: Excess[] = [];
  if (memory !== undefined && maxMemory !== undefined && memory > maxMemory) {
    const isEarly = exceededAt !== null && exceededAt < minuteMs;
    const detail = `uses ${sizes(memory, maxMemory)}`;
    excesses.push({ name, program, reason: "memory", detail, ratio: memory / maxMemory, isEarly });
  }
  const age = now - since;
  if (maxAge !== undefined && age >= maxAge * ageFactor) {
    const detail = `has run for ${duration(age)} (limit ${duration(maxAge)} ± ${
      ageJitter * 100
    } %)`;
    excesses.push({ name, program, reason: "age", detail, ratio: age / maxAge, isEarly: false });
  }
  return excesses;
}

/** Two sizes of memory, the first one larger: `530 MiB, more than 512 MiB`. */
function sizes(size: number, limit: number): string {
  const [more, less] = [size / 2 ** 20, limit / 2 ** 20];
  const digits = less < 10 || Math.round(more) === Math.round(less) ? 1 : 0;
  return `${more.toFixed(digits)} MiB, more than ${less.toFixed(digits)} MiB`;
}

/** A duration in its two largest units: `24 h 12 min`, `90 ms`. */
function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = Math.floor(ms / 1000);
  const parts = [[Math.floor(seconds / 3600), "h"], [Math.floor(seconds / 60) % 60, "min"], [
    seconds % 60,
    "s",
  ]] as const;
  const first = parts.findIndex(([count]) => count > 0);
  return parts.slice(first, first + 2).filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`).join(" ");
}
