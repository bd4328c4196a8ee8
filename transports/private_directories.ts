/**
 * The private directories in which servers put their sockets.
 *
 * A directory's name contains the process id of its server and the process namespace of that id. A later server uses
 * both to find the directories that killed servers left behind. Where /proc cannot be read, a random word replaces the
 * namespace.
 *
 * Other programs use TMPDIR and /dev/shm too. So a directory counts as a server's only if its name, type, owner, mode
 * and contents are all exactly what a server creates.
 */
import type { Files, FileStatus, TemporaryFiles } from "../src/runtime/runtime.ts";
import { fileName, namePattern, socketName } from "./private_socket.ts";

/** The server of a directory that changed more recently than this may still be about to listen there. */
const youngMs = 60_000;

/** The bits of a file mode that hold the file type (`S_IFMT`). */
const typeBits = 0o170000;
/** The file mode of a private directory: a directory with permissions 700. */
const directoryMode = 0o040700;
/** The file types in a private directory: a socket and a regular file. */
const fileTypes: Readonly<Record<string, number>> = {
  [socketName]: 0o140000,
  [fileName]: 0o100000,
};

let prefix: string | undefined;

/** The prefix of the names of this process's private directories. */
function ownPrefix({ pid, pidNamespace }: TemporaryFiles): string {
  const random = () => `x${word(crypto.getRandomValues(new Uint32Array(1))[0]!)}`;
  return prefix ??= `sam-${pidNamespace === undefined ? random() : word(pidNamespace)}-${
    pid.toString(36)
  }-`;
}

/**
 * Makes a directory that only this user can enter. `inMemory` asks for one in shared memory, if this program may use
 * it.
 */
export async function makePrivateDirectory(
  runtime: Pick<Files, "temporaryFiles">,
  inMemory: boolean,
): Promise<string> {
  const files = await runtime.temporaryFiles();
  return await files.makeDirectory(ownPrefix(files), inMemory);
}

/** The path prefixes of all private directories of this process. */
export async function privatePrefixes(
  runtime: Pick<Files, "temporaryFiles">,
): Promise<readonly string[]> {
  const files = await runtime.temporaryFiles();
  return files.parents.map((parent) => `${parent}/${ownPrefix(files)}`);
}

/** The low 32 bits of a number as seven base-36 digits. */
function word(number: number): string {
  return (number >>> 0).toString(36).padStart(7, "0");
}

/** A private directory that a killed server may have left behind. */
interface Leftover {
  readonly path: string;
  /** True if certainly no server listens there. If false, the directory is old but its server may still run. */
  readonly abandoned: boolean;
}

/**
 * Finds the private directories that killed servers of this user left, or may have left. `own` is a directory of this
 * process.
 */
export function leftoverDirectories(files: TemporaryFiles, own: string): readonly Leftover[] {
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

/** The file names in a private directory. Undefined if it is not private, or if it contains anything else. */
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
