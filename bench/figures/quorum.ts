// The time from the loss of quorum of a Corosync node until the warning of a program that needs quorum.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { aloneIn } from "../../test/support/corosync_conf.ts";
import { commandLine, programFor, root, Running, runtimes } from "../support/host.ts";
import { figure, peer } from "../support/names.ts";
import type { Measurement, Row, Settings } from "../support/rows.ts";
import { figuresOf } from "../support/statistics.ts";

const peerProgram = `${root}.build/bench/quorum`;

export function missing(): string | undefined {
  if (process.getuid?.() !== 0) return "it starts a Corosync daemon, which needs root";
  const gcc = spawnSync("gcc", [
    ...["-O2", "-Wall", "-o", peerProgram, `${root}bench/peers/quorum.c`],
    ...["-lcmap", "-lquorum", "-lsam"],
  ]);
  const there = ["corosync", "ip"].every((tool) => spawnSync(tool, ["-V"]).error === undefined);
  if (gcc.status === 0 && there) return undefined;
  return "Corosync is missing. On Debian: apt-get install corosync libcmap-dev libquorum-dev iproute2";
}

export function measurements({ depth }: Settings): Measurement[] {
  const count = depth === "full" ? 30 : 10;
  return [{ name: "quorum lost → warning", rows: () => withNode((node) => rowsOf(node, count)) }];
}

/** Starts a command in the namespaces of the Corosync node. */
type Enter = (file: string, words: readonly string[]) => Running;

async function rowsOf(enter: Enter, count: number): Promise<Row[]> {
  const votes = enter(peerProgram, ["votes"]);
  await votes.line("ready");
  const libsam = await warnings(votes, enter(peerProgram, ["libsam"]), count);
  const rows: Row[] = [];
  for (const runtime of runtimes) {
    const program = programFor(runtime, "app", {
      mib: 0,
      options: { timeInterval: 0, recoveryPolicy: "restart" },
    });
    const [file, words] = commandLine(runtime, "quorum");
    const server = enter(file, [...words, JSON.stringify({ program })]);
    const { warned, notified } = await warnings(votes, server, count);
    rows.push({
      figure: figure.quorum,
      case: "one node, expected votes raised",
      runtime,
      unit: "ms",
      sam: figuresOf(warned),
      peer: { name: peer.libsam, figures: figuresOf(libsam.warned) },
      others: [{ name: peer.corosync, figures: figuresOf(notified) }],
    });
  }
  await votes.stop("SIGKILL");
  return rows;
}

/** Milliseconds from each loss of quorum until the warning of a program, and until the callback of a C program. */
async function warnings(
  votes: Running,
  program: Running,
  count: number,
): Promise<{ warned: number[]; notified: number[] }> {
  const before = votes.lines.filter(({ event }) => event === "set").length;
  const warned: number[] = [];
  const notified: number[] = [];
  try {
    for (let nth = 1; nth <= count; nth++) {
      await program.line("running", nth);
      await sleep(20 + 20 * Math.random()); // the new instance has finished its start
      votes.write("2");
      const lost = await votes.line("set", before + 2 * nth - 1);
      warned.push((await program.line("warned", nth))["at"] - lost["at"]);
      notified.push(lost["notified"] - lost["at"]);
      votes.write("1");
      await votes.line("set", before + 2 * nth);
    }
  } finally {
    await program.stop("SIGKILL");
  }
  return { warned, notified };
}

/** Runs a Corosync node during `use`. The node has its own network, /run and shared memory. */
async function withNode<T>(use: (enter: Enter) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "bench-"));
  writeFileSync(`${directory}/watchdog`, "");
  writeFileSync(`${directory}/corosync.conf`, aloneIn(directory));
  const script =
    `ip link set lo up; mount -t tmpfs none /run; mkdir /run/lock; mount -t tmpfs none /dev/shm
     exec corosync -f -c ${directory}/corosync.conf`;
  const daemon = spawn("setpriv", [
    ...["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--propagation=private"],
    ...["sh", "-ec", script],
  ], { stdio: "ignore" });
  const ended = new Promise((resolve) => daemon.on("close", resolve));
  const log = () => {
    try {
      return readFileSync(`${directory}/log`, "utf8");
    } catch {
      return "";
    }
  };
  try {
    const deadline = performance.now() + 20_000;
    while (!log().includes("within the primary component")) {
      const isOver = daemon.exitCode !== null || performance.now() > deadline;
      if (isOver) throw new Error(`Corosync did not become quorate: ${log()}`);
      await sleep(20);
    }
    const into = ["--target", String(daemon.pid), "--net", "--mount", "--"];
    return await use((file, words) => new Running("nsenter", [...into, file, ...words]));
  } finally {
    daemon.kill("SIGKILL");
    await ended;
    rmSync(directory, { recursive: true, force: true });
  }
}
