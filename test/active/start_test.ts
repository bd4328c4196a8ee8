// The start of a program: without modules that it does not need, and from the npm package.
import { assert, assertEquals } from "@std/assert";
import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { processTest } from "../support/processes.ts";
import { currentRuntime } from "../support/runtimes.ts";

processTest(
  "an active process on Deno does not load Deno's Node compatibility layer",
  async (stage) => {
    const watched = stage.supervise(
      "active/light",
      { timeInterval: 60_000, recoveryPolicy: "quit" },
      {
        runtime: "deno",
      },
    );
    assertEquals((await stage.line("started"))["early"], []);
    assertEquals((await watched.finished()).code, 0);
  },
);

const hasCompileCache = /^node2[246]/.test(currentRuntime);
processTest(
  "a killed program has written its compile cache, if the user has set one",
  async (stage) => {
    const cache = `${stage.directory}/compiled`;
    const server = stage.run("supervisor/standby", {
      args: ["unix", "stays"],
      env: { NODE_COMPILE_CACHE: cache },
    });
    await stage.line("started");
    const files = existsSync(cache) ? readdirSync(cache, { recursive: true }) : [];
    assertEquals(files.length > 3, hasCompileCache, files.join());
    server.kill("SIGTERM");
    await server.exited;
  },
);

/** The directory dist/, from a source file or from its compiled copy in .build/test. */
const dist = ["../../dist/", "../../../dist/"].map((path) =>
  fileURLToPath(new URL(path, import.meta.url))
)
  .find((path) => existsSync(`${path}mod.js`));

processTest("the npm package runs a program, watches it and restarts it", async (stage) => {
  assert(dist !== undefined, "dist/ is missing: npm run build");
  const server = stage.run("active/package", { args: [`${dist}mod.js`] });
  await stage.line("started", 2);
  const stopped = await stage.line("stopped");
  assertEquals([stopped["instance"], stopped["ofOurs"]], [2, true]);
  assertEquals(await server.exited, { code: 3, signal: null }, server.stderr());
});

processTest(
  "the package's testing entry and its main entry share one copy of the library",
  async () => {
    const { SamError } = await import(`${dist}mod.js`) as typeof import("../../mod.ts");
    const { memoryTransport, transportConformance } = await import(
      `${dist}testing.js`
    ) as typeof import("../../src/testing/mod.ts");
    for (const check of transportConformance(memoryTransport())) await check.run();
    const error = await memoryTransport().connect("none").catch((error) => error);
    assert(error instanceof SamError);
  },
);
