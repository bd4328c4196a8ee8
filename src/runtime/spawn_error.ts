/** One error for a program that could not be started, whatever the runtime calls it. */
import { SamError } from "../errors.ts";
import type { Command } from "./runtime.ts";

/** What the system may have run out of. */
const lacks: readonly (readonly [RegExp, string])[] = [
  [/\bE[MN]FILE\b|os error 2[34]\b/, "are no more descriptors; raise the limit (ulimit -n)"],
  [
    /\bEAGAIN\b|os error 11\b/,
    "are no more processes; raise the limit (ulimit -u, or that of the container)",
  ],
  [/\bENOMEM\b|os error 12\b/, "is no more memory"],
];

/** Makes a SamError that names the program, the cause and the cure. */
export function spawnError(command: Command, cause: unknown): SamError {
  const { code, name, message } = cause as { code?: string; name?: string; message?: string };
  const what = `cannot start ${command.file}`;
  if (name === "NotCapable") {
    return new SamError(
      "ACCESS",
      `${what}: run Deno with --allow-run=${command.file} (${message})`,
      { cause },
    );
  }
  const missing = ["ENOENT", "ENOTDIR"].includes(code!) ||
    ["NotFound", "NotADirectory"].includes(name!);
  if (command.cwd !== undefined && missing) {
    return new SamError(
      "LIBRARY",
      `${what} in ${command.cwd}: one of the two does not exist, or is of the wrong kind; install the program, name its path, or mend cwd`,
      { cause },
    );
  }
  if (missing) {
    return new SamError(
      "LIBRARY",
      `${what}: it is not installed, or not on PATH; install it or name its path`,
      { cause },
    );
  }
  if (code === "EACCES" || name === "PermissionDenied") {
    return new SamError(
      "ACCESS",
      `${what}: it may not be executed; check its mode and the directory's`,
      { cause },
    );
  }
  const lacking = lacks.find(([errors]) => errors.test(`${code} ${message}`))?.[1];
  if (lacking) return new SamError("TRY_AGAIN", `${what}: there ${lacking}`, { cause });
  return new SamError("LIBRARY", `${what}: ${message ?? String(cause)}`, { cause });
}
