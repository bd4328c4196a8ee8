// Limits the CPU time or the disk bandwidth of processes, as a container does, by control groups of Linux.
import { existsSync, mkdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from "node:fs";

/** A control group with a limit. */
export interface Limit {
  add(pid: number): void;
  /** Removes the limit from its processes. */
  remove(): void;
}

/** A version of control groups: its directory, and the file that takes each limit. */
interface Version {
  readonly root: string;
  readonly limit: Readonly<Record<string, string>>;
  /** The limits that processes get back when the group is removed. */
  readonly free?: Readonly<Record<string, string>>;
}

let groups = 0;

/**
 * Makes a control group whose processes get `ms` milliseconds of CPU time in every `ofMs`. Returns undefined where that
 * is not possible.
 */
export function limitCpu(ms: number, ofMs: number): Limit | undefined {
  const [quota, period] = [`${ms * 1000}`, `${ofMs * 1000}`];
  return limited([
    {
      root: "/sys/fs/cgroup/cpu",
      limit: { "cpu.cfs_period_us": period, "cpu.cfs_quota_us": quota },
    },
    { root: "/sys/fs/cgroup", limit: { "cpu.max": `${quota} ${period}` } },
  ]);
}

/**
 * Makes a control group whose processes read `bytes` a second from the disk that has `path`. Returns undefined where
 * that is not possible.
 */
export function limitDisk(path: string, bytes: number): Limit | undefined {
  const { dev } = statSync(path);
  const partition = `/sys/dev/block/${dev >> 8 & 0xfff}:${dev & 0xff | dev >> 12 & 0xfff00}`;
  const disk = existsSync(`${partition}/partition`) ? `${partition}/..` : partition;
  if (!existsSync(`${disk}/dev`)) return undefined; // for example in memory
  const device = readFileSync(`${disk}/dev`, "utf8").trim();
  const file = "blkio.throttle.read_bps_device";
  return limited([
    {
      root: "/sys/fs/cgroup/blkio",
      limit: { [file]: `${device} ${bytes}` },
      free: { [file]: `${device} 0` },
    },
    {
      root: "/sys/fs/cgroup",
      limit: { "io.max": `${device} rbps=${bytes}` },
      free: { "io.max": `${device} rbps=max` },
    },
  ]);
}

function limited(versions: readonly Version[]): Limit | undefined {
  for (const { root, limit, free = {} } of versions) {
    const group = `${root}/sam-test-${process.pid}-${++groups}`;
    // The kernel makes the files of a group. A missing file means that there is no such limit, so it is never created
    // here.
    const write = (files: Readonly<Record<string, string>>) => {
      for (const [file, text] of Object.entries(files)) {
        writeFileSync(`${group}/${file}`, text, { flag: "r+" });
      }
    };
    try {
      mkdirSync(group);
    } catch {
      continue; // missing, or not writable for this user
    }
    try {
      write(limit);
    } catch {
      rmdirSync(group); // no such limit here, or not one that this user may set
      continue;
    }
    return {
      add: (pid) => write({ "cgroup.procs": `${pid}` }),
      remove() {
        write(free);
        for (const pid of readFileSync(`${group}/cgroup.procs`, "utf8").match(/\d+/g) ?? []) {
          try {
            writeFileSync(`${root}/cgroup.procs`, pid);
          } catch (error) {
            if ((error as { code?: string }).code !== "ESRCH") throw error; // the process has ended
          }
        }
        rmdirSync(group);
      },
    };
  }
  return undefined;
}
