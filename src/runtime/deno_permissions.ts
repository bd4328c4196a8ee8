/**
 * Deno's permissions. Every permission is checked before it is used. Otherwise Deno would prompt on the terminal, where
 * a server has no user to answer.
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

/** Deno's permissions, each with the key that narrows it to one value. */
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

/** The short flags of Deno's permissions. */
const letters: Readonly<Record<string, Permission>> = {
  R: "read",
  W: "write",
  N: "net",
  E: "env",
  S: "sys",
  I: "import",
};

/**
 * True if this process has a permission without exceptions, in general or for one value (path, host, variable, command
 * …). Deno itself adds one exception: if a program may run Deno and may write to its directory, the executable is still
 * not writable.
 */
export function granted(name: Permission, value?: string): boolean {
  const status = query(name, value);
  return status?.state === "granted" && !status.partial;
}

/** True if this process has a permission for one value, with or without exceptions. */
export function grantedWithExceptions(name: Permission, value: string): boolean {
  return query(name, value)?.state === "granted";
}

/** Queries the general permission first, because Deno remembers every specific value that was queried. */
function query(name: Permission, value: string | undefined): PermissionStatus | undefined {
  try {
    const all = Deno.permissions.querySync({ name });
    if (value === undefined || (all.state === "granted" && !all.partial)) return all;
    return Deno.permissions.querySync({ name, [narrowedBy[name]]: value });
  } catch {
    return undefined;
  }
}

/** True if this process has all permissions, as with `-A`. Deno requires that for /proc and /dev. */
export function grantedAll(): boolean {
  return (Object.keys(narrowedBy) as Permission[]).every((name) => granted(name));
}

/**
 * Throws ACCESS, with the flags to add, if a permission is missing. `what` names the action. Each need is a permission,
 * the value that it is for, and the value for the flag in the message (without it, the flag has no value).
 */
export function requirePermissions(
  what: string,
  needs: readonly (readonly [name: Permission, value: string, flagValue?: string])[],
): void {
  const missing = needs.filter(([name, value, flagValue = value]) =>
    !grantedWithExceptions(name, flagValue) && !grantedWithExceptions(name, value)
  ).map(([name, , flagValue]) =>
    `--allow-${name}${flagValue === undefined ? "" : `=${flagValue}`}`
  );
  if (missing.length === 0) return;
  throw new SamError("ACCESS", `cannot ${what}: run Deno with ${missing.join(" ")}`);
}

/** Runs an action. A failure that is no SamError becomes one: ACCESS if a permission is missing, else LIBRARY. */
export async function withSamErrors<T>(
  action: () => Promise<T>,
  what: string,
  remedy = "",
): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    if (cause instanceof SamError) throw cause;
    const { name, message } = cause as Error;
    const code = name === "NotCapable" || name === "PermissionDenied" ? "ACCESS" : "LIBRARY";
    throw new SamError(code, `cannot ${what}: ${message}${remedy}`, { cause });
  }
}

/** Returns an ACCESS error for a signal that was not permitted; undefined for any other failure. */
export function accessError(cause: unknown): SamError | undefined {
  const { name, message } = cause as Error;
  if (name === "NotCapable") return new SamError("ACCESS", message, { cause });
  if (name !== "PermissionDenied") return undefined;
  return new SamError("ACCESS", "the process runs as another user", { cause });
}

/** The directory for temporary files: `TMPDIR`, or /tmp if this process may not read that variable. */
export function temporaryDirectory(): string {
  return (granted("env", "TMPDIR") && Deno.env.get("TMPDIR")) || "/tmp";
}

/**
 * Throws ACCESS if a flag of `deno run`, in `cwd`, would give a program a permission that this process does not have.
 */
export function checkFlags(flags: readonly string[], cwd: string | undefined): void {
  if (grantedAll()) return;
  const more = flags.find((flag) => exceedsOwn(absolute(flag, cwd)));
  if (more === undefined) return;
  throw new SamError(
    "ACCESS",
    `the flag ${more} would give the program a permission that this process does not have. Run this process with that flag too, or leave out program.runtime.flags: the program then gets the permissions of this process.`,
  );
}

/** Makes the paths of a permission flag absolute, relative to `cwd`, so that the flag works in any directory. */
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

/** True if a flag gives a permission that this process does not have. */
function exceedsOwn(flag: string): boolean {
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

/**
 * The Deno executable, under a name that this process has permission to run. Tries its path, the name on the command
 * line, and `deno` on PATH.
 */
export function executable(called?: string): string {
  const path = Deno.execPath();
  const names = [path, ...(called === undefined ? [] : [called]), "deno"];
  return names.find((name) => granted("run", name)) ?? path;
}
