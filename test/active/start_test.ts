// How a program starts: without what it does not need, and from the package as npm has it.
import { assert, assertEquals } from "@std/assert";
import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { processTest } from "../support/processes.ts";
import { currentRuntime } from "../support/runtimes.ts";

processTest("an active process on Deno starts without Deno's Node layer", async (stage) => {
  const watched = stage.supervise(
    "active/light",
    { timeInterval: 60_000, recoveryPolicy: "quit" },
    {
      runtime: "deno",
    },
  );
  assertEquals((await stage.line("started"))["early"], []);
  assertEquals((await watched.finished()).code, 0);
});

const hasCompileCache = /^node2[246]/.test(currentRuntime);
processTest(
  "a program that is killed has left its compiled code, where the user wants a cache",
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

/** dist/, for sources and for their compiled copies in .build/test. */
const dist = ["../../dist/", "../../../dist/"].map((path) =>
  fileURLToPath(new URL(path, import.meta.url))
)
  .find((path) => existsSync(`${path}mod.js`));

processTest("the package of npm runs a program, watches it and starts it again", async (stage) => {
  assert(dist !== undefined, "dist/ is missing: npm run build");
  const server = stage.run("active/package", { args: [`${dist}mod.js`] });
  await stage.line("started", 2);
  const stopped = await stage.line("stopped");
  assertEquals([stopped["instance"], stopped["ofOurs"]], [2, true]);
  assertEquals(await server.exited, { code: 3, signal: null }, server.stderr());
});

processTest("the package's testing entry is one with its main entry", async () => {
  const { SamError } = await import(`${dist}mod.js`) as typeof import("../../mod.ts");
  const { memoryTransport, transportConformance } = await import(
    `${dist}testing.js`
  ) as typeof import("../../src/testing/mod.ts");
  for (const check of transportConformance(memoryTransport())) await check.run();
  const error = await memoryTransport().connect("none").catch((error) => error);
  assert(error instanceof SamError);
});
