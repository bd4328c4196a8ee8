/** One error for a program that could not be started, whatever the runtime calls it. */
import { SamError } from "../errors.ts";
import type { Command } from "./runtime.ts";

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
  return new SamError("LIBRARY", `${what}: ${message ?? String(cause)}`, { cause });
}
