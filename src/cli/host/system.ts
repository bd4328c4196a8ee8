/** The user account, the files and the programs of the system that `sam unit` needs. */
import { execFile, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import { dirname } from "node:path";
import process from "node:process";
import { CommandError } from "../command_line/exit.ts";
import { variable } from "./host.ts";

/** The account for which a unit is made. */
export interface Account {
  /** The name of the user that is to run programs; undefined for root. With sudo, the user who called it. */
  readonly name: string | undefined;
  /** The directory for units of the user. */
  readonly userUnits: string;
  /** True if the user's programs go on after the logout. */
  readonly lingers: boolean;
}

/** The account of this process. */
export function account(): Account {
  const own = os.userInfo().username;
  const config = variable("XDG_CONFIG_HOME") ?? `${os.homedir()}/.config`;
  return {
    name: process.getuid?.() === 0 ? variable("SUDO_USER") : own,
    userUnits: `${config}/systemd/user`,
    lingers: fs.existsSync(`/var/lib/systemd/linger/${own}`),
  };
}

const systemDirectories = [
  "/usr/local/sbin",
  "/usr/local/bin",
  "/usr/sbin",
  "/usr/bin",
  "/sbin",
  "/bin",
];

/** The search path of a unit: that of systemd, after the directory of the runtime. */
export function searchPath(runtime: string): string {
  const own = dirname(runtime);
  return [...systemDirectories.includes(own) ? [] : [own], ...systemDirectories].join(":");
}

/** Checks that a unit may be written: it does not exist, or has all these lines. */
export function checkUnit(path: string, lines: readonly string[]): void {
  const text = fs.existsSync(path) ? `${fs.readFileSync(path, "utf8")}` : undefined;
  if (text === undefined || lines.every((line) => text.split("\n").includes(line))) return;
  throw new CommandError(
    "unavailable",
    `${path} exists, and was not made by sam unit in this folder. Remove it, or choose another --name.`,
  );
}

/** Writes a unit. */
export function writeUnit(path: string, text: string): void {
  try {
    fs.mkdirSync(dirname(path), { recursive: true });
    fs.writeFileSync(path, text);
  } catch (cause) {
    throw new CommandError(
      "noPermission",
      `cannot write ${path}: ${
        (cause as Error).message
      }. Use sudo, or --user for a unit of your own.`,
      { cause },
    );
  }
}

/** The output of a program; empty if it fails. */
export function outputOf(words: readonly string[]): Promise<string> {
  const [file, ...args] = words as [string, ...string[]];
  return new Promise((resolve) => {
    execFile(file, args, (error, output) => resolve(error ? "" : output.trim()));
  });
}

/** Runs a program, with the standard streams of this process. Rejects unless it exits with 0. */
export async function runProgram(words: readonly string[]): Promise<void> {
  const [file, ...args] = words as [string, ...string[]];
  const child = spawn(file, args, { stdio: "inherit" });
  const code = await new Promise<number | string | null>((resolve, reject) => {
    child.on("error", (cause) =>
      reject(
        new CommandError("unavailable", `cannot run ${file}: ${cause.message}`, { cause }),
      ));
    child.on("close", (code, signal) => resolve(code ?? signal));
  });
  if (code !== 0) {
    throw new CommandError("unavailable", `${words.join(" ")} ended with ${code}`);
  }
}
