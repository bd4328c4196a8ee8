/**
 * Private directories: their names and contents. The name tells which process made the directory, and in which process
 * namespace, so that what a killed server has left is recognized. Where /proc may not be read, a random word stands for the
 * namespace.
 *
 * Others put files into TMPDIR and /dev/shm too, so a directory counts as ours only if its whole name, its type, owner and mode,
 * and all that is in it are what we make.
 */

import type { Runtime } from "./runtime.ts";

/** The name of the socket in a private directory. */
export const socketName = "s";
/** The name of the page in a private directory. */
export const pageName = "p";

/** What lstat(2) says about a file. */
export interface FileStatus {
  /** Type and permissions. */
  readonly mode: number;
  readonly uid: number;
  /** When it was last changed, in milliseconds since 1970. */
  readonly mtimeMs: number;
}

/** What a runtime can find out about processes and files. */
export interface Surroundings {
  readonly pid: number;
  /** The inode of our process namespace; undefined where /proc may not be read, or shows another one. */
  readonly namespace: number | undefined;
  /** The names in a directory; undefined where it cannot be read. */
  list(directory: string): readonly string[] | undefined;
  /** Looks at a file, or at a link itself; undefined where there is none, or where it may not be looked at. */
  lstat(path: string): FileStatus | undefined;
  /** True if there is no process with this id; false where that is not known. */
  hasEnded(pid: number): boolean;
}

/** A directory changed less than this long ago is young: its owner may be about to listen there. */
const youngMs = 60_000;

/** The end of the name is what `mkdtemp` of Node and Bun chooses, or `makeTempDir` of Deno: a number of 64 bits. */
const namePattern =
  /^sam-(x?[01][0-9a-z]{6})-([1-9a-z][0-9a-z]{0,4})-([0-9A-Za-z]{6}|[0-9a-f]{8,16})$/;

/** The bits of a mode that say the type of a file. */
const typeBits = 0o170000;
/** A directory, and what its owner, group and others may do. */
const directoryMode = 0o040700;
/** The types of the files that we make. */
const fileTypes: Readonly<Record<string, number>> = {
  [socketName]: 0o140000,
  [pageName]: 0o100000,
};

let prefix: string | undefined;

/** What the names of our own directories begin with. */
export function privatePrefix({ pid, namespace }: Surroundings): string {
  const random = () => `x${word(crypto.getRandomValues(new Uint32Array(1))[0]!)}`;
  return prefix ??= `sam-${namespace === undefined ? random() : word(namespace)}-${
    pid.toString(36)
  }-`;
}

/** 32 bits of a number, in seven characters. */
function word(number: number): string {
  return (number >>> 0).toString(36).padStart(7, "0");
}

/** True if the last part of a path is the name of a private directory. */
export function isPrivateName(path: string): boolean {
  return namePattern.test(path.slice(path.lastIndexOf("/") + 1));
}

/**
 * The directories in `parents` that were left behind, or may have been; their owner is that of `own`, a private directory of this
 * process.
 */
export function strayDirectories(
  parents: readonly string[],
  own: string,
  surroundings: Surroundings,
): ReturnType<Runtime["strayDirectories"]> {
  const uid = surroundings.lstat(own)?.uid;
  return parents.flatMap((parent) =>
    (surroundings.list(parent) ?? []).flatMap((name) => {
      const path = `${parent}/${name}`;
      const [, where, pid] = namePattern.exec(name) ?? [];
      if (where === undefined || path === own) return [];
      const directory = surroundings.lstat(path);
      const files = directory && filesIn(path, directory, surroundings);
      if (!files || directory.uid !== uid) return [];
      const { namespace } = surroundings;
      if (
        namespace !== undefined && where === word(namespace) &&
        surroundings.hasEnded(parseInt(pid!, 36))
      ) return [{ path, abandoned: true }];
      const isOld = Date.now() - directory.mtimeMs > youngMs;
      return isOld ? [{ path, abandoned: !files.includes(socketName) }] : [];
    })
  );
}

/** The files in a private directory; undefined if it is none, or if something else is in it. */
function filesIn(
  path: string,
  directory: FileStatus,
  { list, lstat }: Surroundings,
): readonly string[] | undefined {
  if ((directory.mode & (typeBits | 0o777)) !== directoryMode) return undefined;
  const files = list(path);
  const areOurs = files?.every((name) => {
    const file = lstat(`${path}/${name}`);
    return file !== undefined && (file.mode & typeBits) === fileTypes[name];
  });
  return areOurs ? files : undefined;
}
