// The failed requests and the longest wait of clients, while a service crashes, hangs, restarts or gets a new release.
import type { ClientKind } from "../support/clients.ts";
import { bootMs, type Load, type Outcome, outcomeOf, scenarios } from "../support/continuity.ts";
import type { Scenario, Seen } from "../support/continuity.ts";
import type { BenchRuntime } from "../support/host.ts";
import { continuity, peer } from "../support/names.ts";
import type { Depth, Measurement, Peer, Row, Settings } from "../support/rows.ts";
import {
  cluster,
  hasFlag,
  hasSocketActivate,
  pm2,
  sam,
  type ServerKind,
  shellLoop,
  socketActivated,
  type Starter,
} from "../support/services.ts";
import { figuresOf } from "../support/statistics.ts";

/** A program: the runtime, the interface with which it listens, and whether it ends in an orderly way at a signal. */
interface Program {
  readonly runtime: BenchRuntime;
  readonly server: ServerKind;
  readonly drains: boolean;
}

const { crash, hang, restart, reload, exits, neverReady, fails, memory } = scenarios;

/** A program without a handler for signals. */
const onNode: Program = { runtime: "node26", server: "node:http", drains: false };
const allScenarios = Object.values(scenarios);
/** The programs, and the scenarios in which they are measured. */
const programs: ReadonlyMap<Program, readonly Scenario[]> = new Map([
  [onNode, allScenarios],
  [{ ...onNode, drains: true }, [restart, reload]],
  [{ ...onNode, runtime: "deno" }, allScenarios],
  [{ ...onNode, runtime: "deno", server: "serve" }, allScenarios],
  [{ ...onNode, runtime: "bun", server: "serve" }, allScenarios],
  [{ ...onNode, runtime: "bun" }, [crash, reload]],
  [{ ...onNode, runtime: "bun", server: "node:net" }, [crash, reload]],
]);

const failures: readonly Scenario[] = [crash, hang];
/** The scenarios that must lose no request on a new connection. */
const harmless: readonly Scenario[] = [reload, exits, neverReady, fails, memory];
type Instances = 1 | 2;

/** Something that keeps a program running. */
interface Keeper {
  readonly name: string;
  readonly instances: Instances;
  readonly starter: Starter;
}

function alternatives(scenario: Scenario): readonly Keeper[] {
  const pm2Workers: Keeper = { name: peer.pm2Workers, instances: 2, starter: pm2 };
  const plain: Keeper = { name: peer.withoutListen, instances: 1, starter: sam(scenario.flags) };
  if (scenario === memory) return [];
  if (harmless.includes(scenario)) return [pm2Workers];
  if (!failures.includes(scenario)) return [plain];
  return [
    pm2Workers,
    { name: peer.clusterWorkers, instances: 2, starter: cluster },
    plain,
    ...(hasSocketActivate
      ? [{ name: peer.socketActivated, instances: 1, starter: socketActivated } as const]
      : []),
    { name: peer.shellLoop, instances: 1, starter: shellLoop },
  ];
}

export function measurements({ depth }: Settings): Measurement[] {
  return [...programs].flatMap(([program, scenarios]) =>
    scenarios.filter((scenario) => isWanted(depth, program, scenario))
      .map((scenario) => ({
        name: `continuity, ${caseOf(program, scenario)}, ${program.runtime}`,
        rows: () => rowsOf(program, scenario, depth),
      }))
  );
}

function isWanted(depth: Depth, program: Program, scenario: Scenario): boolean {
  if (scenario === memory && !hasFlag("--max-memory")) return false;
  if (depth === "full") return true;
  return program === onNode && (scenario === crash || scenario === reload);
}

/** Node needs 10,000 requests in each harmless scenario: for the broken reloads, in all three together. */
function loadOf(depth: Depth, program: Program, scenario: Scenario): Load {
  if (depth !== "full" || program !== onNode || !harmless.includes(scenario)) {
    return { everyMs: 10, least: 0 };
  }
  return { everyMs: 2, least: scenario === reload || scenario === memory ? 3400 : 1200 };
}

/** The outcomes of one keeper. */
interface Measured {
  readonly name: string;
  readonly instances: Instances;
  readonly outcomes: readonly Outcome[];
}

async function rowsOf(program: Program, scenario: Scenario, depth: Depth): Promise<Row[]> {
  const isFull = depth === "full";
  const own = ([1, 2] as const).map((instances): Keeper => {
    return { name: "", instances, starter: sam(scenario.flags, instances) };
  });
  const others = isFull && program === onNode ? alternatives(scenario) : [];
  const { expects: _expects, ...unchecked } = scenario;
  const keepers = [...own, ...others].map((keeper) => ({ ...keeper, outcomes: [] as Outcome[] }));
  const boots: number[] = [];
  // In each round, each keeper has a turn, so that a change of the machine affects all of them.
  for (let round = 0; round < (isFull && program.runtime === "node26" ? 3 : 1); round++) {
    boots.push(await bootMs(program));
    for (const { name, instances, starter, outcomes } of keepers) {
      const isOwn = name === "";
      const load = isOwn ? loadOf(depth, program, scenario) : { everyMs: 10, least: 0 };
      const which = isOwn ? scenario : unchecked;
      // The alternatives need a program that handles signals.
      const web = isOwn ? program : { ...program, drains: true };
      outcomes.push(await outcomeOf(web, starter, instances, which, load));
    }
  }
  const boot: Peer = { name: peer.boot, figures: figuresOf(boots) };
  return keepers.slice(0, 2).flatMap((own): Row[] => {
    const beside = keepers.slice(2).filter(({ instances }) => instances === own.instances);
    const instances = own.instances === 1 ? "1 instance" : "2 instances";
    const common = { case: caseOf(program, scenario, instances), runtime: program.runtime };
    return (["new", "kept"] as const).flatMap((kind): Row[] => [
      { ...common, ...failedRow(kind, scenario, own, beside) },
      { ...common, ...waitRow(kind, own, beside, boot) },
    ]);
  });
}

function caseOf(
  { server, drains }: Program,
  { name }: Scenario,
  ...instances: readonly string[]
): string {
  return [
    name,
    ...instances,
    ...(drains ? ["with a signal handler"] : []),
    ...(server === "node:http" ? [] : [server === "serve" ? "serve()" : server]),
  ].join(", ");
}

type Cells = Pick<Row, "figure" | "unit" | "sam" | "others">;

function failedRow(
  kind: ClientKind,
  scenario: Scenario,
  own: Measured,
  beside: readonly Measured[],
): Cells {
  const all = (value: (seen: Seen) => number, { outcomes } = own) =>
    figuresOf(outcomes.map((outcome) => value(outcome[kind])));
  const failed = ({ failed }: Seen) => failed;
  const others: Peer[] = [
    ...beside.map((each) => ({ name: each.name, figures: all(failed, each) })),
    { name: peer.refused, figures: all(({ refused }) => refused) },
  ];
  if (failures.includes(scenario)) {
    const beyond = ({ failed, accepted }: Seen) => Math.max(0, failed - accepted);
    others.push(
      { name: peer.accepted, figures: all(({ accepted }) => accepted) },
      { name: peer.beyond, figures: all(beyond) },
    );
  } else if (kind === "kept") {
    others.push({ name: peer.races, figures: all(({ races }) => races) });
  }
  others.push({ name: peer.requests, figures: all(({ sent }) => sent) });
  return { figure: continuity.failed[kind], unit: "requests", sam: all(failed), others };
}

function waitRow(
  kind: ClientKind,
  own: Measured,
  beside: readonly Measured[],
  boot: Peer,
): Cells {
  const waits = ({ outcomes }: Measured) =>
    figuresOf(outcomes.map((outcome) => outcome[kind].longestMs));
  const others = beside.map((each) => ({ name: each.name, figures: waits(each) }));
  return {
    figure: continuity.wait[kind],
    unit: "ms",
    sam: waits(own),
    others: [...others, boot],
  };
}
