// Errors and flags on other operating systems, simulated on Linux.
import { assert, assertEquals, assertThrows } from "@std/assert";
import { SamError } from "../../mod.ts";
import { checkPlatform } from "../../src/runtime/load.ts";
import { test } from "../support/harness.ts";
import { processTest } from "../support/processes.ts";
import { currentRuntime } from "../support/runtimes.ts";

test("SAM runs on Linux and macOS; any other system is NOT_SUPPORTED, and the message names those that work", () => {
  checkPlatform();
  for (const platform of ["linux", "darwin"]) checkPlatform(platform);
  const names = [["win32", "Windows"], ["windows", "Windows"], ["freebsd", "freebsd"]] as const;
  for (const [platform, name] of names) {
    const error = assertThrows(() => checkPlatform(platform), SamError);
    assertEquals(error.code, "NOT_SUPPORTED");
    assert(error.message.startsWith(`SAM does not run on ${name}: use Linux`), error.message);
  }
});

processTest("on Windows, initialize() and supervise() reject with NOT_SUPPORTED", async (stage) => {
  const program = stage.run("runtime/platform", { args: ["win32"] });
  assertEquals(await program.exited, { code: 0, signal: null }, program.stderr());
  assertEquals(stage.lines("result").map(({ call, code }) => [call, code]), [
    ["initialize", "NOT_SUPPORTED"],
    ["supervise", "NOT_SUPPORTED"],
  ]);
});

processTest(
  "on Windows, the sam command names the systems that work, and --help still prints help",
  async (stage) => {
    const sam = stage.run("runtime/platform", { args: ["win32", "run", "--", "true"] });
    assertEquals((await sam.exited).code, 69, sam.stderr());
    assert(sam.stderr().startsWith("sam: SAM does not run on Windows: use Linux"), sam.stderr());
    const help = stage.run("runtime/platform", { args: ["win32", "run", "--help"] });
    assertEquals(await help.exited, { code: 0, signal: null }, help.stderr());
  },
);

processTest(
  "without /proc, a Deno server with all permissions gives a module all permissions",
  async (stage) => {
    const program = stage.run("runtime/platform", { args: ["linux without /proc"] });
    assertEquals(await program.exited, { code: 0, signal: null }, program.stderr());
    assertEquals(stage.lines("imported").length, 1);
  },
  { skip: currentRuntime !== "deno" && "only Deno needs /proc to find out its flags" },
);
