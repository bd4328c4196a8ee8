// The report of a hang names lines of the sources if the program was compiled with source maps.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, assertEquals } from "@std/assert";
import { loadRuntime } from "../../src/runtime/load.ts";
import { findSources } from "../../src/supervisor/instance/source_map.ts";
import { test } from "../support/harness.ts";
import { processTest, type Stage } from "../support/processes.ts";
import { currentRuntime, packageCommand, runtimePath } from "../support/runtimes.ts";

/** Line 1 of the script comes from line 4 of the source. */
const map = {
  version: 3,
  sources: ["file:///a/hang.ts"],
  mappings:
    "AAGA,SAAS,MAAM,CAAI;EACjB;AACF;AACA,SAAS;EAAU,MAAM;IAAE,GAAG;EAAE;AAAS;AACzC,WAAW,OAAO;AAClB,QAAQ,GAAG,CAAC",
};
const url = "file:///a/dist/hang.js";
const none = { readText: () => undefined };

const inline = (text: string) =>
  `data:application/json;charset=utf-8;base64,${
    btoa(String.fromCharCode(...new TextEncoder().encode(text)))
  }`;

/** A runtime that can read one file. */
const machine = (path: string, content: unknown) => ({
  readText: (asked: string) => asked === path ? JSON.stringify(content) : undefined,
});

function find(mapUrl: string, files: Parameters<typeof findSources>[1] = none, line = 1) {
  return findSources([{ script: { url, mapUrl }, line, column: 2 }], files)[0];
}

test("a place in a script that Deno compiled from TypeScript is mapped to its source", () => {
  const script = { url: "file:///a/hang.ts", mapUrl: inline(JSON.stringify(map)) };
  const found = { url: "file:///a/hang.ts", line: 4, column: 2 };
  const places = [2, 9].map((column) => ({ script, line: 1, column }));
  assertEquals(findSources(places, none), [found, found]);
});

test("the sources of a map are relative to the map, or to the script that holds the map", () => {
  const relative = { ...map, sources: ["../src/größe.ts"] };
  const found = { url: "file:///a/src/gr%C3%B6%C3%9Fe.ts", line: 4, column: 2 };
  assertEquals(find(inline(JSON.stringify(relative))), found);
  assertEquals(find("hang.js.map", machine("/a/dist/hang.js.map", relative)), found);
  assertEquals(find("file:///a/m/hang.map", machine("/a/m/hang.map", relative)), found);
  assertEquals(find("my%20map", machine("/a/dist/my map", relative)), found);
});

test("in an index map, the section that contains the place is used", () => {
  const second = { ...map, sources: ["second.ts"] };
  const sections = [
    { offset: { line: 2, column: 1 }, map },
    { offset: { line: 4, column: 0 }, map: second },
  ];
  const files = machine("/a/dist/hang.js.map", { version: 3, sections });
  const found = [1, 2, 3, 4, 5].map((line) => find("hang.js.map", files, line));
  assertEquals(found, [
    { url, line: 1, column: 2 },
    { url: "file:///a/hang.ts", line: 3, column: 0 },
    { url: "file:///a/hang.ts", line: 4, column: 2 },
    { url: "file:///a/dist/second.ts", line: 3, column: 0 },
    { url: "file:///a/dist/second.ts", line: 4, column: 2 },
  ]);
});

test("without a valid local source map, the place in the script is reported", () => {
  const texts = ["no JSON", "{}", "null", '{"mappings":"A"}', '{"sections":[{}]}'];
  const elsewhere = [
    "https://example.org/hang.js.map",
    "file://host/a/dist/hang.js.map",
    "http://",
  ];
  for (const mapUrl of ["", "hang.js.map", ...elsewhere, ...texts.map(inline)]) {
    const asked: string[] = [];
    const files = { readText: (path: string) => void asked.push(path) };
    assertEquals(find(mapUrl, files), { url, line: 1, column: 2 }, mapUrl);
    assertEquals(asked, mapUrl === "hang.js.map" ? ["/a/dist/hang.js.map"] : []);
  }
});

test("a runtime reads regular files only, and only up to a size limit", async () => {
  const runtime = await loadRuntime();
  const directory = mkdtempSync(join(tmpdir(), "read-"));
  const [file, pipe] = [`${directory}/file`, `${directory}/pipe`];
  writeFileSync(file, "größe");
  spawnSync("mkfifo", [pipe]);
  const found = [[file, 7], [file, 6], [directory, 1e6], [pipe, 1e6], [`${directory}/none`, 1e6]]
    .map(([path, maxBytes]) => runtime.readText(path as string, maxBytes as number));
  rmSync(directory, { recursive: true });
  assertEquals(found, ["größe", undefined, undefined, undefined, undefined]);
});

test("a source map that is too large is not read", () => {
  let limit = Infinity;
  const files = { readText: (_path: string, maxBytes: number) => void (limit = maxBytes) };
  find("hang.js.map", files);
  assert(limit < 32 * 1024 * 1024, String(limit));
  const large = inline(JSON.stringify(map)).replace(",", `;${"x".repeat(limit)},`);
  assertEquals(find(large), { url, line: 1, column: 2 });
});

const order = `interface Order {
  readonly id: number;
}

export function placeOrder(order: Order): void {
  for (;;) Math.hypot(order.id, 4);
}
`;
const app = `import { placeOrder } from "./order.ts";
setTimeout(() => placeOrder({ id: 4711 }), 300);
`;
const loopLine = 1 + order.split("\n").findIndex((text) => text.includes("for (;;)"));

/** A program in TypeScript that hangs. */
function writeProject(stage: Stage): void {
  mkdirSync(`${stage.directory}/src`);
  writeFileSync(`${stage.directory}/src/order.ts`, order);
  writeFileSync(`${stage.directory}/src/app.ts`, app);
  writeFileSync(`${stage.directory}/package.json`, '{ "type": "module" }');
}

const builds: readonly (readonly [name: string, words: readonly string[]])[] = [
  ["tsc", [
    ...["src/app.ts", "--outDir", "dist", "--sourceMap", "--module", "nodenext"],
    ...["--target", "es2022", "--rewriteRelativeImportExtensions", "--lib", "es2022,dom"],
    ...["--types", ""],
  ]],
  ["esbuild", [
    ...["src/app.ts", "--outdir=dist", "--sourcemap", "--bundle", "--minify", "--format=esm"],
  ]],
];
for (const [compiler, words] of builds) {
  processTest(
    `a hang of a program built by ${compiler} names the line of TypeScript`,
    async (stage) => {
      writeProject(stage);
      const command = [packageCommand(compiler), ...words];
      const built = stage.runCommand(runtimePath("node24"), {
        args: command,
        cwd: stage.directory,
      });
      assertEquals(await built.exited, { code: 0, signal: null }, built.stderr());
      // Bun gives no stack, so only the server runs on Bun there.
      const runtime = currentRuntime === "bun" ? "node24" : currentRuntime;
      const watched = stage.supervise({
        module: `${stage.directory}/dist/app.js`,
        preload: true,
        runtime: {
          name: runtime === "deno" ? "deno" : "node",
          path: runtimePath(runtime),
          flags: runtime === "deno" ? ["-A", "--no-config"] : [],
        },
      }, { timeInterval: 1000, startupTimeout: 5000, recoveryPolicy: "restart" });
      for (let instance = 1;; instance++) {
        const { evidence: { stack, noStack } } = await watched.event("recovery", instance);
        if (instance < 4 && noStack?.includes("(waited ")) continue; // the machine is very busy
        const place = `file://${stage.directory}/src/order.ts:${loopLine}:`;
        assert(stack?.includes(place), JSON.stringify({ stack, noStack }));
        return;
      }
    },
  );
}
