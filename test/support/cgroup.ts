// Processes that get less of the processor or the disk than they want, as in a container with limits: control groups of Linux.
import { existsSync, mkdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from "node:fs";

/** A control group with a limit. */
export interface Limit {
  add(pid: number): void;
  /** Its processes are free again. */
  remove(): void;
}

/** Where a version of control groups is, and what is written to which file of a group. */
interface Version {
  readonly root: string;
  readonly limit: Readonly<Record<string, string>>;
  /** For what goes on when the group has gone. */
  readonly free?: Readonly<Record<string, string>>;
}

let groups = 0;

/** Makes a control group whose processes get `ms` milliseconds of the processor in `ofMs`; undefined where one cannot. */
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

/** The same for so many bytes a second from the disk on which `path` is. */
export function limitDisk(path: string, bytes: number): Limit | undefined {
  const { dev } = statSync(path);
  const partition = `/sys/dev/block/${dev >> 8 & 0xfff}:${dev & 0xff | dev >> 12 & 0xfff00}`;
  const disk = existsSync(`${partition}/partition`) ? `${partition}/..` : partition;
  if (!existsSync(`${disk}/dev`)) return undefined; // in memory, say
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
    // The kernel makes the files of a group: one that is not there is no limit, and never made here.
    const write = (files: Readonly<Record<string, string>>) => {
      for (const [file, text] of Object.entries(files)) {
        writeFileSync(`${group}/${file}`, text, { flag: "r+" });
      }
    };
    try {
      mkdirSync(group);
    } catch {
      continue; // not there, or not ours
    }
    try {
      write(limit);
    } catch {
      rmdirSync(group); // it has no such limit, or may not have this one
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
            if ((error as { code?: string }).code !== "ESRCH") throw error; // it has ended
          }
        }
        rmdirSync(group);
      },
    };
  }
  return undefined;
}
