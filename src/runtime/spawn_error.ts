/** Turns each runtime's error for a failed start of a program into one SamError. */
import { SamError } from "../errors.ts";
import type { Command } from "./runtime.ts";

/** Patterns of errors for exhausted resources, with the text for the message. */
const shortages: readonly (readonly [RegExp, string])[] = [
  [/\bE[MN]FILE\b|os error 2[34]\b/, "no file descriptors are left. Raise the limit (ulimit -n)."],
  [
    /\bEAGAIN\b|os error 11\b/,
    "the limit of processes is reached. Raise it (ulimit -u, or the limit of the container).",
  ],
  [/\bENOMEM\b|os error 12\b/, "no memory is left"],
];

/** Returns a SamError that names the program, the cause and the remedy. */
export function spawnError(command: Command, cause: unknown): SamError {
  const { code, name, message } = cause as { code?: string; name?: string; message?: string };
  const what = `cannot start ${command.file}`;
  if (name === "NotCapable") {
    return new SamError(
      "ACCESS",
      `${what}: Deno does not permit it (${message}). Run Deno with --allow-run=${command.file}.`,
      { cause },
    );
  }
  const missing = ["ENOENT", "ENOTDIR"].includes(code!) ||
    ["NotFound", "NotADirectory"].includes(name!);
  if (command.cwd !== undefined && missing) {
    return new SamError(
      "LIBRARY",
      `${what} in ${command.cwd}: the program or the directory does not exist. Install the program or give its path, or correct cwd.`,
      { cause },
    );
  }
  if (missing) {
    return new SamError(
      "LIBRARY",
      `${what}: it is not installed, or not on PATH. Install it, or give its path.`,
      { cause },
    );
  }
  if (code === "EACCES" || name === "PermissionDenied") {
    return new SamError(
      "ACCESS",
      `${what}: it is not an executable file, or permission is denied. Check its permissions and those of its directory.`,
      { cause },
    );
  }
  const shortage = shortages.find(([errors]) => errors.test(`${code} ${message}`))?.[1];
  if (shortage) return new SamError("TRY_AGAIN", `${what}: ${shortage}`, { cause });
  return new SamError("LIBRARY", `${what}: ${message ?? String(cause)}`, { cause });
}
