/** Access to temporary files on Node and Bun. Only servers load this module. */
import type * as Os from "node:os";
import { SamError } from "../errors.ts";
import { attempt, fs, isDenied, process } from "./node_api.ts";
import type { TemporaryFiles } from "./runtime.ts";

const inMemoryParent = "/dev/shm";

function temporaryDirectory(): string {
  return (process.getBuiltinModule("node:os") as typeof Os).tmpdir();
}

function directoryError(directory: string, cause: unknown): SamError {
  return new SamError(
    isDenied(cause) ? "ACCESS" : "LIBRARY",
    `cannot make a directory for the socket in ${directory}: ${
      (cause as Error).message
    }. Set TMPDIR to a directory that you can write to.`,
    { cause },
  );
}

/** Access to temporary files on Node and Bun. */
export const temporaryFiles: TemporaryFiles = {
  pid: process.pid,
  get pidNamespace() {
    return attempt(() => {
      const { readlinkSync, statSync } = fs();
      if (Number(readlinkSync("/proc/self")) !== process.pid) return undefined;
      return statSync("/proc/self/ns/pid").ino;
    });
  },
  get parents() {
    return [inMemoryParent, temporaryDirectory()];
  },
  // deno-lint-ignore require-await
  async makeDirectory(prefix, inMemory) {
    if (inMemory) return fs().mkdtempSync(`${inMemoryParent}/${prefix}`);
    const directory = temporaryDirectory();
    try {
      return fs().mkdtempSync(`${directory}/${prefix}`);
    } catch (cause) {
      throw directoryError(directory, cause);
    }
  },
  // deno-lint-ignore require-await
  async makeExactDirectory(path) {
    try {
      fs().mkdirSync(path, 0o700);
    } catch (cause) {
      throw directoryError(path.slice(0, path.lastIndexOf("/")), cause);
    }
  },
  list: (directory) => attempt(() => fs().readdirSync(directory)),
  status: (path) => attempt(() => fs().lstatSync(path)),
  hasEnded(pid) {
    try {
      process.kill(pid, 0);
      return false;
    } catch (error) {
      return (error as { code?: string }).code === "ESRCH";
    }
  },
};
