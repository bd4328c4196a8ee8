/** `deno task NAME`: Deno loads no module into the program of a task, so `sam` runs the program of a simple task itself. */
import type { Files } from "./detect_program.ts";

/** The command of a task is a plain command line: no operator, variable, pattern or quote of a shell. */
const plain = /^deno run [\w\s./:=,@%+-]+$/;

/**
 * Returns the arguments for `deno` that run the program of a task without `deno task`. Undefined if the command line is no
 * `deno task`, or if the task is not only `deno run …`.
 */
export function argumentsOfTask(
  program: string,
  args: readonly string[],
  directory: string,
  files: Pick<Files, "readText">,
): readonly string[] | undefined {
  const [task, name, ...more] = args;
  if (program !== "deno" || task !== "task" || !name || name.startsWith("-")) return undefined;
  for (const [file, key] of taskFiles) {
    const tasks = tasksIn(`${directory}/${file}`, key, files);
    if (tasks === "unreadable") return undefined;
    const command = tasks[name];
    if (command === undefined) continue;
    return typeof command === "string" && plain.test(command)
      ? [...command.trim().split(/\s+/).slice(1), ...more]
      : undefined;
  }
  return undefined;
}

/** The files in which Deno looks for a task, in that order. */
const taskFiles = [
  ["deno.json", "tasks"],
  ["deno.jsonc", "tasks"],
  ["package.json", "scripts"],
] as const;

/** The tasks in a file; none if there is no such file. */
function tasksIn(
  path: string,
  key: string,
  files: Pick<Files, "readText">,
): Readonly<Record<string, unknown>> | "unreadable" {
  let text: string;
  try {
    text = files.readText(path);
  } catch {
    return {};
  }
  try {
    return JSON.parse(text)[key] ?? {};
  } catch {
    return "unreadable"; // it has comments, and may have the task
  }
}
