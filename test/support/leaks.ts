// Finds what a test leaves behind: children, zombies, programs, socket directories, shared memory, descriptors. It
// reads /proc and looks for names, because no runtime reports all of them.

import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { supervise } from "../../mod.ts";

const limitMs = 10_000;
const tagVariable = "SAM_TEST_TAG";
let tags = 0;

/**
 * Runs `fn`, and fails when something is left behind. Every program that it starts inherits a tag in its environment,
 * by which it is found, and a temporary directory of its own.
 */
export async function withoutLeaks(fn: () => Promise<void>): Promise<void> {
  const around = process.env["TMPDIR"];
  const directory = mkdtempSync(join(tmpdir(), "test-"));
  process.env["TMPDIR"] = directory;
  try {
    await checked(fn, directory);
  } finally {
    if (around === undefined) delete process.env["TMPDIR"];
    else process.env["TMPDIR"] = around;
    rmSync(directory, { recursive: true, force: true });
  }
}

async function checked(fn: () => Promise<void>, directory: string): Promise<void> {
  const tag = `${process.pid}.${++tags}`;
  const before = snapshot(tag);
  process.env[tagVariable] = tag;
  try {
    await fn();
  } finally {
    delete process.env[tagVariable];
  }
  // In shared memory, other processes may make files meanwhile. Only files that exist now can belong to this test.
  const candidates = snapshot(tag).names.filter((name) => !before.names.includes(name));
  for (const end = performance.now() + limitMs;;) {
    const now = snapshot(tag);
    const left = [
      ...now.children.filter((child) => !before.children.includes(child)),
      ...now.tagged,
      ...now.names.filter((name) => candidates.includes(name)),
      ...list(directory).map((name) => `${directory}/${name}`),
      ...surplus(before.descriptors, now.descriptors),
    ];
    if (left.length === 0) return;
    if (performance.now() > end) throw new Error(`left behind: ${left.join(", ")}`);
    await sleep(10);
  }
}

/** The pids of living processes that the present test started. */
export function taggedProcesses(): number[] {
  const tag = process.env[tagVariable];
  return tag === undefined ? [] : processes().filter((pid) => hasTag(pid, tag));
}

interface Snapshot {
  readonly children: readonly string[];
  readonly tagged: readonly string[];
  readonly names: readonly string[];
  readonly descriptors: readonly string[];
}

function snapshot(tag: string): Snapshot {
  return {
    children: processes().filter((pid) => parentOf(pid) === process.pid).map((pid) =>
      `child ${pid} (${commandOf(pid)})`
    ),
    tagged: processes().filter((pid) => hasTag(pid, tag)).map((pid) =>
      `process ${pid} (${commandOf(pid)})`
    ),
    names: list("/dev/shm").filter((name) => name.startsWith("sam-")).map((name) =>
      `/dev/shm/${name}`
    ),
    descriptors: list("/proc/self/fd").flatMap((descriptor) => {
      try {
        return [readlinkSync(`/proc/self/fd/${descriptor}`)];
      } catch {
        return []; // the descriptor that read the directory
      }
    }),
  };
}

/** The kinds of descriptors of which there are more than before. A kind is the target without its number. */
function surplus(before: readonly string[], now: readonly string[]): string[] {
  const kind = (target: string) => target.replace(/\d+/g, "N");
  const kinds = new Set(now.map(kind));
  return [...kinds].flatMap((each) => {
    const count = (targets: readonly string[]) =>
      targets.filter((target) => kind(target) === each).length;
    const more = count(now) - count(before);
    return more > 0 ? [`${more} descriptors more of ${each}`] : [];
  });
}

function processes(): number[] {
  return list("/proc").filter((name) => /^\d+$/.test(name)).map(Number);
}

function parentOf(pid: number): number | undefined {
  const stat = read(`/proc/${pid}/stat`);
  return stat === undefined
    ? undefined
    : Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
}

function commandOf(pid: number): string {
  return read(`/proc/${pid}/cmdline`)?.replaceAll("\0", " ").trim() || "zombie";
}

function hasTag(pid: number, tag: string): boolean {
  return pid !== process.pid &&
    (read(`/proc/${pid}/environ`)?.split("\0").includes(`${tagVariable}=${tag}`) ?? false);
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined; // the process has ended, or belongs to another user
  }
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

// The runtime opens descriptors once for signals, children, sockets and memory. That happens here, before the first
// test counts them.
await new Promise((resolve) => {
  const child = spawn("true", { stdio: ["ignore", "pipe", "pipe"] });
  child.stdout.resume();
  child.stderr.resume();
  child.on("close", resolve);
});
for (const transport of ["unix", "pipe", "shm"] as const) {
  await supervise({ command: "true" }, { recoveryPolicy: "quit", transport }).finished;
}
