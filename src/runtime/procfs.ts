/** What Linux says about processes in /proc. Nothing is known elsewhere, and where Deno may not read it (without `-A`). */
import type { ProcessState } from "../core/server/types.ts";
import { type Signal, signalNumber } from "../core/signals.ts";
import type { SystemFiles } from "./runtime.ts";

/** The steps per second of the clock by which /proc counts CPU time, on every Linux there is. */
const ticksPerSecond = 100;

/** To look at more threads would take too long. */
const maxThreads = 60;

const states: Readonly<Record<string, ProcessState["state"]>> = {
  R: "running",
  S: "sleeping",
  I: "sleeping",
  D: "blocked",
  T: "stopped",
  t: "stopped",
  Z: "ended",
  X: "ended",
};

/** The fields of /proc/PID/stat after the name, which may contain anything; the state is the first. */
function statOf(runtime: SystemFiles, pid: number): readonly string[] | undefined {
  return fieldsOf(runtime.systemText(`/proc/${pid}/stat`));
}

function fieldsOf(stat: string | undefined): readonly string[] | undefined {
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
}

/** Looks at a process; undefined where nothing is known. */
export function processState(runtime: SystemFiles, pid: number): ProcessState | undefined {
  const stat = statOf(runtime, pid);
  if (!stat) return undefined;
  const resident = /^VmRSS:\s+(\d+) kB$/m.exec(runtime.systemText(`/proc/${pid}/status`) ?? "");
  return {
    state: states[stat[0]!] ?? "unknown",
    waitsIn: waitingIn(runtime, pid),
    cpuMs: (Number(stat[11]) + Number(stat[12])) * 1000 / ticksPerSecond,
    memoryBytes: Number(resident?.[1] ?? 0) * 1024,
    threads: Number(stat[17]),
  };
}

/** A thread: what it does ("running" is also who waits for a processor, "blocked" who waits for a disk), and what it had. */
export interface Thread {
  readonly state: ProcessState["state"];
  readonly ranMs: number;
  /** For a processor, as far as it has run since. */
  readonly waitedMs: number;
  /** How many of its pages it had to wait for, from the disk. */
  readonly faults: number;
}

/** Looks at a thread of a process, by itself the main thread; undefined where nothing is known. */
export function threadOf(
  runtime: SystemFiles,
  pid: number,
  thread: number = pid,
): Thread | undefined {
  const directory = `/proc/${pid}/task/${thread}`;
  const stat = fieldsOf(runtime.systemText(`${directory}/stat`));
  const times = runtime.systemText(`${directory}/schedstat`)?.split(" ") ?? [];
  const [ranNs, waitedNs] = times.map(Number);
  // A kernel that does not count says 0.
  return stat && ranNs
    ? {
      state: states[stat[0]!] ?? "unknown",
      ranMs: ranNs / 1e6,
      waitedMs: waitedNs! / 1e6,
      faults: Number(stat[9]),
    }
    : undefined;
}

/** True if the main thread of a process waits for another thread; false where that is not known. */
export function waitsForThread(runtime: SystemFiles, pid: number): boolean {
  return waitingIn(runtime, pid)?.startsWith("futex") ?? false;
}

/** The kernel function in which the main thread of a process waits; null where it does not, or where that is not told. */
function waitingIn(runtime: SystemFiles, pid: number): string | null {
  const name = runtime.systemText(`/proc/${pid}/wchan`) ?? "";
  return name === "" || name === "0" ? null : name;
}

/** The other threads of a process, of very many some, by their numbers. */
export function otherThreadsOf(runtime: SystemFiles, pid: number): ReadonlyMap<number, Thread> {
  const threads = new Map<number, Thread>();
  for (const name of runtime.systemNames(`/proc/${pid}/task`).slice(0, maxThreads)) {
    const thread = Number(name) === pid ? undefined : threadOf(runtime, pid, Number(name));
    if (thread) threads.set(Number(name), thread);
  }
  return threads;
}

/** True if process `pid` descends from `ancestor`; false where that cannot be known. */
export function descends(runtime: SystemFiles, pid: number, ancestor: number): boolean {
  for (let at = pid, steps = 0; at > 1 && steps < 64; steps++) {
    if (at === ancestor) return true;
    at = Number(statOf(runtime, at)?.[1] ?? 0);
  }
  return false;
}

/** When a process began, in the kernel's words: with its number, that names it for ever. Undefined when it has ended. */
export function startTimeOf(runtime: SystemFiles, pid: number): string | undefined {
  const stat = statOf(runtime, pid);
  return stat && states[stat[0]!] !== "ended" ? stat[19] : undefined;
}

/** The children of all threads of a process; undefined where they are not known. */
export function childrenOf(runtime: SystemFiles, pid: number): readonly number[] | undefined {
  const tasks = `/proc/${pid}/task`;
  const known = runtime.systemNames(tasks).flatMap((thread) =>
    runtime.systemText(`${tasks}/${thread}/children`) ?? []
  );
  if (known.length === 0) return undefined;
  return known.flatMap((children) => children.split(" ").map(Number).filter((child) => child > 0));
}

/** How often the main thread of a process was given a processor; undefined where that is not known. */
export function timeslicesOf(runtime: SystemFiles, pid: number): string | undefined {
  return runtime.systemText(`/proc/${pid}/task/${pid}/schedstat`)?.split(" ")[2];
}

/** The processes that have a variable in the environment they were started with. */
export function processesWithVariable(runtime: SystemFiles, variable: string): readonly number[] {
  return runtime.systemNames("/proc").map(Number).filter((pid) =>
    pid > 0 && runtime.systemText(`/proc/${pid}/environ`)?.split("\0").includes(variable)
  );
}

/** The children of a process that have ended and were not reaped; undefined where that is not known. */
export function zombiesOf(runtime: SystemFiles, pid: number): readonly number[] | undefined {
  return childrenOf(runtime, pid)?.filter((child) => statOf(runtime, child)?.[0] === "Z");
}

/** A child of a process that runs the same executable; undefined for none, and where that is not known. */
export function childWithSameExecutable(runtime: SystemFiles, pid: number): number | undefined {
  const executable = runtime.systemLink(`/proc/${pid}/exe`);
  return childrenOf(runtime, pid)?.find((child) =>
    executable !== undefined && runtime.systemLink(`/proc/${child}/exe`) === executable
  );
}

/** True if a process handles a signal, so that it does not die of it. */
export function handles(runtime: SystemFiles, pid: number, signal: Signal): boolean {
  return isInMask(runtime, pid, "SigCgt", signal);
}

/** True if a process ignores a signal, as one that was started by nohup does with SIGHUP; false where that is not known. */
export function ignores(runtime: SystemFiles, pid: number, signal: Signal): boolean {
  return isInMask(runtime, pid, "SigIgn", signal);
}

/** True if a signal waits for a process to take it. */
export function isSignalPending(runtime: SystemFiles, pid: number, signal: Signal): boolean {
  return isInMask(runtime, pid, "ShdPnd", signal);
}

function isInMask(runtime: SystemFiles, pid: number, name: string, signal: Signal): boolean {
  const status = runtime.systemText(`/proc/${pid}/status`) ?? "";
  const mask = new RegExp(`^${name}:\\s+([0-9a-f]+)$`, "m").exec(status)?.[1];
  return mask !== undefined &&
    (BigInt(`0x${mask}`) >> BigInt(signalNumber(signal) - 1) & 1n) === 1n;
}

/** What the descriptors of a process are; none where that is not known. */
export function descriptorsOf(runtime: SystemFiles, pid: number): readonly string[] {
  const directory = `/proc/${pid}/fd`;
  return runtime.systemNames(directory).flatMap((name) =>
    runtime.systemLink(`${directory}/${name}`) ?? []
  );
}

/** The TCP ports on which a process listens at 127.0.0.1; undefined where that is not known. */
export function loopbackPorts(runtime: SystemFiles, pid: number): ReadonlySet<number> | undefined {
  const table = runtime.systemText(`/proc/${pid}/net/tcp`);
  if (table === undefined) return undefined;
  const own = new Set(descriptorsOf(runtime, pid));
  const ports = new Set<number>();
  for (const line of table.split("\n")) {
    const listening = /^\s*\d+: 0100007F:([0-9A-F]{4}) \S+ 0A (?:\S+\s+){5}(\d+) /.exec(line);
    if (listening && own.has(`socket:[${listening[2]}]`)) ports.add(parseInt(listening[1]!, 16));
  }
  return ports;
}
