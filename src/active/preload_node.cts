/**
 * Node loads this file ahead of a program, by `--require`. `--import` would make Node load the program as an ES module,
 * which bypasses the hooks of CommonJS loaders: ts-node, esbuild-register, `node -r ./hook.js app.foo`.
 *
 * The program is loaded when the preload has registered this process.
 */
interface NodeProcess {
  readonly env: Record<string, string | undefined>;
  readonly execArgv: string[];
  getBuiltinModule(name: "node:module"): { runMain: (main?: unknown) => void };
}
const { process } = globalThis as unknown as { process: NodeProcess };
const { env, execArgv } = process;
const link = env["SAM_LINK"];

// Child processes of the program must not inherit the flags that the server has added. Nor must those of its worker threads,
// which load this file as well.
const flagsEnd = execArgv.indexOf(__filename) + 1;
const flagCount = execArgv[flagsEnd - 3] === "--inspect-publish-uid=http" ? 3 : 2;
if (flagsEnd >= flagCount) execArgv.splice(flagsEnd - flagCount, flagCount);

// Worker threads and child processes of the program have no link.
if (link !== undefined) {
  // Hooks and Node's test runner may start processes before the preload is loaded. They must not inherit the link.
  delete env["SAM_LINK"];
  let preloading: Promise<unknown> | undefined;
  const preload = () => {
    if (preloading === undefined) {
      Object.assign(globalThis, { [Symbol.for("@x/sam/address")]: link }); // the preload takes it out again
    }
    return preloading ??= import("./preload.ts");
  };
  const modules = process.getBuiltinModule("node:module");
  const { runMain } = modules;
  modules.runMain = async (main) => {
    modules.runMain = runMain; // a runner such as ts-node calls it again for its own program
    await preload();
    // Outside of this promise, an error that the program throws is an uncaught exception, as without a preload.
    setImmediate(() => runMain(main));
  };
  // Some modes of Node load no program, such as `--test`.
  setImmediate(() => void preload());
}
