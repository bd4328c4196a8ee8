// examples/web.ts heals in front of the reader's eyes: on Deno with the permissions that the README lists, and no more.
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { get } from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { test } from "./support/harness.ts";
import { withoutLeaks } from "./support/leaks.ts";
import { eventually } from "./support/processes.ts";
import { currentRuntime, fixture, runtimePath, sourceFixture } from "./support/runtimes.ts";

/** The flags of the `deno run` line in the README. */
function readmeFlags(): string[] {
  const text = readFileSync(sourceFixture("../../README").replace(/ts$/, "md"), "utf8");
  const line = text.match(/^deno run (.*) examples\/web\.ts$/m);
  return line![1]!.split(" ");
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

/** The body, or undefined while nobody answers. */
function page(port: number, path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const request = get(
      { port, path, host: "127.0.0.1", agent: false, timeout: 500 },
      (response) => {
        let body = "";
        response.setEncoding("utf8").on("data", (text) => body += text);
        response.on("close", () => resolve(body));
      },
    );
    request.on("timeout", () => request.destroy());
    request.on("error", () => resolve(undefined));
  });
}

async function pageOf(instance: number, port: number): Promise<string> {
  let body: string | undefined;
  let asked: Promise<void> | undefined;
  return await eventually(`instance ${instance}`, () => {
    asked ??= page(port, "/").then((text) => {
      body = text;
      asked = undefined;
    });
    return body?.startsWith(`instance ${instance},`) && body;
  });
}

test("the example web server heals from /hang and /crash, and keeps its visits", () =>
  withoutLeaks(async () => {
    const port = await freePort();
    const flags = currentRuntime === "deno" ? ["run", "--no-prompt", ...readmeFlags()] : [];
    const server = spawn(runtimePath(currentRuntime), [...flags, fixture("../../examples/web")], {
      env: { ...process.env, PORT: String(port) },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    server.stdout.on("data", (text) => output += text);
    server.stderr.on("data", (text) => output += text);
    const exited = new Promise((resolve) => server.on("close", resolve));
    const visits = (body: string) => Number(body.match(/visit (\d+)/)![1]);
    try {
      const first = visits(await pageOf(1, port));
      assertStringIncludes(await page(port, "/hang") ?? "", "hangs now");
      const second = visits(await pageOf(2, port));
      assertEquals(second > first, true);
      await page(port, "/crash");
      assertEquals(visits(await pageOf(3, port)) > second, true);
      assertMatch(output, /instance 1 is given up \(timeout: no heartbeat for 500 ms\)/);
    } finally {
      process.kill(server.pid!, "SIGINT");
    }
    assertEquals(await exited, 0, output);
  }));
