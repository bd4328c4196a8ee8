// Three Corosync nodes on this machine, each in a network namespace of its own, joined by a switch that can be cut. All
// of them live in one PID namespace, so that they end with this process, whatever ends it.

import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { eventually } from "./processes.ts";
import { fixtureFor, type RuntimeName, runtimePath, sourceFixture } from "./runtimes.ts";

/** How a node is cut off: its cable leads nowhere, or its port of the switch is down. */
export type Cut = "silent" | "down";

/** The reason why the lab cannot run here, or undefined. */
export function labMissing(): string | undefined {
  if (process.getuid?.() !== 0) return "network namespaces need root";
  for (const [tool, from] of [["corosync", "corosync"], ["ip", "iproute2"]] as const) {
    if (spawnSync(tool, [tool === "ip" ? "-V" : "-v"]).status !== 0) {
      return `${tool} is not installed (Debian: ${from})`;
    }
  }
  const probe = spawnSync("unshare", ["--fork", "--pid", "--mount", "--net", "true"]);
  return probe.status === 0 ? undefined : `no namespaces here: ${probe.stderr}`;
}

const numbers = [1, 2, 3] as const;
export type NodeNumber = typeof numbers[number];

/** Milliseconds after which the token counts as lost. The ring takes about 1.2 times as long to form again. */
const tokenMs = 300;

/** Corosync gets real-time scheduling where that is allowed, so that a busy machine does not break the ring. */
function configuration(): string {
  const nodes = numbers.map((id) =>
    `\tnode {\n\t\tname: n${id}\n\t\tnodeid: ${id}\n\t\tring0_addr: 10.77.0.${id}\n\t}\n`
  );
  return `totem {
	version: 2
	cluster_name: lab
	transport: udpu
	crypto_cipher: none
	crypto_hash: none
	token: ${tokenMs}
	token_coefficient: 0
}
nodelist {
${nodes.join("")}}
quorum {
	provider: corosync_votequorum
}
system {
	state_dir: /run/state
	sched_rr: yes
}
logging {
	to_syslog: no
	to_stderr: yes
	timestamp: hires
}
`;
}

/**
 * The command line that runs a module of this project, named without its extension. On Node it is compiled: see
 * `quickFixture`.
 */
export function runtimeCommand(runtime: RuntimeName, module: string): string[] {
  const flags = runtime === "deno" ? ["run", "-A", "--no-check", "--no-config"] : [];
  const kind = runtime.startsWith("node") ? "node20" : runtime;
  return [runtimePath(runtime), ...flags, fixtureFor(kind, `../../${module}`)];
}

/** A program in a node. */
export interface Inside {
  readonly child: ChildProcess;
  /** Process id outside the lab. */
  readonly pid: number;
  /** The output so far, of both streams. */
  output(): string;
  readonly exited: Promise<number | null>;
}

/** The lab. */
export class Lab {
  readonly numbers: readonly NodeNumber[] = numbers;
  readonly #directory: string;
  readonly #first: ChildProcess;
  readonly #answers: ((line: string) => void)[] = [];
  readonly #exited: Promise<void>;
  #complaints = "";
  /** Process ids, outside the lab, of the processes that hold the namespaces of the nodes. */
  #holders: readonly number[] = [];

  private constructor(directory: string) {
    this.#directory = directory;
    const script = sourceFixture("../support/three_nodes").replace(/ts$/, "sh");
    this.#first = spawn("unshare", [
      ...["--fork", "--pid", "--kill-child", "--mount", "--mount-proc", "--net"],
      ...["sh", script, directory, String(numbers.length)],
    ], { stdio: ["pipe", "pipe", "pipe"] });
    createInterface({ input: this.#first.stdout! })
      .on("line", (line) => this.#answers.shift()?.(line));
    this.#first.stderr!.setEncoding("utf8")
      .on("data", (text: string) => this.#complaints += text);
    this.#exited = new Promise((resolve) => this.#first.on("close", () => resolve()));
  }

  /** Starts three nodes and waits until they are one cluster. Logs are in `directory`. */
  static async start(directory: string): Promise<Lab> {
    mkdirSync(directory, { recursive: true });
    writeFileSync(`${directory}/corosync.conf`, configuration());
    const lab = new Lab(directory);
    try {
      const [inside] = await lab.#answer();
      lab.#holders = lab.#outside(inside!.split(" ").map(Number));
      for (const node of numbers) await lab.boot(node);
      await Promise.all(numbers.map((node) => lab.untilMembers(node, 3)));
    } catch (error) {
      await lab.close();
      throw new Error(`${(error as Error).message}: ${lab.#complaints}${lab.log(1)}`);
    }
    return lab;
  }

  /** Cuts a node off from the two others. */
  part(node: NodeNumber, cut: Cut): Promise<void> {
    return this.#do(`part ${node} ${cut}`);
  }

  heal(node: NodeNumber): Promise<void> {
    return this.#do(`heal ${node}`);
  }

  /** Stops the daemon of a node with SIGSTOP. */
  freeze(node: NodeNumber): Promise<void> {
    return this.#do(`signal STOP ${node}`);
  }

  thaw(node: NodeNumber): Promise<void> {
    return this.#do(`signal CONT ${node}`);
  }

  /** Kills the daemon of a node. */
  crash(node: NodeNumber): Promise<void> {
    return this.#do(`crash ${node}`);
  }

  /** Starts the daemon of a node. */
  boot(node: NodeNumber): Promise<void> {
    return this.#do(`boot ${node}`);
  }

  /** Waits until the daemon of a node sees `count` members, itself included. */
  async untilMembers(node: NodeNumber, count: number): Promise<void> {
    const total = new RegExp(`^Total votes: *${count}$`, "m");
    const command = this.#enter(node, ["corosync-quorumtool", "-s"]); // exit status 2: not quorate
    await eventually(
      `${count} members on node ${node}`,
      () =>
        new Promise<boolean>((resolve) =>
          execFile("nsenter", command, (_error, text) => resolve(total.test(text)))
        ),
    );
  }

  /** The children of a process, with process ids outside the lab. The child of a server is the active process. */
  children(pid: number): readonly number[] {
    return childrenOf(pid).filter((child) => !isGuard(child));
  }

  /** Starts a program in a node. */
  async run(
    node: NodeNumber,
    command: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): Promise<Inside> {
    const child = spawn("nsenter", this.#enter(node, command), {
      // A program that is killed with the lab cannot remove its files, so they are in the lab's directory.
      env: { ...process.env, TMPDIR: this.#directory, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.setEncoding("utf8").on("data", (text: string) => output += text);
    }
    const exited = new Promise<number | null>((resolve) => child.on("close", resolve));
    const pid = await eventually(`${command[0]} in node ${node}`, () => {
      if (child.exitCode !== null) throw new Error(`${command.join(" ")} ended: ${output}`);
      return childrenOf(child.pid!)[0];
    });
    return { child, pid, output: () => output, exited };
  }

  /** The log of a node's daemon. */
  log(node: NodeNumber): string {
    try {
      return readFileSync(`${this.#directory}/daemon${node}.log`, "utf8");
    } catch {
      return "";
    }
  }

  /** Ends everything that runs in the lab. */
  async close(): Promise<void> {
    this.#first.stdin!.end();
    await this.#exited;
  }

  #enter(node: NodeNumber, command: readonly string[]): string[] {
    const holder = String(this.#holders[node - 1]);
    return ["--target", holder, "--mount", "--net", "--pid", "--", ...command];
  }

  async #do(line: string): Promise<void> {
    const answer = this.#answer();
    this.#first.stdin!.write(`${line}\n`);
    const [status] = await answer;
    if (status !== "0") throw new Error(`"${line}" in the lab: ${status}: ${this.#complaints}`);
  }

  /** The next line of the lab's output. */
  async #answer(): Promise<[string]> {
    const ended = this.#exited.then(() => {
      throw new Error(`the lab ended: ${this.#complaints}`);
    });
    return [
      await Promise.race([new Promise<string>((resolve) => this.#answers.push(resolve)), ended]),
    ];
  }

  /** Process ids outside the lab, for process ids inside. */
  #outside(inside: readonly number[]): number[] {
    const [first] = childrenOf(this.#first.pid!);
    const all = childrenOf(first!).map((pid) => {
      const [, ids] = /^NSpid:\s*(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))!;
      return { pid, inner: Number(ids!.split("\t").at(-1)) };
    });
    return inside.map((id) => all.find(({ inner }) => inner === id)!.pid);
  }
}

function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean)
      .map(Number);
  } catch {
    return [];
  }
}

/** True for the guard, the shell beside a server that outlives the supervised program. */
function isGuard(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("sam-guard");
  } catch {
    return false; // the process has ended
  }
}
