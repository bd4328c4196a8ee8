/** The exit codes of the `sam` command, besides the status of the program: those of sysexits(3), and the shell's 126 and 127. */
import { SamError, type SamErrorCode } from "../../errors.ts";

/** The exit codes, and what each means. */
export const exitCodes = {
  ok: [0, "the program ended with 0, or what was asked for was done"],
  usage: [64, "the command line is wrong"],
  noInput: [66, "the program, or the configuration file, does not exist"],
  unavailable: [69, "no such server or program runs, or it does not answer"],
  software: [70, "sam itself has failed; please report it"],
  ioError: [74, "standard output takes no more: a full disk, say"],
  noPermission: [77, "a permission is missing: of Deno, or of a directory"],
  config: [78, "the configuration file, or an environment variable, is wrong"],
  notExecutable: [126, "the command may not be executed"],
  notFound: [127, "the command was not found"],
} as const;

/** An error that ends the command. */
export class CommandError extends SamError {
  readonly exitCode: number;

  constructor(
    why: keyof typeof exitCodes,
    message: string,
    options?: { readonly cause?: unknown; readonly code?: SamErrorCode },
  ) {
    super(options?.code ?? "INVALID_PARAM", message, options);
    this.exitCode = exitCodes[why][0];
  }
}

/** The exit code for an error. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CommandError) return error.exitCode;
  const { name } = (error ?? {}) as { name?: string };
  if (name === "NotCapable") return exitCodes.noPermission[0]; // Deno's own
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

/** The exit code for a program that could not be started: that of a shell. */
export function exitCodeOfSpawn(error: SamError): number {
  if (error.code === "INVALID_PARAM") return exitCodes.noInput[0];
  const { code, name } = (error.cause ?? {}) as { code?: string; name?: string };
  if (code === "ENOENT" || name === "NotFound") return exitCodes.notFound[0];
  if (code === "EACCES" || name === "PermissionDenied") return exitCodes.notExecutable[0];
  return exitCodeOf(error);
}
