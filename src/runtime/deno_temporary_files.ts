/** The places for temporary files on Deno. Loaded by a server alone. */
import {
  allowed,
  demand,
  grantedAll,
  grantedMostly,
  temporaryDirectory,
} from "./deno_permissions.ts";
import type { TemporaryFiles } from "./runtime.ts";

interface DenoLike {
  readonly pid: number;
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

/** Deno lets only an unrestricted program into /dev; for others an ordinary file serves. */
const inMemoryParent = "/dev/shm";

/** The places for temporary files. */
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
    const what = `make a directory for the socket in ${dir}`;
    demand(what, [["read", dir, dir], ["write", dir, dir]]);
    const cure = "; set TMPDIR to one you may write to";
    const make = () => Promise.resolve(Deno.makeTempDirSync({ prefix, dir }));
    return await allowed(make, what, cure);
  },
  list(directory) {
    if (!grantedMostly("read", directory)) return undefined;
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
