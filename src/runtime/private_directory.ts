/**
 * The names of private directories: they tell which process made them, and in which process namespace, so that what a killed
 * server has left is known for what it is. Where /proc may not be read, a random word stands for the namespace.
 */

import type { Runtime } from "./runtime.ts";

/** What a runtime can find out about processes and files. */
export interface Surroundings {
  readonly pid: number;
  /** The inode of our process namespace; undefined where /proc may not be read, or shows another one. */
  readonly namespace: number | undefined;
  /** The names in a directory; none where it may not be read. */
  list(directory: string): readonly string[];
  /** When a file was last changed, in milliseconds since 1970; undefined where there is none. */
  changedAt(path: string): number | undefined;
}

/** So long after the last change in it a directory is young: its owner may be about to listen there. */
const youngMs = 60_000;

let prefix: string | undefined;

/** What the names of our own directories begin with. */
export function privatePrefix({ pid, namespace }: Surroundings): string {
  const random = () => `x${crypto.getRandomValues(new Uint32Array(1))[0]!.toString(36)}`;
  return prefix ??= `sam-${namespace?.toString(36) ?? random()}-${pid.toString(36)}-`;
}

/** The directories in `parents` that were left behind, or may have been. */
export function strayDirectories(
  parents: readonly string[],
  surroundings: Surroundings,
): ReturnType<Runtime["strayDirectories"]> {
  return parents.flatMap((parent) =>
    surroundings.list(parent).filter((name) => name.startsWith("sam-"))
      .map((name) => ({ path: `${parent}/${name}`, dead: isDead(name, surroundings) }))
      .filter(({ path, dead }) => dead || isOld(path, surroundings))
  );
}

function isDead(name: string, { namespace, changedAt }: Surroundings): boolean {
  const [, where, pid] = /^sam-([0-9a-z]+)-([0-9a-z]+)-/.exec(name) ?? [];
  return namespace !== undefined && where === namespace.toString(36) &&
    changedAt(`/proc/${parseInt(pid!, 36)}`) === undefined;
}

function isOld(path: string, { changedAt }: Surroundings): boolean {
  return Date.now() - (changedAt(path) ?? Infinity) > youngMs;
}
