/**
 * The directories in which servers put their sockets. The name tells which process made a directory, and in which process
 * namespace, so that what a killed server has left is recognized. Where /proc may not be read, a random word stands for the
 * namespace.
 *
 * Others put files into TMPDIR and /dev/shm too, so a directory counts as ours only if its whole name, its type, owner and mode,
 * and all that is in it are what we make.
 */
import type { Files, FileStatus, TemporaryFiles } from "../src/runtime/runtime.ts";
import { fileName, namePattern, socketName } from "./private_socket.ts";

/** A directory changed less than this long ago is young: its owner may be about to listen there. */
const youngMs = 60_000;

/** The bits of a mode that say the type of a file. */
const typeBits = 0o170000;
/** A directory, and what its owner, group and others may do. */
const directoryMode = 0o040700;
/** The types of the files that we make. */
const fileTypes: Readonly<Record<string, number>> = {
  [socketName]: 0o140000,
  [fileName]: 0o100000,
};

let prefix: string | undefined;

/** What the names of our own directories begin with. */
function ownPrefix({ pid, pidNamespace }: TemporaryFiles): string {
  const random = () => `x${word(crypto.getRandomValues(new Uint32Array(1))[0]!)}`;
  return prefix ??= `sam-${pidNamespace === undefined ? random() : word(pidNamespace)}-${
    pid.toString(36)
  }-`;
}

/** Makes a directory that only this user may enter; with `inMemory` in shared memory, where this program may. */
export async function makePrivateDirectory(
  runtime: Pick<Files, "temporaryFiles">,
  inMemory: boolean,
): Promise<string> {
  const files = await runtime.temporaryFiles();
  return await files.makeDirectory(ownPrefix(files), inMemory);
}

/** What the paths of all private directories of this process begin with. */
export async function privatePrefixes(
  runtime: Pick<Files, "temporaryFiles">,
): Promise<readonly string[]> {
  const files = await runtime.temporaryFiles();
  return files.parents.map((parent) => `${parent}/${ownPrefix(files)}`);
}

/** 32 bits of a number, in seven characters. */
function word(number: number): string {
  return (number >>> 0).toString(36).padStart(7, "0");
}

/** A directory that a server may have left behind. */
interface Stray {
  readonly path: string;
  /** Nobody listens there. Otherwise the directory is only old. */
  readonly abandoned: boolean;
}

/** The private directories that servers of the owner of `own`, one of this process, have or may have left behind. */
export function strayDirectories(files: TemporaryFiles, own: string): readonly Stray[] {
  const uid = files.status(own)?.uid;
  return files.parents.flatMap((parent) =>
    (files.list(parent) ?? []).flatMap((name) => {
      const path = `${parent}/${name}`;
      const [, where, pid] = namePattern.exec(name) ?? [];
      if (where === undefined || path === own) return [];
      const directory = files.status(path);
      const contents = directory && contentsOf(path, directory, files);
      if (!contents || directory.uid !== uid) return [];
      const { pidNamespace } = files;
      if (
        pidNamespace !== undefined && where === word(pidNamespace) &&
        files.hasEnded(parseInt(pid!, 36))
      ) return [{ path, abandoned: true }];
      const isOld = Date.now() - directory.mtimeMs > youngMs;
      return isOld ? [{ path, abandoned: !contents.includes(socketName) }] : [];
    })
  );
}

/** The names in a private directory; undefined if it is none, or if something else is in it. */
function contentsOf(
  path: string,
  directory: FileStatus,
  { list, status }: TemporaryFiles,
): readonly string[] | undefined {
  if ((directory.mode & (typeBits | 0o777)) !== directoryMode) return undefined;
  const names = list(path);
  const areOurs = names?.every((name) => {
    const file = status(`${path}/${name}`);
    return file !== undefined && (file.mode & typeBits) === fileTypes[name];
  });
  return areOurs ? names : undefined;
}
