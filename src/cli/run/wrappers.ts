/** Wrappers: commands that run the program in another process. SAM cannot watch the event loop of that process. */

/** `command` matches the name of the wrapper without its directory, `args` its arguments. `advice` completes "To detect hangs, …". */
type Row = readonly [command: RegExp, args: RegExp, advice: string];

const script = "run the program that the script starts (sam run web.js)";
const bin = "run the program's file directly (sam run node_modules/.bin/NAME)";

const rows: readonly Row[] = [
  [/^(npx|pnpx|bunx)$/, /^/, bin],
  [/^(npm|pnpm|yarn)$/, /^(exec|x|dlx)( |$)/, bin],
  [/^(npm|pnpm|yarn)$/, /^/, script],
  [/^node$/, /^/, script], // node --run
  [/^bun$/, /^x( |$)/, bin],
  [/^bun$/, /^(?!(test|install|add|build)( |$))./, script],
  [/^deno$/, /^task( |$)/, script],
  [/^deno$/, /^\S+\.[cm]?[jt]sx?( |$)/, "run the module directly (sam run web.ts)"],
  [
    /^deno$/,
    /^serve( |$)/,
    "call Deno.serve() in the module and run it directly (sam run web.ts)",
  ],
  [/^tsx$/, /^/, "load tsx into the program (sam run --runtime-flag=--import=tsx web.ts)"],
  [
    /^ts-node(-\w+)?$/,
    /^/,
    "load ts-node into the program (sam run --runtime-flag=--require=ts-node/register web.ts)",
  ],
  [/^(next|nuxt|vite|astro|nest|react-router-serve)$/, /^/, bin],
  [/^(nodemon|pm2-runtime|forever)$/, /^/, "run the program directly (sam itself restarts it)"],
  [
    /^(cross-env|dotenv|env-cmd)$/,
    /^/,
    "run the program directly and set its variables with --env",
  ],
];

/** The advice for a runtime that restarts the program itself. Like that of a wrapper, it completes "To detect hangs, …". */
export const watchAdvice = "leave out --watch or --hot";

/**
 * Returns the advice for a known wrapper. The caller must not pass a command line of `node`, `deno` or `bun` that runs a program
 * itself.
 */
export function wrapperAdvice(command: string, args: readonly string[]): string | undefined {
  const name = command.slice(command.lastIndexOf("/") + 1);
  const words = args.join(" ");
  return rows.find(([commands, start]) => commands.test(name) && start.test(words))?.[2];
}
