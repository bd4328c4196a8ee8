// From the moment at which a Corosync node is made to lose quorum to the warning of a program that runs only with quorum.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { aloneIn } from "../../test/support/corosync_conf.ts";
import { commandLine, programFor, root, Running, runtimes } from "../support/host.ts";
import { type Measurement, type Row, type Settings, target } from "../support/rows.ts";
import { figuresOf } from "../support/statistics.ts";

const peer = `${root}.build/bench/quorum`;

/** Why this cannot be measured here; undefined where it can. */
export function missing(): string | undefined {
  if (process.getuid?.() !== 0) return "a Corosync of its own needs root";
  const gcc = spawnSync("gcc", [
    ...["-O2", "-Wall", "-o", peer, `${root}bench/peers/quorum.c`],
    ...["-lcmap", "-lquorum", "-lsam"],
  ]);
  const there = ["corosync", "ip"].every((tool) => spawnSync(tool, ["-V"]).error === undefined);
  if (gcc.status === 0 && there) return undefined;
  return "Corosync is missing; on Debian: apt-get install corosync libcmap-dev libquorum-dev iproute2";
}

export function measurements({ depth }: Settings): Measurement[] {
  const count = depth === "full" ? 30 : 10;
  return [{ name: "quorum lost → warning", rows: () => withNode((node) => rowsOf(node, count)) }];
}

/** Starts a command where the node is. */
type Enter = (file: string, words: readonly string[]) => Running;

async function rowsOf(enter: Enter, count: number): Promise<Row[]> {
  const votes = enter(peer, ["votes"]);
  await votes.line("ready");
  const libsam = await warnings(votes, enter(peer, ["libsam"]), count);
  const rows: Row[] = [];
  for (const runtime of runtimes) {
    const program = programFor(runtime, "app", {
      mib: 0,
      options: { timeInterval: 0, recoveryPolicy: "restart" },
    });
    const [file, words] = commandLine(runtime, "quorum");
    const server = enter(file, [...words, JSON.stringify({ program })]);
    const { warned, told } = await warnings(votes, server, count);
    const ours = figuresOf(warned);
    const notice = figuresOf(told);
    rows.push({
      figure: "quorum lost → warning",
      case: "one node, its expected votes raised",
      runtime,
      unit: "ms",
      ours,
      peer: { name: "libsam", figures: figuresOf(libsam.warned) },
      others: [{ name: "a program in C is told", figures: notice }],
      targets: [
        target(
          "quorum lost → warning: p50 ≤ 2 ms from the daemon's notice",
          "p50 later than a program in C is told",
          ours.p50 - notice.p50,
          2,
        ),
      ],
    });
  }
  await votes.stop("SIGKILL");
  return rows;
}

/** Milliseconds from each loss of quorum to the warning of a program, and to the callback of one in C. */
async function warnings(
  votes: Running,
  program: Running,
  count: number,
): Promise<{ warned: number[]; told: number[] }> {
  const before = votes.lines.filter(({ event }) => event === "set").length;
  const warned: number[] = [];
  const told: number[] = [];
  try {
    for (let nth = 1; nth <= count; nth++) {
      await program.line("goes on", nth);
      await sleep(20 + 20 * Math.random()); // whoever has just started has come to rest
      votes.say("2");
      const lost = await votes.line("set", before + 2 * nth - 1);
      warned.push((await program.line("warned", nth))["at"] - lost["at"]);
      told.push(lost["told"] - lost["at"]);
      votes.say("1");
      await votes.line("set", before + 2 * nth);
    }
  } finally {
    await program.stop("SIGKILL");
  }
  return { warned, told };
}

/** Lends a Corosync node that has its network, its /run and its shared memory for itself. */
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
      if (isOver) throw new Error(`no quorate Corosync: ${log()}`);
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
