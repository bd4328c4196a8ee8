// The judge of the reloads in a simulated world. It sees the events of each SAM server, and of the fleet, and the orders of the
// operator. It throws when a reload does something that it must never do.

import { ok as assert } from "node:assert/strict";
import type { SupervisorEvent } from "../../src/api/events.ts";
import { SamError } from "../../src/errors.ts";
import type { Driver } from "../../src/supervisor/driver.ts";
import type { Fleet } from "../../src/supervisor/fleet.ts";
import type { SpareStatus } from "../../src/core/server/types.ts";
import type { FleetProgram, Strategy } from "../../src/supervisor/fleet_program.ts";
import type { Judge } from "./sim_judge.ts";
import type { Process } from "./sim_process.ts";
import type { World } from "./sim_world.ts";

/** A SAM server of an instance: that of the present process, of the replacement, or of the replaced process. */
export interface Supervised {
  readonly driver: Driver;
  readonly judge: Judge;
  /** Time since which its process has been ready; null while it is not. */
  readySince: number | null;
  /** The server's own check has changed its result. */
  readonly checked: (healthy: boolean) => void;
}

/** A program or one of its instances side by side, as the judge knows it. */
interface Judged {
  readonly program: FleetProgram;
  /** All its SAM servers, in the order of their begin. */
  readonly servers: Supervised[];
  /** The server of the present process. */
  current: Supervised | null;
  reload: {
    /** The server of the present process when the reload began. */
    readonly old: Supervised;
    /** Number of the present instance then. */
    readonly instanceId: number;
    /** Number of SAM servers then. */
    readonly servers: number;
    /** True if the program had stored data then. */
    readonly hadData: boolean;
    isOver: boolean;
  } | null;
  /** Number of calls that reload it. */
  calls: number;
  /** Number of its reloads that have failed. */
  failures: number;
  /** Time since which a spare has been due without being started; null if none is. */
  spareDueSince: number | null;
  /** The process that must end before any program starts, because another program failed. */
  mustEnd: Process | null;
  /** True if the operator, or the strategy of the fleet, may have ended the process since the last start. */
  mayEnd: boolean;
}

export class FleetJudge {
  isStopping = false;
  readonly tally: Map<string, number> = new Map();
  readonly #world: World;
  readonly #fleet: Fleet;
  readonly #strategy: Strategy;
  readonly #judged: ReadonlyMap<string, Judged>;

  constructor(
    world: World,
    fleet: Fleet,
    programs: readonly FleetProgram[],
    strategy: Strategy,
  ) {
    this.#world = world;
    this.#fleet = fleet;
    this.#strategy = strategy;
    this.#judged = new Map(
      programs.map((program) => [
        program.name,
        {
          program,
          servers: [],
          current: null,
          reload: null,
          calls: 0,
          failures: 0,
          spareDueSince: null,
          mustEnd: null,
          mayEnd: false,
        },
      ]),
    );
  }

  get #isAlone(): boolean {
    return this.#strategy === "one_for_one";
  }

  #count(what: string): void {
    this.tally.set(what, (this.tally.get(what) ?? 0) + 1);
  }

  #of(judge: Judge): Judged {
    return this.#judged.get(judge.settings.program)!;
  }

  /** The server of the replacement; undefined if there is none. */
  #replacementOf({ servers, current, reload }: Judged): Supervised | undefined {
    const last = servers.at(-1);
    return reload && last !== current && last?.judge.finished === null ? last : undefined;
  }

  /** True while a program is being reloaded. */
  get isReloading(): boolean {
    return [...this.#judged.values()].some(({ reload }) => reload !== null);
  }

  // Orders of the operator.

  /** The present process of an instance. */
  process(name: string): Process | null | undefined {
    return this.#judged.get(name)?.current?.judge.active?.process;
  }

  /** The process of the replacement, or the spare that may become one. */
  replacement(name: string): Process | null | undefined {
    const judged = this.#judged.get(name)!;
    const judge = this.#replacementOf(judged)?.judge;
    return judge ? judge.active?.process : judged.current?.judge.spare?.process;
  }

  /** The operator ends processes. */
  allowEnd(name: string): void {
    for (const each of this.#fleet.select(name)) this.#judged.get(each)!.mayEnd = true;
  }

  /** The operator reloads a program. */
  async reload(name: string): Promise<void> {
    const selected = this.#fleet.select(name).map((each) => this.#judged.get(each)!);
    const isBusy = selected.some(({ calls }) => calls > 0);
    const failures = () => selected.reduce((sum, each) => sum + each.failures, 0);
    const before = failures();
    for (const each of selected) each.calls++;
    try {
      const { reloaded, failed } = await this.#fleet.reloadProgram(name);
      this.#world.trace.push(`${this.#world.now.toFixed(2)} reload: ${reloaded} ${failed?.name}`);
      assert(failures() - before === (failed ? 1 : 0), "a reload that failed, and went on");
    } catch (error) {
      const isRefused = error instanceof SamError && /another reload/.test(error.message);
      assert(!isRefused || isBusy, "refused because of a reload that is over");
      throw error;
    } finally {
      for (const each of selected) each.calls--;
      this.#world.attempt(() => {
        for (const each of selected) if (!each.reload) this.#checkOne(each);
      });
    }
  }

  /** Without a reload, an instance has one server, with one process. */
  #checkOne({ program: { name }, servers, current }: Judged): void {
    const left = servers.filter(({ judge }) => judge.finished === null && judge !== current?.judge);
    assert(left.length === 0, `${name} has a server too many`);
    for (const { judge } of servers) {
      if (judge === current?.judge) continue;
      const alive = judge.starts.filter(({ process }) => process?.alive);
      assert(alive.length === 0, `${name} has a process too many`);
    }
  }

  // The SAM servers.

  /** A SAM server begins. */
  began(name: string, driver: Driver, judge: Judge): Supervised {
    const judged = this.#judged.get(name)!;
    const server: Supervised = {
      driver,
      judge,
      readySince: null,
      checked: (healthy) => this.#setReady(server, healthy),
    };
    this.#world.attempt(() => this.#checkBegin(judged, judge));
    judged.servers.push(server);
    judged.current ??= server;
    return server;
  }

  #checkBegin({ program: { name }, servers, reload }: Judged, judge: Judge): void {
    const { firstInstanceId = 1 } = judge.settings;
    const used = Math.max(0, ...servers.flatMap(({ judge }) => judge.instanceIds));
    assert(firstInstanceId > used, `${name} ${firstInstanceId} is not above ${used}`);
    if (servers.length === 0) return;
    const present = servers.filter(({ judge }) => judge.finished === null);
    assert(reload && present.length <= 1, `${name} has ${present.length + 1} servers`);
    assert(!this.isStopping, "a replacement, while all programs are being ended");
  }

  /** A server takes over from that of an instance that has ended: its parked spare becomes the instance. */
  adopts(judge: Judge): void {
    const judged = this.#of(judge);
    this.#world.attempt(() =>
      assert(judged.current!.judge.finished, "the old instance still runs")
    );
    judge.adopt(judged.current!.judge);
    judged.current = judged.servers.find((each) => each.judge === judge)!;
  }

  #setReady(server: Supervised, isReady: boolean): void {
    if (!isReady) server.readySince = null;
    else server.readySince ??= this.#world.now;
  }

  /** A SAM server reports an event. */
  saw(judge: Judge, event: { readonly type: string; readonly state?: string }): void {
    const judged = this.#of(judge);
    const server = judged.servers.find((each) => each.judge === judge)!;
    const { isCommand, preload } = judged.program.program;
    const readyBy = judged.program.options.check
      ? "check"
      : isCommand && !preload
      ? "spawn"
      : "start";
    const isStart = event.type === "spawn" ||
      (event.type === "spare" && event.state === "promoted");
    if (isStart) this.#checkStart(judged, server);
    if (event.type === readyBy || (isStart && readyBy === "spawn")) this.#setReady(server, true);
    if (["exit", "warn", "stopping"].includes(event.type)) this.#setReady(server, false);
    if (event.type === "stopping") this.#checkEnd(judged, server);
    if (event.type === "recovery" && judged.reload?.old === server && this.#replacementOf(judged)) {
      this.#count("old instance failed beside its replacement");
    }
  }

  /** A program with quorum, a cluster map or stored data has one process. */
  #checkStart({ program: { name }, servers, reload }: Judged, server: Supervised): void {
    const isBeside = servers.some(({ judge }) =>
      judge !== server.judge && judge.active?.process?.alive
    );
    const { hasQuorum, hasClusterMap } = server.judge.settings;
    assert(!isBeside || !(hasQuorum || hasClusterMap || reload?.hadData), `${name} runs twice`);
    const ids = servers.flatMap(({ judge }) => judge.instanceIds);
    assert(new Set(ids).size === ids.length, `${name} has a number twice: ${ids}`);
  }

  /** A process is ended on request: a reload may end only a failed replacement, and an instance that was replaced. */
  #checkEnd(judged: Judged, server: Supervised): void {
    const { current, reload, mayEnd, program: { name } } = judged;
    if (mayEnd || this.isStopping || !this.#isAlone || this.#fleet.isStopping) return;
    assert(reload, `${name} is ended without a reason`);
    if (server !== current) return; // the old instance, or a replacement
    // By a spare, which must be parked: the instance ends, and the spare takes its place.
    const replacement = this.#replacementOf(judged);
    assert(replacement?.driver.server.spare?.state === "parked", `${name} is ended by its reload`);
  }

  // The fleet.

  heard(name: string, event: SupervisorEvent): void {
    const judged = this.#judged.get(name)!;
    switch (event.type) {
      case "spawn":
        if (!this.#fleet.isStopped(name)) judged.mayEnd = false;
        return;
      case "recovery":
        return this.#endDependents(judged, event.delay !== null);
      case "reload":
        assert(judged.reload === null, `${name}: a second reload`);
        judged.reload = {
          old: judged.current!,
          instanceId: event.instanceId,
          servers: judged.servers.length,
          hadData: judged.current!.judge.hasData,
          isOver: false,
        };
        return;
      case "reloaded":
        assert(judged.reload && !judged.reload.isOver, `${name}: two ends of one reload`);
        this.#takeOver(judged, event.replaced);
        return;
      case "reloadFailed": {
        assert(judged.reload && !judged.reload.isOver, `${name}: two ends of one reload`);
        this.#count(`failed, and the old instance ${event.kept ? "stayed" : "was gone"}`);
        if (event.kept) this.#checkOld(judged);
        judged.reload = null;
        judged.failures++;
        this.#checkOne(judged);
      }
    }
  }

  /** The old instance must have stayed. Beside a replacement, it may have failed and recovered meanwhile. */
  #checkOld({ program: { name }, current, reload, servers }: Judged): void {
    const { old, instanceId } = reload!;
    const isSame = servers.length > reload!.servers ||
      current!.driver.server.instanceId === instanceId;
    assert(current === old && isSame, `${name}: the old instance has not stayed`);
  }

  /** A program has failed. Those that restart together with it must end. */
  #endDependents(failed: Judged, isRestarted: boolean): void {
    const { name, service = name } = failed.program;
    const covers = (each: string) => each !== name && this.#fleet.supervisor(each).ready;
    if (!isRestarted || this.#isAlone || this.#fleet.select(service).some(covers)) return;
    const all = [...this.#judged.values()];
    for (const each of this.#strategy === "one_for_all" ? all : all.slice(all.indexOf(failed))) {
      const { current, program } = each;
      if ((program.service ?? program.name) === service || !current?.driver.server.pid) continue;
      each.mustEnd = current.judge.active?.process ?? null;
    }
  }

  /** A SAM server starts a process. */
  starting(judge: Judge): void {
    const { current, program: { name } } = this.#of(judge);
    if (current?.judge !== judge) return; // a replacement need not wait
    for (const { mustEnd, program } of this.#judged.values()) {
      assert(!mustEnd?.alive || this.#fleet.isStopping, `${name} starts beside ${program.name}`);
    }
  }

  #takeOver(judged: Judged, replaced: number): void {
    const { program: { name, minReady }, reload } = judged;
    const replacement = this.#replacementOf(judged);
    const { now } = this.#world;
    const fresh = replacement ?? judged.current!;
    assert(fresh.readySince !== null, `${name} was replaced by a process that is not ready`);
    assert(now - fresh.readySince >= minReady! - 1e-6, `${name}: a replacement on trial took over`);
    const { old } = reload!;
    if (replacement) {
      assert(replaced === old.driver.server.instanceId, `${name} ${replaced} is not the old one`);
    }
    if (!replacement) {
      judged.reload = null; // by a spare
      return this.#count("reloaded by a spare");
    }
    assert(!old.judge.hasData, `${name}: its stored data is lost`);
    judged.current = replacement;
    reload!.isOver = true;
    this.#count("reloaded");
  }

  /** Time has passed. */
  look(): void {
    for (const judged of this.#judged.values()) {
      const { program: { name }, current, reload, servers } = judged;
      if (!current) continue;
      if (reload?.isOver && reload.old.judge.finished) judged.reload = null;
      const isReady = current.readySince !== null;
      if (current.judge.finished === null) {
        assert(this.#fleet.supervisor(name).ready === isReady, `${name} is ready: ${!isReady}`);
      }
      const { spare } = current.driver.server;
      this.#lookForSpare(judged, spare);
      const { standby } = current.judge.settings;
      assert(!spare || reload || standby === 1, `${name} has a spare that nobody wants`);
      const present = servers.filter(({ judge }) => judge.finished === null);
      assert(present.length <= 2, `${name} has ${present.length} servers`);
    }
  }

  /** A spare that is due starts soon, unless it must wait for other programs. */
  #lookForSpare(judged: Judged, spare: SpareStatus | null): void {
    const { program: { name, after }, current } = judged;
    const isDue = spare?.state === "starting" && spare.pid === null && this.#isAlone;
    const mayWait = after.length > 0 || this.#fleet.isStopping;
    if (!isDue || mayWait || current!.judge.spare) judged.spareDueSince = null;
    else {
      const since = judged.spareDueSince ??= this.#world.now;
      const limit = 100 + 2 * this.#world.stalledMs;
      assert(this.#world.now - since <= limit, `${name}: a spare is due, and is not started`);
    }
  }

  /** All programs have ended. */
  end(): void {
    for (const { program: { name }, servers, reload } of this.#judged.values()) {
      assert(reload === null || reload.isOver, `${name}: a reload without an end`);
      for (const { judge } of servers) assert(judge.finished, `${name} has a server that is left`);
    }
  }
}
