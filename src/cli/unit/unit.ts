/** `sam unit`: prints or installs the systemd units for `sam run` with the same words. */
import { loadNative } from "../../ffi/load_c_library.ts";
import { loadRuntime } from "../../runtime/load.ts";
import type { Runtime } from "../../runtime/runtime.ts";
import { runOptions, unitOptions } from "../command_line/commands.ts";
import { CommandError } from "../command_line/exit.ts";
import { variableOfFlag } from "../command_line/flags.ts";
import { parseWords } from "../command_line/words.ts";
import * as host from "../host/host.ts";
import { account, checkUnit, outputOf, runProgram, searchPath, writeUnit } from "../host/system.ts";
import { readPlan } from "../run/plan.ts";
import { mark, serviceText, socketText, type UnitParts } from "./unit_text.ts";

/** The options of `sam unit` itself. */
interface Choice {
  readonly install: boolean;
  readonly user: boolean;
  readonly socket: boolean;
}

/** `sam unit`. */
export async function unit(words: readonly string[]): Promise<number> {
  const { given, operands } = parseWords(words, unitOptions, true);
  const has = (flag: string) => given.findLast(([name]) => name === flag)?.[1] === "";
  const choice = { install: has("--install"), user: has("--user"), socket: has("--socket") };
  const rest = [
    ...given.flatMap(([flag, value]) => wordsOf(flag, value)),
    ...operands[0]?.startsWith("-") ? ["--"] : [],
    ...operands,
  ];
  const parts = await partsOf(rest, choice, await loadRuntime());
  const files = [
    { name: `${parts.name}.service`, text: serviceText(parts) },
    ...choice.socket ? [{ name: `${parts.name}.socket`, text: socketText(parts) }] : [],
  ];
  const directory = choice.user ? account().userUnits : "/etc/systemd/system";
  if (choice.install) {
    await install(directory, files, choice);
  } else {
    const texts = files.map(({ name, text }) => `# ${directory}/${name}\n${text}`);
    host.stdout.write(texts.join("\n"));
  }
  return 0;
}

/** The words of one option of `sam run`; none for an option of `sam unit`. */
function wordsOf(flag: string, value: string): readonly string[] {
  const option = runOptions.find((each) => each.flag === flag);
  if (option === undefined) return [];
  if (option.takesValue) return [flag, value];
  return value === "false"
    ? [flag.replace("--", "--no-")]
    : [value === "" ? flag : `${flag}=${value}`];
}

async function partsOf(
  words: readonly string[],
  { user: isUser, socket: hasSocket }: Choice,
  runtime: Runtime,
): Promise<UnitParts> {
  const { name: given, programs, file: config } = await readPlan(words);
  const services = [...new Set(programs.map(({ name, service = name }) => service))];
  const addresses = [
    ...new Map(
      programs.flatMap(({ options }) => options.listen ?? []).map((each) => [each.text, each]),
    ).values(),
  ];
  if (hasSocket && addresses.length === 0) {
    throw new CommandError(
      "usage",
      "--socket needs an address that systemd opens: add --listen, or listen in the configuration file",
    );
  }
  const { file, flags, module, args } = await runtime.self();
  const line = [file, ...flags, ...module === undefined ? [] : [module], ...args];
  const sam = line.slice(0, line.length - host.words.length);
  const cache = sam.find((word) => /\/(_npx|bunx-[^/]*)\//.test(word));
  if (cache !== undefined) {
    throw new CommandError(
      "unavailable",
      `sam runs from a cache (${cache}), which may be removed at any time. Install the package first: npm install @x/sam.`,
    );
  }
  const name = given ?? (services.length === 1 ? services[0]! : "sam");
  if (!/^\w[\w.-]{0,63}$/.test(name)) {
    throw new CommandError(
      "usage",
      `a unit cannot be named "${name}": choose a name of letters, digits, underscores, dots and dashes with --name`,
    );
  }
  return {
    name,
    hasFile: config !== undefined,
    variables: runOptions.map(({ flag }) => variableOfFlag(flag)).flatMap((each) => {
      const value = host.variable(each);
      return value === undefined ? [] : [[each, value] as const];
    }),
    sam,
    words,
    directory: host.workingDirectory(),
    path: searchPath(file),
    isUser,
    user: isUser ? undefined : account().name,
    notifiesByProgram: !(await canSend()),
    addresses,
    hasSocket,
  };
}

/** True if this process can send messages to systemd itself. */
async function canSend(): Promise<boolean> {
  try {
    await loadNative();
    return true;
  } catch {
    return false;
  }
}

/** Writes the units, and starts them. */
async function install(
  directory: string,
  files: readonly { readonly name: string; readonly text: string }[],
  { user, socket }: Choice,
): Promise<void> {
  const systemctl = user ? ["systemctl", "--user"] : ["systemctl"];
  const [service, first = service] = files.map(({ name }) => name);
  const workingDirectory = /^WorkingDirectory=.*$/m.exec(files[0]!.text)![0];
  for (const { name } of files) {
    const known = await outputOf([...systemctl, "show", "-P", "FragmentPath", name]);
    if (known !== "" && known !== `${directory}/${name}`) {
      throw new CommandError(
        "unavailable",
        `${known} is a unit of the system. Choose another --name.`,
      );
    }
    checkUnit(`${directory}/${name}`, name === service ? [mark, workingDirectory] : [mark]);
  }
  for (const { name, text } of files) writeUnit(`${directory}/${name}`, text);
  const commands = [
    ["daemon-reload"],
    // systemd does not open the socket of a service that runs.
    ...socket ? [["stop", service!], ["enable", first!], ["restart", first!]] : [],
    ["enable", service!],
    ["restart", service!],
  ];
  for (const words of commands) await runProgram([...systemctl, ...words]);
  for (const { name } of files) host.stderr.write(`sam: wrote ${directory}/${name}\n`);
  host.stderr.write(
    `sam: ${service} is started and enabled. Its log: journalctl ${
      user ? "--user " : ""
    }-u ${service}\n`,
  );
  if (user && !account().lingers) {
    host.stderr.write(
      "sam: until you run loginctl enable-linger, it starts when you log in, and ends when you log out.\n",
    );
  }
}
