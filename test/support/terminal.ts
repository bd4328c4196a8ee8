// A real pseudo-terminal, made by script(1).
import { spawn } from "node:child_process";

/** A terminal: its output, and its keys. */
export interface Terminal {
  /** The output so far. */
  readonly output: string;
  /** Presses keys. */
  keys(text: string): void;
  /** Resolves to the exit code of the command. */
  readonly exited: Promise<number | null>;
}

/**
 * Runs a command in a terminal of 100 columns. The exit code is the command's own, because no shell stays in between.
 */
export function terminal(
  command: string,
  env: Readonly<Record<string, string>>,
  rows = 24,
): Terminal {
  const line = `stty cols 100 rows ${rows}; exec ${command}`;
  const child = spawn("script", ["-qec", line, "/dev/null"], {
    env: { ...process.env, TERM: "xterm", SHELL: "/bin/sh", ...env },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const screen = { output: "", keys: (text: string) => void child.stdin.write(text) };
  child.stdout.setEncoding("utf8").on("data", (text: string) => screen.output += text);
  const exited = new Promise<number | null>((resolve) => child.on("close", resolve));
  return Object.assign(screen, { exited });
}
