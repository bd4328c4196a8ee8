// Measures what the clients of a web server see while its service crashes, hangs, restarts or gets a new release.
import { rmSync } from "node:fs";
import { get } from "node:http";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { addressOf, type ClientKind, type Counts, failed } from "./clients.ts";
import { Running, start } from "./host.ts";
import {
  acceptedBy,
  newDirectory,
  releases,
  type Service,
  type Starter,
  type Web,
  webCommand,
  writeRelease,
} from "./services.ts";

/** The clients that keep their connections. */
const keepAliveClients = 16;

/** An event in the life of a service. */
export interface Scenario {
  readonly name: string;
  /** The flags of `sam run`. */
  readonly flags: readonly string[];
  /** True if an instance fails. A request that it has not read is then lost by the failure, and not by a race. */
  readonly isFailure?: boolean;
  /** The instances that must be the same afterwards, or other ones; undefined if either is right. */
  readonly expects?: "same" | "other";
  /** Causes the event and waits for its end. Resolves to the addresses of the clients of the failed instance. */
  act(stage: Stage): Promise<readonly string[]>;
}

/** A service under load. */
export interface Stage {
  readonly web: Web;
  readonly service: Service;
  /** The time for which a scenario repeats its event, in milliseconds. It takes place at least once. */
  readonly ms: number;
}

/** The amount of load. */
export interface Load {
  /** The time between two new connections, in milliseconds. */
  readonly everyMs: number;
  /** The least number of requests on new connections. */
  readonly least: number;
}

/** The results of the clients of one kind. */
export interface Seen extends Counts {
  readonly failed: number;
  /** The connections of the failed instance at the moment of the event. */
  readonly accepted: number;
}

/** The results of all clients. */
export type Outcome = Readonly<Record<ClientKind, Seen>>;

/** Runs a service under load through a scenario. */
export async function outcomeOf(
  web: Omit<Web, "port" | "directory">,
  starter: Starter,
  instances: number,
  scenario: Scenario,
  { everyMs, least }: Load,
): Promise<Outcome> {
  return await during(web, starter, async (whole, service) => {
    const before = await pidsOf(whole.port, instances);
    const clients = start("node26", "clients", { port: whole.port, everyMs, keepAliveClients });
    try {
      await clients.line("began");
      await sleep(warmUpMs);
      const accepted = await scenario.act({ web: whole, service, ms: least * everyMs });
      clients.write(String(least));
      const result = await clients.line("result");
      const seen = (kind: ClientKind): Seen => {
        const counts = result[kind] as Counts;
        const own = accepted.filter((address) => address === addressOf[kind]);
        const lost = scenario.isFailure ? counts.races : 0;
        return {
          ...counts,
          failed: failed(counts) + lost,
          races: counts.races - lost,
          accepted: own.length,
        };
      };
      await checkInstances(whole.port, instances, before, scenario);
      return { new: seen("new"), kept: seen("kept") };
    } finally {
      await clients.stop();
    }
  });
}

/** Milliseconds from the start of the web server alone until its first answer. */
export async function bootMs(web: Omit<Web, "port" | "directory">): Promise<number> {
  let began = 0;
  const alone = (whole: Web): Service => {
    began = performance.now();
    return { running: new Running(...webCommand(whole)) };
  };
  return await during(web, alone, async ({ port }) => {
    await answer(port);
    return performance.now() - began;
  });
}

/** The time of the load before the event, in milliseconds. */
const warmUpMs = 300;
const startLimitMs = 30_000;

async function during<T>(
  web: Omit<Web, "port" | "directory">,
  starter: Starter,
  use: (web: Web, service: Service) => Promise<T>,
): Promise<T> {
  const whole = { ...web, port: await freePort(), directory: newDirectory() };
  const service = starter(whole);
  try {
    return await use(whole, service);
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${service.running.stderr.slice(-1500)}`, {
      cause: error,
    });
  } finally {
    await service.running.stop();
    rmSync(whole.directory, { recursive: true, force: true });
  }
}

/** A port at which no process listens, and which the kernel gives to no outgoing connection. */
async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(10_000 * Math.random());
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false)).listen(port, () => resolve(true));
    });
    await new Promise((resolve) => server.close(resolve));
    if (isFree) return port;
  }
}

/** Asks a web server once. Resolves to the process id in its answer; undefined if there is none. */
function ask(port: number, path = "/"): Promise<number | undefined> {
  return new Promise((resolve) => {
    const options = { port, path, host: "127.0.0.1", agent: false, timeout: 2000 };
    const request = get(options, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => body += text);
      response.on("close", () => resolve(parseInt(body) || undefined));
    });
    request.on("timeout", () => request.destroy());
    request.on("error", () => resolve(undefined));
  });
}

/** Asks a web server until it answers. */
export async function answer(port: number, path = "/"): Promise<number> {
  const deadline = performance.now() + startLimitMs;
  for (;;) {
    const pid = await ask(port, path);
    if (pid !== undefined) return pid;
    if (performance.now() > deadline) throw new Error("the web server does not answer");
    await sleep(1);
  }
}

/** Asks until each instance has answered. */
async function pidsOf(port: number, count: number): Promise<Set<number>> {
  const pids = new Set<number>();
  const deadline = performance.now() + startLimitMs;
  while (pids.size < count) {
    // The kernel prefers the instance that waits: several requests at once reach several instances.
    const some = await Promise.all(Array.from({ length: 4 * count }, () => ask(port)));
    for (const pid of some) if (pid !== undefined) pids.add(pid);
    if (performance.now() > deadline) throw new Error(`${pids.size} of ${count} instances answer`);
  }
  return pids;
}

async function checkInstances(
  port: number,
  instances: number,
  before: ReadonlySet<number>,
  { name, expects }: Scenario,
): Promise<void> {
  if (expects === undefined) return;
  const after = await pidsOf(port, instances);
  const stayed = [...after].filter((pid) => before.has(pid)).length;
  if (expects === "same" && stayed < instances) {
    throw new Error(`${name}: ${instances - stayed} of ${instances} instances were replaced`);
  }
  if (expects === "other" && stayed === instances) {
    throw new Error(`${name}: no instance was replaced`);
  }
}

const crash: Scenario = {
  name: "crash",
  flags: [],
  isFailure: true,
  async act({ web }) {
    const pid = await answer(web.port);
    // A stopped process accepts no connection between the count and its end.
    const accepted = acceptedBy(pid, web.port, () => process.kill(pid, "SIGSTOP"));
    process.kill(pid, "SIGKILL");
    await sleep(1500);
    return accepted;
  },
};

/** The time interval is 500 ms. The rest is for the grace period, the next start, and what follows. */
const hangWaitMs = 2000;

const hang: Scenario = {
  name: "hang",
  flags: ["--time-interval=500ms"],
  isFailure: true,
  async act({ web }) {
    const pid = await answer(web.port, "/hang");
    await sleep(30);
    const accepted = acceptedBy(pid, web.port);
    await sleep(hangWaitMs);
    return accepted;
  },
};

const restart: Scenario = {
  name: "restart",
  flags: [],
  async act({ service }) {
    await service.command!("restart");
    await sleep(1000);
    return [];
  },
};

/** A reload, repeated. The load goes on for `leastMs` milliseconds or more, in which a bad release shows what it does. */
function reload(
  name: string,
  release: string,
  flags: readonly string[],
  expects: "same" | "other",
  leastMs = 0,
): Scenario {
  return {
    name,
    flags,
    expects,
    async act({ web, service, ms }) {
      writeRelease(web.directory, release);
      const began = performance.now();
      do await service.command!("reload"); while (performance.now() < began + ms);
      await sleep(Math.max(500, began + leastMs - performance.now()));
      return [];
    },
  };
}

const memory: Scenario = {
  name: "memory replacement",
  flags: ["--max-memory=250MiB"],
  expects: "other",
  async act({ web, service }) {
    await answer(web.port, "/grow");
    const deadline = performance.now() + 30_000;
    while (!service.hasReplaced!()) {
      if (performance.now() > deadline) throw new Error("no instance was replaced");
      await sleep(100);
    }
    await sleep(500);
    return [];
  },
};

const { good, exits, neverReady, fails } = releases;

/** All scenarios, by their names in rows. */
export const scenarios: Readonly<
  Record<
    "crash" | "hang" | "restart" | "reload" | "exits" | "neverReady" | "fails" | "memory",
    Scenario
  >
> = {
  crash,
  hang,
  restart,
  reload: reload("reload", good, [], "other"),
  exits: reload("broken reload: exits at once", exits, [], "same"),
  neverReady: reload("broken reload: never ready", neverReady, ["--startup-timeout=2s"], "same"),
  fails: reload("broken reload: fails after 2 s", fails, ["--min-ready=3s"], "same", 4000),
  memory,
};
