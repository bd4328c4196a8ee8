/**
 * Node loads this file ahead of a program, by `--require`. `--import` would make Node load the program as an ES module,
 * which bypasses the hooks of CommonJS loaders: ts-node, esbuild-register, `node -r ./hook.js app.foo`.
 *
 * The program itself is loaded when the preload has registered this process.
 */
interface NodeProcess {
  readonly env: Record<string, string | undefined>;
  readonly execArgv: string[];
  getBuiltinModule(name: "node:module"): { runMain: (main?: unknown) => void };
}
const { process } = globalThis as unknown as { process: NodeProcess };
const { env, execArgv } = process;
const link = env["SAM_LINK"];

// The server's flags are for no child process of the program, and of its worker threads, which load this file, too.
const end = execArgv.indexOf(__filename) + 1;
const length = execArgv[end - 3] === "--inspect-publish-uid=http" ? 3 : 2;
if (end >= length) execArgv.splice(end - length, length);

// Not in a worker thread, nor in a child process of the program.
if (link !== undefined) {
  // A hook that is loaded after this file may start processes, which do not inherit the link.
  delete env["SAM_LINK"];
  let preloading: Promise<unknown> | undefined;
  const preload = () => {
    if (preloading === undefined) env["SAM_LINK"] = link; // which the preload takes
    return preloading ??= import("./preload.ts");
  };
  const modules = process.getBuiltinModule("node:module");
  const { runMain } = modules;
  modules.runMain = async (main) => {
    modules.runMain = runMain; // a runner such as ts-node calls it again for its own program
    await preload();
    // An error that the program throws is an uncaught exception, and not a rejection.
    setImmediate(() => runMain(main));
  };
  // Node loads no program in some of its modes (`--test`).
  setImmediate(() => void preload());
}
