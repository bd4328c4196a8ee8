/** `sam completion bash|zsh|fish`. The scripts are generated from the options that the parser reads. */
import { signals } from "../../core/signals.ts";
import * as host from "../host/host.ts";
import { CommandError } from "./exit.ts";
import { flagOf, flags } from "./flags.ts";
import { remoteOptions, runOptions, unitOptions } from "./commands.ts";

/** The names of signals with and without SIG. `sam signal` accepts both. */
const signalWords = [...signals.map((signal) => signal.slice(3)), ...signals].join(" ");
const commands = ["run", "unit", ...Object.keys(remoteOptions), "completion"];
/** The shell command with which bash and zsh list the names of servers. */
const names =
  `ls "\${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/sam" "\${TMPDIR:-/tmp}/sam-$(id -u)" 2>/dev/null ` +
  `| sed -n 's/\\.sock$//p'`;

/** The shell command with which fish lists the names of servers. */
const fishNames =
  "(ls (set -q XDG_RUNTIME_DIR; and echo $XDG_RUNTIME_DIR; or echo /run/user/(id -u))/sam " +
  "(set -q TMPDIR; and echo $TMPDIR; or echo /tmp)/sam-(id -u) " +
  '2>/dev/null | string replace --filter -r "\\.sock\\$" "")';

/** `sam completion`. */
export function completion(words: readonly string[]): Promise<number> {
  const [shell] = words;
  const scripts = { bash, zsh, fish } as const;
  if (!Object.hasOwn(scripts, shell ?? "")) {
    throw new CommandError(
      "usage",
      shell
        ? `unknown shell "${shell}". sam completion supports bash, zsh and fish.`
        : "the shell is missing. Name one, as in sam completion bash.",
    );
  }
  host.stdout.write(scripts[shell as keyof typeof scripts]());
  return Promise.resolve(0);
}

/** The flags of `sam run` that have a fixed set of values, with these values. */
function choices(): readonly (readonly [flag: string, values: string])[] {
  return flags.flatMap((row) =>
    typeof row.kind === "string" ? [] : [[flagOf(row), row.kind.join(" ")] as const]
  );
}

const flagsOf = (options: readonly { readonly flag: string }[]) =>
  options.map(({ flag }) => flag).join(" ");
/** The `--no-…` form of each switch. */
const noFlags = flags.filter(({ kind }) => kind === "switch")
  .map((row) => ({ flag: flagOf(row).replace("--", "--no-"), takesValue: false }));
const allRunOptions = [...runOptions, ...noFlags];
const allUnitOptions = [...unitOptions, ...noFlags];

/** Returns the script for bash. zsh can run it too, after `bashcompinit`. */
function bash(): string {
  return `# sam completion for bash: eval "$(sam completion bash)"
_sam() {
  local word="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD-1]}" words=""
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="${commands.join(" ")} --help"
  else
    case "\${COMP_WORDS[1]} $before" in
${choices().map(([flag, values]) => `      "run ${flag}") words="${values}" ;;`).join("\n")}
      "signal signal") words="${signalWords}" ;;
      *)
        case "\${COMP_WORDS[1]} $word" in
          "run -"*) words="${flagsOf(allRunOptions)} --help --help-all" ;;
          "unit -"*) words="${flagsOf(allUnitOptions)} --help" ;;
          "run "* | "unit "*) COMPREPLY=($(compgen -f -c -- "$word")); return ;;
${
    Object.entries(remoteOptions).map(([command, options]) =>
      `          "${command} "*) words="${flagsOf(options)} $(${names})" ;;`
    ).join("\n")
  }
          "completion "*) words="bash zsh fish" ;;
        esac ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o filenames -F _sam sam
`;
}

function zsh(): string {
  return `# sam completion for zsh: eval "$(sam completion zsh)"
autoload -U +X bashcompinit && bashcompinit
${bash().split("\n").slice(1).join("\n")}`;
}

function fish(): string {
  const after = (command: string) => `-n "__fish_seen_subcommand_from ${command}"`;
  const isSignal = "__fish_seen_subcommand_from signal; and test (count (commandline -opc))";
  const names = (command: string) =>
    command === "signal" ? `-n "${isSignal} -gt 2"` : after(command);
  const none = `-n "not __fish_seen_subcommand_from ${commands.join(" ")}"`;
  const known = new Map(choices());
  const flag = (command: string, { flag, takesValue }: (typeof runOptions)[number]) => {
    const values = known.get(flag);
    const value = takesValue ? ` -r${values ? ` -f -a "${values}"` : ""}` : "";
    return `complete -c sam ${after(command)} -l ${flag.slice(2)}${value}`;
  };
  return [
    "# sam completion for fish: sam completion fish | source",
    `complete -c sam ${none} -f -a "${commands.join(" ")}"`,
    ...allRunOptions.map((option) => flag("run", option)),
    ...allUnitOptions.map((option) => flag("unit", option)),
    ...Object.entries(remoteOptions).flatMap(([command, options]) => [
      `complete -c sam ${names(command)} -f -a '${fishNames}'`,
      ...options.map((option) => flag(command, option)),
    ]),
    `complete -c sam -n "${isSignal} -eq 2" -f -a "${signalWords}"`,
    `complete -c sam ${after("completion")} -f -a "bash zsh fish"`,
    "",
  ].join("\n");
}
