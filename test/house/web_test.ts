// examples/web.ts heals in front of the reader's eyes: on Deno with the permissions that docs/getting-started.md lists, and no more.
import { assert, assertEquals, assertMatch } from "@std/assert";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { page } from "../support/command.ts";
import { test } from "../support/harness.ts";
import { withoutLeaks } from "../support/leaks.ts";
import { freePorts } from "../support/ports.ts";
import { eventually } from "../support/processes.ts";
import { currentRuntime, fixture, runtimePath, sourceFixture } from "../support/runtimes.ts";

/** The flags of the `deno run` line in docs/getting-started.md. */
function tutorialFlags(): string[] {
  const text = readFileSync(
    sourceFixture("../../docs/getting-started").replace(/ts$/, "md"),
    "utf8",
  );
  const line = text.match(/^deno run (.*) examples\/web\.ts$/m);
  return line![1]!.split(" ");
}

/** Fetches a page until its text matches, and returns the numbers in the text. */
function numbersOf(port: number, path: string, what: RegExp, after = 0): Promise<number[]> {
  return eventually(`${what} of ${path}`, async () => {
    const found = (await page(port, path))?.match(what)?.slice(1).map(Number);
    return found && (found[0] ?? Infinity) > after && found;
  });
}

test("the example web server recovers from /hang and /crash, and keeps its count of visits", () =>
  withoutLeaks(async () => {
    const [port] = await freePorts(1) as [number];
    const flags = currentRuntime === "deno" ? ["run", "--no-prompt", ...tutorialFlags()] : [];
    const server = spawn(runtimePath(currentRuntime), [...flags, fixture("../../examples/web")], {
      env: { ...process.env, PORT: String(port) },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    server.stdout.on("data", (text) => output += text);
    server.stderr.on("data", (text) => output += text);
    const exited = new Promise((resolve) => server.on("close", resolve));
    // The number of the first instance that answers does not matter: the machine may be slow.
    const visit = (after?: number) => numbersOf(port, "/", /^instance (\d+), visit (\d+)/, after);
    try {
      const [first, visits] = await visit();
      await numbersOf(port, "/hang", /loop is now blocked/);
      const [second, more] = await visit(first);
      await numbersOf(port, "/crash", /the process crashes now/);
      const [, most] = await visit(second);
      assert(visits! < more! && more! < most!, `${visits}, ${more}, ${most}`);
      assertMatch(output, /instance \d+ \(pid \d+\) stopped responding: no heartbeat for 500 ms;/);
      assertMatch(output, /an uncaught error/);
    } catch (error) {
      throw new Error(`the server said: ${output}`, { cause: error });
    } finally {
      process.kill(server.pid!, "SIGINT");
    }
    assertEquals(await exited, 0, output);
  }));
