/** The texts of `--help`. The short ones fit a terminal of 24 lines and 80 columns. */
import { type Flag, flagOf, flags, optionFlags, programFlags, valueOf } from "./flags.ts";

/** The text of `sam --help`. */
export const help = `sam runs programs, and restarts a program that crashes or hangs.

  sam run [options] [--] PROGRAM [arguments]   run a module or a command
  sam run [options]                            run the programs of sam.config.ts
  sam run [options] --config FILE [NAME …]     run FILE's programs, or only NAME
  sam run --help, sam --version                list the options, the version

  sam status [NAME] [--json] [--watch|-w]      show the state of each program
  sam events [NAME] [--json] [--follow|-f]     show past events (-f: also new)
  sam restart [NAME]                           restart, or start after sam stop
  sam reload [NAME]                            put a new version into service
  sam stop [NAME]                              stop a program, or all of them
  sam signal SIGNAL [NAME]                     send a signal to a program
  sam unit [options] PROGRAM | --config FILE   print or install a systemd unit
  sam completion bash|zsh|fish                 print a completion script

NAME is a program, a SAM server (a "sam run" process; --name names it), or
SERVER/PROGRAM. Without NAME, a command applies to all programs; reload then
reads FILE again. With several SAM servers, restart … signal need a NAME.

Examples: npx @x/sam run web.js
  sam run --check-http http://127.0.0.1:8080/ python3 -m http.server 8080
Documentation: https://github.com/x/sam/tree/main/docs
`;

/** Returns the text of `sam run --help`, or with `all` the text of `sam run --help-all`. */
export function runHelp(all: boolean): string {
  const usage = `sam run [options] [--] PROGRAM [arguments]
sam run [options] [--config FILE [NAME …]]
`;
  return all
    ? `${usage}
Program
${rows(programFlags)}

Hangs, stops and reports
${rows(optionFlags.filter(({ key }) => !key.includes(".")))}

Restart limit and backoff
${rows(optionFlags.filter(({ key }) => key.startsWith("restart.")))}

Health check
${rows(optionFlags.filter(({ key }) => key.startsWith("check.")))}

SAM server
${commandRows}

${notes}sam exits with the exit code of PROGRAM.
`
    : `${usage}
${rows(flags.filter(({ common }) => common))}
${commandRows}
  --help-all                   list all options

${notes}`;
}

/** The text of `sam unit --help`. */
export const unitHelp = `sam unit [--install] [--user] [--socket] [options] [--] PROGRAM [arguments]
sam unit [--install] [--user] [--socket] [options] [--config FILE]

Prints a systemd unit that runs sam run with the same options and program.

  --install                    write the unit, enable it and start it
  --user                       a unit of your own, not of the system
  --socket                     also a socket unit, for the addresses of --listen

The options are those of sam run: see sam run --help-all.
`;

/** The rows of the options that belong to the SAM server and not to a program. */
const commandRows = `\
  --config, -c FILE            configuration file (sam.config.{ts,js,mjs,json})
  --name NAME                  name of this SAM server, for sam status NAME
  --metrics [HOST:]PORT        serve a status page, /metrics, /livez, /readyz
  --json, --quiet, -q          --json: log as JSON lines; --quiet or -q: no log`;

const notes = `\
Defaults are in parentheses. Examples of TIME: 500 (milliseconds), 5s, 2m, 1h.
Options can also be set by environment variables, such as SAM_TIME_INTERVAL=5s.
`;

function rows(flags: readonly Flag[]): string {
  return flags.map((flag) => {
    const name = flag.kind === "switch" ? flagOf(flag).replace("--", "--[no-]") : flagOf(flag);
    return `  ${`${name} ${valueOf(flag)}`.padEnd(28)} ${flag.help}`;
  }).join("\n");
}
