/**
 * What a Deno program may do. Everything is asked before it is done, because Deno would ask the user at the terminal, and
 * a server has nobody there.
 */
import { SamError } from "../errors.ts";

interface PermissionStatus {
  readonly state: "granted" | "prompt" | "denied";
  readonly partial: boolean;
}
interface DenoLike {
  readonly permissions: { querySync(what: object): PermissionStatus };
  readonly env: { get(name: string): string | undefined };
  execPath(): string;
}
const Deno = (globalThis as unknown as { Deno: DenoLike }).Deno;

/** The permissions of Deno, and the key that narrows each. */
const narrowedBy = {
  read: "path",
  write: "path",
  net: "host",
  env: "variable",
  run: "command",
  sys: "kind",
  ffi: "path",
  import: "host",
} as const;
type Permission = keyof typeof narrowedBy;

/** The letters that stand for permissions on a command line. */
const letters: Readonly<Record<string, Permission>> = {
  R: "read",
  W: "write",
  N: "net",
  E: "env",
  S: "sys",
  I: "import",
};

/**
 * True if this process has a permission, for all or for one path, host, variable, command …, with no exception below that:
 * Deno makes one of itself, where it may be run and lies in a directory that may be written.
 */
export function granted(name: Permission, value?: string): boolean {
  const status = query(name, value);
  return status?.state === "granted" && !status.partial;
}

/** The same, with exceptions or without. */
export function grantedMostly(name: Permission, value: string): boolean {
  return query(name, value)?.state === "granted";
}

/** Asks in general first: Deno remembers each value that it was ever asked for. */
function query(name: Permission, value: string | undefined): PermissionStatus | undefined {
  try {
    const all = Deno.permissions.querySync({ name });
    if (value === undefined || (all.state === "granted" && !all.partial)) return all;
    return Deno.permissions.querySync({ name, [narrowedBy[name]]: value });
  } catch {
    return undefined;
  }
}

/** True if this process has all permissions, as with `-A`: Deno lets nobody else into /proc and /dev. */
export function grantedAll(): boolean {
  return (Object.keys(narrowedBy) as Permission[]).every((name) => granted(name));
}

/** Throws ACCESS, with the flags to add, when a permission is missing: its name, what for, and the value to name in the flag. */
export function demand(
  what: string,
  needs: readonly (readonly [name: Permission, value: string, flagValue?: string])[],
): void {
  const missing = needs.filter(([name, value, flagValue = value]) =>
    !grantedMostly(name, flagValue) && !grantedMostly(name, value)
  ).map(([name, , flagValue]) =>
    `--allow-${name}${flagValue === undefined ? "" : `=${flagValue}`}`
  );
  if (missing.length === 0) return;
  throw new SamError("ACCESS", `cannot ${what}: run Deno with ${missing.join(" ")}`);
}

/** Runs what needs a permission; one that is missing becomes an ACCESS error. */
export async function allowed<T>(action: () => Promise<T>, what: string, cure = ""): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    if (cause instanceof SamError) throw cause;
    const { name, message } = cause as Error;
    const code = name === "NotCapable" || name === "PermissionDenied" ? "ACCESS" : "LIBRARY";
    throw new SamError(code, `cannot ${what}: ${message}${cure}`, { cause });
  }
}

/** The error for a signal that may not be sent; undefined where it failed otherwise. */
export function denial(cause: unknown): SamError | undefined {
  const { name, message } = cause as Error;
  if (name === "NotCapable") return new SamError("ACCESS", message, { cause });
  if (name !== "PermissionDenied") return undefined;
  return new SamError("ACCESS", "it runs as another user", { cause });
}

/** The directory for temporary files, as far as this process may know it. */
export function temporaryDirectory(): string {
  return (granted("env", "TMPDIR") && Deno.env.get("TMPDIR")) || "/tmp";
}

/** Throws ACCESS when a flag of `deno run`, in `cwd`, would give a program more than this process has. */
export function refuseMore(flags: readonly string[], cwd: string | undefined): void {
  if (grantedAll()) return;
  const more = flags.find((flag) => givesMore(absolute(flag, cwd)));
  if (more === undefined) return;
  throw new SamError(
    "ACCESS",
    `the flag ${more} would give the program a permission that this process does not have: run this process with it too, or leave program.runtime.flags out, then the program gets the permissions of this process`,
  );
}

/** A flag whose paths are those it would have in `cwd`, so that it means the same elsewhere. */
export function absolute(flag: string, cwd: string | undefined): string {
  const [, start, name, values] = /^(--[a-z]+-(read|write|ffi|run)=|-R=|-W=)(.*)$/s.exec(flag) ??
    [];
  if (values === undefined || cwd === undefined) return flag;
  const each = (value: string) =>
    value === "" || value.startsWith("/") || (name === "run" && !value.includes("/"))
      ? value
      : `${cwd}/${value}`;
  return start + values.split(",").map(each).join(",");
}

function givesMore(flag: string): boolean {
  const [, word, all, value] = /^--(allow-([a-z]+)|permission-set)(?:=(.*))?$/s.exec(flag) ?? [];
  if (word !== undefined) {
    return !(all !== undefined && Object.hasOwn(narrowedBy, all)) ||
      !grantedEach(all as Permission, value);
  }
  const [, cluster = "", last] = /^-([A-Za-z]+)(?:=(.*))?$/s.exec(flag) ?? [];
  return [...cluster].some((letter, at) => {
    if (letter === "A" || letter === "P") return true;
    const name = letters[letter];
    return name !== undefined &&
      !grantedEach(name, at === cluster.length - 1 ? last : undefined);
  });
}

function grantedEach(name: Permission, values: string | undefined): boolean {
  return values === undefined
    ? granted(name)
    : values.split(",").every((value) => value !== "" && granted(name, value));
}

/** Our executable under a name that we may run: its path, as the user called it, or the one on PATH. */
export function executable(called?: string): string {
  const path = Deno.execPath();
  const names = [path, ...(called === undefined ? [] : [called]), "deno"];
  return names.find((name) => granted("run", name)) ?? path;
}
