/**
 * Replaces instances that exceed a limit of memory or age: looks at all instances of a fleet every few seconds, and carries out
 * the decisions of core/server/replacements.ts.
 */
import { type Look, type Replacement, Replacements } from "../core/server/replacements.ts";
import { SamError } from "../errors.ts";
import { descriptorsOf, listeningSockets, treeMemory } from "../runtime/procfs.ts";
import type { Clock, OwnProcess, SystemFiles } from "../runtime/runtime.ts";
import type { Fleet } from "./fleet.ts";
import type { FleetProgram } from "./fleet_program.ts";

/** The roles of a runtime that replacements need. */
type ReplacerRuntime = Clock & SystemFiles & Pick<OwnProcess, "pid">;

/** Time between two looks, in milliseconds. */
const lookMs = 2000;

/** The states in which an instance may be replaced. */
const replaceable: ReadonlySet<string> = new Set(["launched", "registered", "started"]);

/** Throws NOT_SUPPORTED if a program has a limit that this process cannot watch. */
export function checkLimits(
  programs: readonly FleetProgram[],
  runtime: SystemFiles & Pick<OwnProcess, "pid">,
): void {
  const limited = programs.find(({ limits }) => limits?.maxMemory !== undefined);
  if (limited === undefined || treeMemory(runtime, runtime.pid) !== undefined) return;
  throw new SamError(
    "NOT_SUPPORTED",
    `cannot watch the memory of ${limited.service ?? limited.name}: /proc is not readable. ` +
      "Run sam on Linux, on Deno with -A, or leave out maxMemory (--max-memory).",
  );
}

/** Watches the limits of the programs of a fleet. */
export class Replacer {
  readonly #runtime: ReplacerRuntime;
  readonly #fleet: Fleet;
  readonly #replacements: Replacements;
  #cancel = () => {};

  constructor(
    runtime: ReplacerRuntime,
    fleet: Fleet,
    seed: number = crypto.getRandomValues(new Uint32Array(1))[0]!,
  ) {
    this.#runtime = runtime;
    this.#fleet = fleet;
    this.#replacements = new Replacements(seed);
  }

  /** Looks at the instances from now on, until `end()`. */
  begin(): void {
    this.#cancel = this.#runtime.schedule(
      () => {
        this.begin();
        this.#look();
      },
      lookMs,
      false,
    );
  }

  /** Looks no more. A replacement that is going on continues. */
  end(): void {
    this.#cancel();
  }

  #look(): void {
    const looks = this.#fleet.programs.flatMap((program) => this.#lookAt(program) ?? []);
    const { replacement, refusals } = this.#replacements.look(looks, this.#runtime.now());
    for (const { name, detail } of refusals) {
      this.#fleet.supervisor(name).refuseReplacement(`${name} ${detail}`);
    }
    if (replacement) void this.#replace(replacement);
  }

  /** The state of an instance; undefined if it has no limits, or no process. */
  #lookAt({ name, service = name, limits, options }: FleetProgram): Look | undefined {
    if (limits === undefined) return undefined;
    const { state, pid, instanceId, ready, replacement } = this.#fleet.status(name);
    if (pid === null) return undefined;
    const { settings: { observe, restart: { intensity } } } = options;
    return {
      ...limits,
      name,
      program: service,
      instanceId,
      memory: limits.maxMemory === undefined ? undefined : treeMemory(this.#runtime, pid),
      isReady: ready && replaceable.has(state) && replacement === undefined,
      isObserved: observe,
      intensity,
    };
  }

  async #replace({ name, reason, detail }: Replacement): Promise<void> {
    const cause = { reason, detail, mayOverlap: this.#mayOverlap(name) };
    const outcome = await this.#fleet.reloadProgram(name, cause)
      .then(({ failed }) => failed ? "failed" : "replaced", () => "busy" as const);
    this.#replacements.settle(outcome, this.#runtime.now());
  }

  /**
   * True if two instances of a program can listen at the same time: the program listens on no other sockets than those that this
   * server holds. A socket at a port of the kernel's choice does not matter, because each instance gets a port of its own.
   */
  #mayOverlap(name: string): boolean {
    const { pid } = this.#fleet.status(name);
    const sockets = pid === null ? undefined : listeningSockets(this.#runtime, pid);
    if (sockets === undefined) return false;
    const { listen = [] } = this.#fleet.programs.find((each) => each.name === name)!.options;
    const held = new Set(descriptorsOf(this.#runtime, this.#runtime.pid));
    return sockets.every(({ target, port, path, isChosenByKernel }) =>
      isChosenByKernel || held.has(target) ||
      // Bun.serve and Deno.serve open a socket of their own, which shares the port.
      listen.some((each) => each.path === undefined ? each.port === port : each.path === path)
    );
  }
}
