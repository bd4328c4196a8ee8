/**
 * Wrappers: commands that run the program in a process of its own, whose event loop SAM cannot watch. This is the one
 * list of them, so that a wrapper is recognized in the same way everywhere.
 */

/** The command, as a name without its directory; the beginning of its arguments; what the user can do instead. */
type Row = readonly [command: RegExp, args: RegExp, instead: string];

const script = "name the program that the script starts, as in sam run server.js";
const bin = "name the file, as in sam run node_modules/.bin/NAME";

const rows: readonly Row[] = [
  [/^(npx|pnpx|bunx)$/, /^/, bin],
  [/^(npm|pnpm|yarn)$/, /^(exec|x|dlx)( |$)/, bin],
  [/^(npm|pnpm|yarn)$/, /^/, script],
  [/^node$/, /^/, script], // --run
  [/^bun$/, /^x( |$)/, bin],
  [/^bun$/, /^(?!(test|install|add|build)( |$))./, script],
  [/^deno$/, /^task( |$)/, script],
  [/^deno$/, /^\S+\.[cm]?[jt]sx?( |$)/, "name the module alone, as in sam run server.ts"],
  [
    /^deno$/,
    /^serve( |$)/,
    "call Deno.serve() in the module, and run that, as in sam run server.ts",
  ],
  [/^tsx$/, /^/, "load it into the program, as in sam run --runtime-flag=--import=tsx server.ts"],
  [
    /^ts-node(-\w+)?$/,
    /^/,
    "load it into the program, as in sam run --runtime-flag=--require=ts-node/register server.ts",
  ],
  [/^(next|nuxt|vite|astro|nest|react-router-serve)$/, /^/, bin],
  [/^(nodemon|pm2-runtime|forever)$/, /^/, "leave it out: sam restarts the program"],
  [/^(cross-env|dotenv|env-cmd)$/, /^/, "name the program, and set its variables with --env"],
];

/** What the user can do where a runtime restarts the program. */
export const insteadOfWatch =
  "leave out --watch and --hot, which start the program again by themselves";

/**
 * What the user can do so that the event loop is watched, if `command` is a wrapper that is known. Not for a command line
 * of `node`, `deno` or `bun` that runs a program itself.
 */
export function insteadOfWrapper(command: string, args: readonly string[]): string | undefined {
  const name = command.slice(command.lastIndexOf("/") + 1);
  const words = args.join(" ");
  return rows.find(([commands, start]) => commands.test(name) && start.test(words))?.[2];
}
