/**
 * Information about processes from /proc on Linux. Nothing is known on other systems, and on Deno without `-A`, which
 * may not read /proc.
 */
import type { ProcessState } from "../core/server/types.ts";
import { type Signal, signalNumber } from "../core/signals.ts";
import type { SystemFiles } from "./runtime.ts";

/** The unit of CPU time in /proc, in ticks per second (`USER_HZ`). It is 100 on every Linux. */
const ticksPerSecond = 100;

/** The limit of threads to read, because more would take too long. */
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

/**
 * The fields of /proc/PID/stat from the state on. The fields before it are skipped, because the name may contain
 * anything.
 */
function statOf(runtime: SystemFiles, pid: number): readonly string[] | undefined {
  return fieldsOf(runtime.systemText(`/proc/${pid}/stat`));
}

function fieldsOf(stat: string | undefined): readonly string[] | undefined {
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
}

/** Returns the state of a process; undefined if unknown. */
export function processState(runtime: SystemFiles, pid: number): ProcessState | undefined {
  const stat = statOf(runtime, pid);
  if (!stat) return undefined;
  return {
    state: states[stat[0]!] ?? "unknown",
    waitsIn: waitingIn(runtime, pid),
    cpuMs: (Number(stat[11]) + Number(stat[12])) * 1000 / ticksPerSecond,
    memoryBytes: residentBytes(runtime, pid) ?? 0,
    threads: Number(stat[17]),
  };
}

/**
 * A thread's state and its consumption so far. Waiting for a CPU counts as "running", waiting for a disk as "blocked".
 */
export interface Thread {
  readonly state: ProcessState["state"];
  /** CPU time, in milliseconds. */
  readonly ranMs: number;
  /** Time spent waiting for a CPU, in milliseconds. A wait counts once the thread has got the CPU. */
  readonly waitedMs: number;
  /** Number of major page faults: pages that had to be read from disk. */
  readonly faults: number;
}

/** Returns a thread of a process, by default the main thread; undefined if unknown. */
export function threadOf(
  runtime: SystemFiles,
  pid: number,
  thread: number = pid,
): Thread | undefined {
  const directory = `/proc/${pid}/task/${thread}`;
  const stat = fieldsOf(runtime.systemText(`${directory}/stat`));
  const times = runtime.systemText(`${directory}/schedstat`)?.split(" ") ?? [];
  const [ranNs, waitedNs] = times.map(Number);
  // A kernel that does not collect scheduler statistics reports 0.
  return stat && ranNs
    ? {
      state: states[stat[0]!] ?? "unknown",
      ranMs: ranNs / 1e6,
      waitedMs: waitedNs! / 1e6,
      faults: Number(stat[9]),
    }
    : undefined;
}

/** True if the main thread of a process waits for another thread; false if unknown. */
export function waitsForThread(runtime: SystemFiles, pid: number): boolean {
  return waitingIn(runtime, pid)?.startsWith("futex") ?? false;
}

/** The kernel function in which the main thread of a process waits; null if it does not wait, or if unknown. */
function waitingIn(runtime: SystemFiles, pid: number): string | null {
  const name = runtime.systemText(`/proc/${pid}/wchan`) ?? "";
  return name === "" || name === "0" ? null : name;
}

/** The threads of a process except the main thread, by thread id; at most `maxThreads`. */
export function otherThreadsOf(runtime: SystemFiles, pid: number): ReadonlyMap<number, Thread> {
  const threads = new Map<number, Thread>();
  for (const name of runtime.systemNames(`/proc/${pid}/task`).slice(0, maxThreads)) {
    const thread = Number(name) === pid ? undefined : threadOf(runtime, pid, Number(name));
    if (thread) threads.set(Number(name), thread);
  }
  return threads;
}

/** True if process `pid` descends from `ancestor`; false if unknown. */
export function descends(runtime: SystemFiles, pid: number, ancestor: number): boolean {
  for (let at = pid, steps = 0; at > 1 && steps < 64; steps++) {
    if (at === ancestor) return true;
    at = Number(statOf(runtime, at)?.[1] ?? 0);
  }
  return false;
}

/**
 * The start time of a process, as the kernel's text; undefined if the process has ended. Together with the process id,
 * it identifies a process even after the id is reused.
 */
export function startTimeOf(runtime: SystemFiles, pid: number): string | undefined {
  const stat = statOf(runtime, pid);
  return stat && states[stat[0]!] !== "ended" ? stat[19] : undefined;
}

/** The child processes of all threads of a process; undefined if unknown. */
export function childrenOf(runtime: SystemFiles, pid: number): readonly number[] | undefined {
  const tasks = `/proc/${pid}/task`;
  const known = runtime.systemNames(tasks).flatMap((thread) =>
    runtime.systemText(`${tasks}/${thread}/children`) ?? []
  );
  if (known.length === 0) return undefined;
  return known.flatMap((children) => children.split(" ").map(Number).filter((child) => child > 0));
}

/** The longest command line that is shown, in characters. */
const maxCommandLine = 200;

/** The command line of a process, with the name of the executable without its directory; undefined if unknown. */
export function commandLineOf(runtime: SystemFiles, pid: number): string | undefined {
  const [file, ...words] =
    runtime.systemText(`/proc/${pid}/cmdline`)?.replace(/\0$/, "").split("\0") ??
      [];
  if (!file) return undefined;
  const line = [file.slice(file.lastIndexOf("/") + 1), ...words].join(" ");
  return line.length > maxCommandLine ? `${line.slice(0, maxCommandLine)} …` : line;
}

/** A process and all processes below it. */
function treeOf(runtime: SystemFiles, pid: number): readonly number[] {
  const tree = [pid];
  for (const each of tree) tree.push(...childrenOf(runtime, each) ?? []);
  return tree;
}

/**
 * Resident memory of a process and of all processes below it, in bytes; undefined if unknown. A page that several processes share
 * counts once for each.
 */
export function treeMemory(runtime: SystemFiles, pid: number): number | undefined {
  const sizes = treeOf(runtime, pid).flatMap((each) => residentBytes(runtime, each) ?? []);
  return sizes.length === 0 ? undefined : sizes.reduce((sum, size) => sum + size, 0);
}

/** Resident memory of a process in bytes; undefined if unknown, or if the process has ended. */
function residentBytes(runtime: SystemFiles, pid: number): number | undefined {
  const status = runtime.systemText(`/proc/${pid}/status`) ?? "";
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB$/m.exec(status) ?? [];
  return kilobytes === undefined ? undefined : Number(kilobytes) * 1024;
}

/** The number of times that the main thread of a process got a CPU, as the kernel's text; undefined if unknown. */
export function timeslicesOf(runtime: SystemFiles, pid: number): string | undefined {
  return runtime.systemText(`/proc/${pid}/task/${pid}/schedstat`)?.split(" ")[2];
}

/** The processes that were started with `variable` (`NAME=VALUE`) in their environment. */
export function processesWithVariable(runtime: SystemFiles, variable: string): readonly number[] {
  return runtime.systemNames("/proc").map(Number).filter((pid) =>
    pid > 0 && runtime.systemText(`/proc/${pid}/environ`)?.split("\0").includes(variable)
  );
}

/** The child processes that have ended but have not been reaped; undefined if unknown. */
export function zombiesOf(runtime: SystemFiles, pid: number): readonly number[] | undefined {
  return childrenOf(runtime, pid)?.filter((child) => statOf(runtime, child)?.[0] === "Z");
}

/**
 * A child process that runs the same executable as its parent, and is no watched worker of node:cluster; undefined if there is none,
 * or if unknown.
 */
export function childWithSameExecutable(runtime: SystemFiles, pid: number): number | undefined {
  const executable = runtime.systemLink(`/proc/${pid}/exe`);
  return childrenOf(runtime, pid)?.find((child) =>
    executable !== undefined && runtime.systemLink(`/proc/${child}/exe`) === executable &&
    !/(^|\0)SAM_MEMBER=/.test(runtime.systemText(`/proc/${child}/environ`) ?? "")
  );
}

/** True if a process has a handler for a signal, so that the signal does not end it; false if unknown. */
export function handles(runtime: SystemFiles, pid: number, signal: Signal): boolean {
  return isInMask(runtime, pid, "SigCgt", signal);
}

/** True if a process ignores a signal, for example SIGHUP under nohup; false if unknown. */
export function ignores(runtime: SystemFiles, pid: number, signal: Signal): boolean {
  return isInMask(runtime, pid, "SigIgn", signal);
}

/** True if a signal is pending for a process; false if unknown. */
export function isSignalPending(runtime: SystemFiles, pid: number, signal: Signal): boolean {
  return isInMask(runtime, pid, "ShdPnd", signal);
}

function isInMask(runtime: SystemFiles, pid: number, name: string, signal: Signal): boolean {
  const status = runtime.systemText(`/proc/${pid}/status`) ?? "";
  const mask = new RegExp(`^${name}:\\s+([0-9a-f]+)$`, "m").exec(status)?.[1];
  return mask !== undefined &&
    (BigInt(`0x${mask}`) >> BigInt(signalNumber(signal) - 1) & 1n) === 1n;
}

/** The targets of a process's file descriptors, such as `socket:[1234]`; an empty list if unknown. */
export function descriptorsOf(runtime: SystemFiles, pid: number): readonly string[] {
  const directory = `/proc/${pid}/fd`;
  return runtime.systemNames(directory).flatMap((name) =>
    runtime.systemLink(`${directory}/${name}`) ?? []
  );
}

/** The TCP ports on which a process listens at 127.0.0.1; undefined if unknown. */
export function loopbackPorts(runtime: SystemFiles, pid: number): ReadonlySet<number> | undefined {
  const table = runtime.systemText(`/proc/${pid}/net/tcp`);
  if (table === undefined) return undefined;
  const own = new Set(descriptorsOf(runtime, pid));
  const isOwn = ({ host, target }: TcpListener) => own.has(target) && host === loopbackHosts[0];
  return new Set(tcpListeners(table).filter(isOwn).map(({ port }) => port));
}

/** A listening socket. */
export interface ListeningSocket {
  /** The socket as the target of a file descriptor: `socket:[1234]`. */
  readonly target: string;
  /** The TCP port. Left out for a Unix socket. */
  readonly port?: number;
  /** The path of a Unix socket; empty if it has no name. */
  readonly path?: string;
  /** True if the socket has a TCP port that the kernel has probably chosen, for connections from this machine only. */
  readonly isChosenByKernel: boolean;
}

/** The listening sockets of a process and of all processes below it; undefined if unknown. */
export function listeningSockets(
  runtime: SystemFiles,
  pid: number,
): readonly ListeningSocket[] | undefined {
  const tables = ["tcp", "tcp6", "unix"].map((name) =>
    runtime.systemText(`/proc/${pid}/net/${name}`)
  );
  const [tcp, tcp6 = "", unix] = tables;
  const descriptors = treeOf(runtime, pid).map((each) => descriptorsOf(runtime, each));
  const isUnknown = tcp === undefined || unix === undefined ||
    descriptors.some(({ length }) => length === 0);
  if (isUnknown) return undefined;
  const range = runtime.systemText("/proc/sys/net/ipv4/ip_local_port_range") ?? "";
  const [least, most] = range.split(/\s+/).map(Number);
  const own = new Set(descriptors.flat());
  return [
    ...tcpListeners(tcp + tcp6).map(({ host, port, target }) => ({
      target,
      port,
      isChosenByKernel: loopbackHosts.includes(host) && port >= least! && port <= most!,
    })),
    ...unix.split("\n").flatMap((line) => {
      // The flags of a listening socket, then type, state, inode and path.
      const [, inode, path] = /^\S+ \S+ \S+ 00010000 \S+ \S+ +(\d+) ?(.*)$/.exec(line) ?? [];
      return inode === undefined
        ? []
        : [{ target: `socket:[${inode}]`, path: path!, isChosenByKernel: false }];
    }),
  ].filter(({ target }) => own.has(target));
}

/** 127.0.0.1 and ::1 in the tables of the kernel. */
const loopbackHosts: readonly string[] = ["0100007F", "00000000000000000000000001000000"];

interface TcpListener {
  readonly host: string;
  readonly port: number;
  readonly target: string;
}

/** The listening sockets in a text of /proc/PID/net/tcp or tcp6. */
function tcpListeners(table: string): readonly TcpListener[] {
  return table.split("\n").flatMap((line) => {
    const [, host, port, inode] =
      /^\s*\d+: ([0-9A-F]+):([0-9A-F]{4}) \S+ 0A (?:\S+\s+){5}(\d+) /.exec(line) ?? [];
    return inode === undefined
      ? []
      : [{ host: host!, port: parseInt(port!, 16), target: `socket:[${inode}]` }];
  });
}
