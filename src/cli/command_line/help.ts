/** The texts of `--help`: the short ones fit a screen of 24 lines and 80 columns. */
import { type Flag, flagOf, flags, valueOf } from "./flags.ts";

/** `sam --help`. */
export const help = `sam keeps programs alive: it runs, watches, warns, kills and restarts them.

  sam run [options] [--] PROGRAM [arguments]   run a module or a command
  sam run [options] [--config FILE [NAME …]]   or those of sam.config.…
  sam run --help                               the options

  sam status [NAME] [--json] [--watch|-w]      what runs, and how it is
  sam events [NAME] [--json] [--follow|-f]     what has happened
  sam restart|stop [NAME]                      orderly; restart also undoes stop
  sam signal SIGNAL [NAME]                     to the program
  sam completion bash|zsh|fish                 for the shell
  sam --version

  npx @x/sam run server.js       a hang of its event loop, a crash: restarted
  sam run --check-http http://127.0.0.1:8080/ python3 -m http.server 8080
`;

/** `sam run --help` with the common options, or `--help-all` with all options. */
export function runHelp(all: boolean): string {
  const rows = flags.filter(({ common }) => all || common);
  return `sam run [options] [--] PROGRAM [arguments]

${rows.map(line).join("\n")}
  --config, -c FILE                  several programs: sam.config.{ts,js,json}
  --name NAME                        for sam status and the like
  --metrics [HOST:]PORT              status page, /metrics, /livez, /readyz
  --json, --quiet, -q                short for --log json, --log none
${
    all
      ? ""
      : "  --help-all                         all options\n"
  }TIME is in milliseconds, or 500ms, 5s, 2m. Each option is an environment
variable too: SAM_TIME_INTERVAL. PROGRAM's exit status is that of sam.
`;
}

function line(flag: Flag): string {
  const value = valueOf(flag);
  const name = flag.kind === "switch" ? flagOf(flag).replace("--", "--[no-]") : flagOf(flag);
  return `  ${`${name} ${value}`.padEnd(34)} ${flag.help}`;
}
