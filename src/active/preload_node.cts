/**
 * The preload file for Node, loaded with `--require`. It delays the program until the preload module has registered this process. In
 * a worker of node:cluster, it delays nothing. The version of Node there may be older than those that SAM supports, so this file has
 * syntax of Node 14 only.
 *
 * `--import` would make Node load the program as an ES module, which bypasses the hooks of CommonJS loaders such as ts-node,
 * esbuild-register and `node -r ./hook.js app.foo`.
 */
interface NodeProcess {
  readonly env: Record<string, string | undefined>;
  readonly execArgv: string[];
  getBuiltinModule(name: "node:module"): { runMain: (main?: unknown) => void };
}
const { process } = globalThis as unknown as { process: NodeProcess };
const { env, execArgv } = process;
const link = env["SAM_LINK"];

// Child processes of the program must not inherit the flags that the server has added. Worker threads load this file as well,
// so it also removes the flags for the child processes that they start.
const flagsEnd = execArgv.indexOf(__filename) + 1;
const flagCount = execArgv[flagsEnd - 3] === "--inspect-publish-uid=http" ? 3 : 2;
if (flagsEnd >= flagCount) execArgv.splice(flagsEnd - flagCount, flagCount);

// In a worker of node:cluster, cluster_primary.cts has set this variable.
const member = env["SAM_MEMBER"];
if (member !== undefined) {
  delete env["SAM_MEMBER"];
  setImmediate(() => void import("./member.ts").then(({ attach }) => attach(member), () => {}));
}

// Worker threads and child processes of the program have no link.
if (link !== undefined) {
  // Hooks and Node's test runner may start processes before the preload module is loaded. These must not inherit the link.
  delete env["SAM_LINK"];
  let preloading: Promise<unknown> | undefined;
  const preload = () => {
    if (preloading === undefined) {
      Object.assign(globalThis, { [Symbol.for("@x/sam/address")]: link }); // the preload module removes it
      preloading = import("./preload.ts");
    }
    return preloading;
  };
  const modules = process.getBuiltinModule("node:module");
  const { runMain } = modules;
  modules.runMain = async (main) => {
    modules.runMain = runMain; // a runner such as ts-node calls runMain() again for its own program
    await preload();
    // Called outside this promise, so that an error of the program is an uncaught exception, as without a preload.
    setImmediate(() => runMain(main));
  };
  // In modes such as `--test`, Node loads no program and never calls runMain().
  setImmediate(() => void preload());
}
