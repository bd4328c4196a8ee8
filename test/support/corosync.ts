// Runs one Corosync node for a test, in the namespace that lab.mjs makes for each leg, and reads it with Corosync's own
// tools.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { corosyncQuorum } from "../../src/corosync/mod.ts";
import { aloneIn } from "./corosync_conf.ts";
import type { TestOptions } from "./harness.ts";
import { eventually, killQuietly, processTest, type Stage } from "./processes.ts";

/** A Corosync node. */
export class Corosync {
  readonly #directory = mkdtempSync(join(tmpdir(), "corosync-"));
  #process: ChildProcess | null = null;
  #ended: Promise<unknown> = Promise.resolve();

  constructor() {
    writeFileSync(`${this.#directory}/watchdog`, "");
    writeFileSync(`${this.#directory}/corosync.conf`, aloneIn(this.#directory));
  }

  /** Starts the daemon, and resolves when the node is quorate. */
  async start(): Promise<void> {
    const before = this.log().length;
    this.begin();
    await eventually("a quorate node", () => {
      if (this.#process?.exitCode !== null) throw new Error(`corosync has ended: ${this.log()}`);
      return this.log().slice(before).includes("within the primary component");
    });
  }

  /** Starts the daemon without waiting. */
  begin(): void {
    mkdirSync("/run/lock", { recursive: true });
    const process = spawn("corosync", ["-f", "-c", `${this.#directory}/corosync.conf`], {
      stdio: "ignore",
    });
    this.#process = process;
    this.#ended = new Promise((resolve) => process.on("exit", resolve));
  }

  #signal(signal: NodeJS.Signals): void {
    process.kill(this.#process!.pid!, signal); // Deno's own kill() works once
  }

  /** Kills the daemon if it runs. */
  async kill(): Promise<void> {
    if (!this.#process) return;
    killQuietly(this.#process.pid!);
    await this.#ended;
    this.#process = null;
  }

  freeze(): void {
    this.#signal("SIGSTOP");
  }

  thaw(): void {
    this.#signal("SIGCONT");
  }

  /** Makes the node quorate or not, by the number of expected votes. */
  async setQuorate(quorate: boolean): Promise<void> {
    await this.set("quorum.expected_votes", "u32", quorate ? "1" : "2");
  }

  /** Sets a key of the cluster map. */
  async set(key: string, type: string, value: string): Promise<void> {
    await tool("corosync-cmapctl", "-s", key, type, value);
  }

  /** The daemon's log. */
  log(): string {
    try {
      return readFileSync(`${this.#directory}/log`, "utf8");
    } catch {
      return "";
    }
  }

  /** A key of the cluster map as `corosync-cmapctl` shows it; undefined if it is missing. */
  async read(key: string): Promise<string | bigint | undefined> {
    const text = await tool("corosync-cmapctl", "-g", key);
    const [, type, value] = /^\S+ \((\w+)\) = (.*)$/m.exec(text) ?? [];
    return value === undefined || type === "str" ? value : BigInt(value);
  }

  /** The keys of processes in the cluster map, by process id and name. */
  async processes(): Promise<Record<string, Record<string, string | bigint>>> {
    const found: Record<string, Record<string, string | bigint>> = {};
    const text = await tool("corosync-cmapctl");
    for (
      const [, pid, name, type, value] of text.matchAll(
        /^resources\.process\.(\d+)\.(\S+) \((\w+)\) = (.*)$/gm,
      )
    ) {
      const keys = found[pid!] ??= {};
      keys[name!] = type === "str" ? value! : type === "u64" ? BigInt(value!) : `${type} ${value}`;
    }
    return found;
  }

  async end(): Promise<void> {
    await this.kill();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

// The first call into C opens descriptors that stay open, so it is made before the first test counts them.
await (await corosyncQuorum().watch(() => {}))();

/** The output of a command, whatever its exit status. */
export function tool(file: string, ...args: string[]): Promise<string> {
  return new Promise((resolve) => execFile(file, args, (_error, stdout) => resolve(stdout)));
}

/** Registers a test with processes and a node. The node runs unless `isUp` is false. */
export function clusterTest(
  name: string,
  fn: (stage: Stage, node: Corosync) => Promise<void>,
  { isUp = true, ...options }: TestOptions & { readonly isUp?: boolean } = {},
): void {
  processTest(name, async (stage) => {
    const node = new Corosync();
    try {
      if (isUp) await node.start();
      await fn(stage, node);
    } finally {
      await stage.end(); // before the daemon, so that a frozen daemon blocks no program
      await node.end();
    }
  }, options);
}
