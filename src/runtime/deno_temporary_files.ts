/** Access to temporary files on Deno. Only servers load this module. */
import {
  grantedAll,
  grantedWithExceptions,
  requirePermissions,
  temporaryDirectory,
  withSamErrors,
} from "./deno_permissions.ts";
import type { TemporaryFiles } from "./runtime.ts";

interface DenoLike {
  readonly pid: number;
  mkdirSync(path: string, options: { mode: number }): void;
  makeTempDirSync(options: { prefix: string; dir: string }): string;
  readLinkSync(path: string): string;
  readDirSync(path: string): Iterable<{ readonly name: string }>;
  statSync(path: string): { readonly ino: number | null };
  lstatSync(path: string): {
    readonly mode: number | null;
    readonly uid: number | null;
    readonly mtime: Date | null;
  };
}
const Deno = (globalThis as unknown as { Deno: DenoLike }).Deno;

/** Deno requires all permissions for /dev. Other programs use an ordinary directory. */
const inMemoryParent = "/dev/shm";

/** Makes a directory in `dir`. Throws ACCESS if a permission is missing. */
async function makeIn<T>(dir: string, make: () => T): Promise<T> {
  const what = `make a directory for the socket in ${dir}`;
  requirePermissions(what, [["read", dir, dir], ["write", dir, dir]]);
  const remedy = ". Set TMPDIR to a directory that you can write to.";
  return await withSamErrors(() => Promise.resolve(make()), what, remedy);
}

/** Access to temporary files on Deno. */
export const temporaryFiles: TemporaryFiles = {
  pid: Deno.pid,
  get pidNamespace() {
    if (!grantedAll()) return undefined;
    try {
      if (Number(Deno.readLinkSync("/proc/self")) !== Deno.pid) return undefined;
      return Deno.statSync("/proc/self/ns/pid").ino ?? undefined;
    } catch {
      return undefined;
    }
  },
  get parents() {
    return [...(grantedAll() ? [inMemoryParent] : []), temporaryDirectory()];
  },
  async makeDirectory(prefix, inMemory) {
    if (inMemory && grantedAll()) return Deno.makeTempDirSync({ prefix, dir: inMemoryParent });
    const dir = temporaryDirectory();
    return await makeIn(dir, () => Deno.makeTempDirSync({ prefix, dir }));
  },
  async makeExactDirectory(path) {
    const dir = path.slice(0, path.lastIndexOf("/"));
    await makeIn(dir, () => Deno.mkdirSync(path, { mode: 0o700 }));
  },
  list(directory) {
    if (!grantedWithExceptions("read", directory)) return undefined;
    try {
      return Array.from(Deno.readDirSync(directory), ({ name }) => name);
    } catch {
      return undefined;
    }
  },
  status(path) {
    try {
      const { mode, uid, mtime } = Deno.lstatSync(path);
      return { mode: mode ?? 0, uid: uid ?? -1, mtimeMs: mtime?.getTime() ?? Infinity };
    } catch {
      return undefined;
    }
  },
  hasEnded(pid) {
    try {
      Deno.statSync(`/proc/${pid}`);
      return false;
    } catch (error) {
      return (error as Error).name === "NotFound";
    }
  },
};
