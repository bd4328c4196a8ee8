// Processes that get less of the processor than they want, as in a container with a CPU limit: control groups of Linux.
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";

/** A control group with a CPU limit. */
export interface CpuLimit {
  add(pid: number): void;
  /** Its processes are free again. */
  remove(): void;
}

/** Version 1, and version 2. */
const roots = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup"];
let groups = 0;

/** Makes a control group whose processes get `ms` milliseconds of the processor in `ofMs`; undefined where one cannot. */
export function limitCpu(ms: number, ofMs: number): CpuLimit | undefined {
  for (const root of roots) {
    const group = `${root}/sam-test-${process.pid}-${++groups}`;
    const set = (file: string, value: string) => writeFileSync(`${group}/${file}`, value);
    try {
      mkdirSync(group);
    } catch {
      continue; // not there, or not ours
    }
    try {
      if (existsSync(`${group}/cpu.max`)) set("cpu.max", `${ms * 1000} ${ofMs * 1000}`);
      else {
        set("cpu.cfs_period_us", `${ofMs * 1000}`);
        set("cpu.cfs_quota_us", `${ms * 1000}`);
      }
    } catch {
      rmdirSync(group); // it has no such limit, or may not have this one
      continue;
    }
    return {
      add: (pid) => set("cgroup.procs", `${pid}`),
      remove() {
        for (const pid of readFileSync(`${group}/cgroup.procs`, "utf8").match(/\d+/g) ?? []) {
          writeFileSync(`${root}/cgroup.procs`, pid);
        }
        rmdirSync(group);
      },
    };
  }
  return undefined;
}
