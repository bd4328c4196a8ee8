/** Wrappers: commands that run the program in another process. This file has all that SAM knows about them. */

/**
 * `command` matches the name of the wrapper without its directory, `args` its arguments. `advice` completes "To detect hangs, …" for
 * a program that SAM cannot find below the wrapper. It is left out for a wrapper that may run a program of any language.
 */
type Row = readonly [command: RegExp, args: RegExp, advice?: string];

const script = "run the program that the script starts (sam run web.js)";
const bin = "run the program's file directly (sam run node_modules/.bin/NAME)";

const shell = /^((ba|da|z)?sh|busybox)$/;

const rows: readonly Row[] = [
  [/^(npx|pnpx|bunx)$/, /^/, bin],
  [/^(npm|pnpm|yarn|yarnpkg|corepack)$/, /(^| )(exec|x|dlx)( |$)/, bin],
  [/^(npm|pnpm|yarn|yarnpkg|corepack)$/, /^/, script],
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
  [shell, /./],
  [/^(env|nice|ionice|setsid|setpriv|stdbuf|timeout|tini|dumb-init)$/, /./],
];

/** The advice for a runtime that restarts the program itself. Like that of a wrapper, it completes "To detect hangs, …". */
export const watchAdvice = "leave out --watch or --hot";

/** A known wrapper. */
export interface Wrapper {
  /** Advice for the user, if SAM cannot find the program below the wrapper. */
  readonly advice?: string | undefined;
}

/**
 * Returns the wrapper that a command is; undefined if it is none. The caller must not pass a command line of `node`, `deno` or
 * `bun` that runs a program itself. `firstLine` is that of the file `command`, or empty.
 */
export function wrapperOf(
  command: string,
  args: readonly string[],
  firstLine: string,
): Wrapper | undefined {
  const name = command.slice(command.lastIndexOf("/") + 1);
  const words = args.join(" ");
  const row = rows.find(([commands, start]) => commands.test(name) && start.test(words));
  if (row) return { advice: row[2] };
  return /^#!.*[ /](ba|da|z)?sh( |$)/.test(firstLine) ? {} : undefined;
}

/** Scripts that are wrappers themselves, as the path of the script and its arguments. */
const wrappers: readonly RegExp[] = [
  /^\S*\/(npm|npx|pnpm|pnpx|yarn|yarnpkg|corepack)(-cli)?(-[\d.]+)?\.[cm]?js( |$)/,
  /\/node_modules\/(corepack|nodemon|pm2|forever|concurrently|cross-env|dotenv-cli|env-cmd|npm-run-all2?|turbo|nx|lerna)\/\S+( |$)/,
  /\/node_modules\/tsx\/dist\/cli\.[cm]?js( |$)/,
];

/** Builds, which end by themselves. The processes that a build starts belong to it. */
const builds: readonly RegExp[] = [
  /\/node_modules\/(typescript|webpack|rollup|esbuild|tsup|prisma|eslint)\/\S+( |$)/,
  /\/node_modules\/\S+ build( |$)/,
];

const sourceOf = (all: readonly RegExp[]) => all.map(({ source }) => `(?:${source})`).join("|");

/** The sources of regular expressions for the scripts that are no program. All other scripts may be the program. */
export const scripts: { readonly wrappers: string; readonly builds: string } = {
  wrappers: sourceOf(wrappers),
  builds: sourceOf(builds),
};
