/** The exit codes of the `sam` command itself, from sysexits(3). 126 and 127 are those of a shell. */
import { SamError, type SamErrorCode } from "../../errors.ts";

/** The number and the meaning of each exit code. The docs list the same ones. */
export const exitCodes = {
  ok: [0, "the program exited with code 0, or the command succeeded"],
  usage: [64, "the command line is wrong"],
  noInput: [66, "the program or the configuration file does not exist"],
  unavailable: [69, "a SAM server, a program or a port is not available"],
  software: [70, "internal error in sam: please report it"],
  ioError: [74, "standard output cannot be written, for example to a full disk"],
  noPermission: [77, "a Deno permission is missing, or access to a directory is denied"],
  config: [78, "the configuration file or an environment variable is wrong"],
  notExecutable: [126, "the command cannot be executed: permission denied"],
  notFound: [127, "the command was not found"],
} as const;

/** The name of an exit code. */
export type ExitReason = keyof typeof exitCodes;

/** An error that ends the `sam` command with a given exit code. */
export class CommandError extends SamError {
  readonly reason: ExitReason;
  readonly exitCode: number;

  constructor(
    reason: ExitReason,
    message: string,
    options?: { readonly cause?: unknown; readonly code?: SamErrorCode },
  ) {
    super(options?.code ?? "INVALID_PARAM", message, options);
    this.reason = reason;
    this.exitCode = exitCodes[reason][0];
  }
}

/** Returns the exit code for an error. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CommandError) return error.exitCode;
  const { name } = (error ?? {}) as { name?: string };
  if (name === "NotCapable") return exitCodes.noPermission[0]; // thrown by Deno itself
  if (!(error instanceof SamError)) return exitCodes.software[0];
  switch (error.code) {
    case "INVALID_PARAM":
      return exitCodes.usage[0];
    case "ACCESS":
      return exitCodes.noPermission[0];
    default:
      return exitCodes.unavailable[0];
  }
}

/** Returns the exit code for a program that could not be started, as a shell would. */
export function exitCodeOfSpawn(error: SamError): number {
  if (error.code === "INVALID_PARAM") return exitCodes.noInput[0];
  const { code, name } = (error.cause ?? {}) as { code?: string; name?: string };
  if (code === "ENOENT" || name === "NotFound") return exitCodes.notFound[0];
  if (code === "EACCES" || name === "PermissionDenied") return exitCodes.notExecutable[0];
  return exitCodeOf(error);
}
