// Servers as their authors write them: they listen on $PORT or on the framework's default port, and know nothing of SAM.
// test/tools/servers.mjs runs them.

/** The faults of a new version. `code` stands at its beginning; `report` is what `sam reload` says. */
export const faults = {
  "throws at start": {
    code: 'throw new Error("broken");',
    // Next.js goes on, and answers 500.
    report: /the replacement \(pid \d+\) ended with exit code \d+|answered 500/,
  },
  "hangs at start": {
    code: "for (;;);",
    report: /\(pid \d+\) ended by SIG\w+ (while it was starting|after it stopped responding)/,
  },
  "exits after 0.5 s": {
    code: "setTimeout(() => process.exit(1), 500);",
    // A health check may notice the end first.
    report: /the replacement \(pid \d+\) (ended with exit code 1|failed its health check)/,
  },
  "answers 500 to /healthz": { code: "", report: /answered 500/ },
};

const lines = (...all) => all.join("\n") + "\n";
const wait = "new Promise((resolve) => setTimeout(resolve, 30))";
const hang = 'console.log("hangs", Date.now()); for (;;);';

/**
 * Servers by name. `/` answers the version after 30 ms, `/healthz` a status, and `/hang` blocks the event loop for ever.
 * `graceful` is what the docs of the framework say of SIGTERM.
 */
export const servers = {
  express: {
    packages: ["express@5"],
    imports: 'import express from "express";',
    body: lines(
      "const app = express();",
      'app.get("/", async (request, response) => {',
      `  await ${wait};`,
      "  response.send(version);",
      "});",
      'app.get("/healthz", (request, response) => response.sendStatus(health));',
      `app.get("/hang", () => { ${hang} });`,
      "const server = app.listen(process.env.PORT ?? 3000);",
    ),
    graceful: 'process.on("SIGTERM", () => server.close());\n',
  },
  fastify: {
    packages: ["fastify@5"],
    imports: 'import Fastify from "fastify";',
    body: lines(
      "const fastify = Fastify();",
      'fastify.get("/", async () => {',
      `  await ${wait};`,
      "  return version;",
      "});",
      'fastify.get("/healthz", (request, reply) => reply.code(health).send());',
      `fastify.get("/hang", () => { ${hang} });`,
      'await fastify.listen({ port: Number(process.env.PORT ?? 3000), host: "0.0.0.0" });',
    ),
    graceful: 'process.on("SIGTERM", () => fastify.close());\n',
  },
  hono: {
    packages: ["hono@4", "@hono/node-server@2"],
    imports: 'import { Hono } from "hono";\nimport { serve } from "@hono/node-server";',
    app: lines(
      "const app = new Hono();",
      'app.get("/", async (c) => {',
      `  await ${wait};`,
      "  return c.text(version);",
      "});",
      'app.get("/healthz", (c) => c.text("", health));',
      `app.get("/hang", () => { ${hang} });`,
    ),
    body: "const server = serve({ fetch: app.fetch, port: Number(process.env.PORT ?? 3000) });\n",
    graceful: lines(
      'process.on("SIGTERM", () => {',
      "  server.close((error) => process.exit(error ? 1 : 0));",
      "});",
    ),
  },
  koa: {
    packages: ["koa@3"],
    imports: 'import Koa from "koa";',
    body: lines(
      "const app = new Koa();",
      "app.use(async (ctx) => {",
      '  if (ctx.path === "/healthz") {',
      "    ctx.status = health;",
      '  } else if (ctx.path === "/hang") {',
      `    ${hang}`,
      "  } else {",
      `    await ${wait};`,
      "    ctx.body = version;",
      "  }",
      "});",
      "const server = app.listen(process.env.PORT ?? 3000);",
    ),
    graceful: 'process.on("SIGTERM", () => server.close());\n',
  },
};

/** Hono on the servers of Deno and Bun. */
servers["hono on Deno.serve"] = {
  ...servers.hono,
  imports: 'import { Hono } from "hono";\nimport process from "node:process";',
  body: "const server = Deno.serve({ port: Number(process.env.PORT ?? 3000) }, app.fetch);\n",
  graceful: 'Deno.addSignalListener("SIGTERM", () => server.shutdown());\n',
};
servers["hono on Bun"] = {
  ...servers.hono,
  imports: 'import { Hono } from "hono";',
  body: "export default { port: process.env.PORT ?? 3000, fetch: app.fetch };\n",
};
servers["hono on Bun.serve"] = {
  ...servers["hono on Bun"],
  body: "const server = Bun.serve({ port: process.env.PORT ?? 3000, fetch: app.fetch });\n",
  graceful:
    'process.on("SIGTERM", async () => {\n  await server.stop();\n  process.exit(0);\n});\n',
};

/** The source of a server. `fault` is one of `faults`. */
export function sourceOf(name, { version, fault, isGraceful = false }) {
  const { imports, app = "", body, graceful } = servers[name];
  const health = fault === "answers 500 to /healthz" ? 500 : 200;
  const facts = `const version = ${JSON.stringify(version)};\nconst health = ${health};\n`;
  return [imports, faults[fault]?.code ?? "", facts, app, body, isGraceful ? graceful : ""].join(
    "\n",
  );
}

/**
 * The files of a Next.js application. It reads the file `release`, because a build for each version would take long. `fault` is a
 * line of it.
 */
export const next = {
  packages: ["next@16", "react@19", "react-dom@19"],
  files: {
    "next.config.mjs": "export default { images: { unoptimized: true } };\n",
    "app/layout.js": 'import { createElement } from "react";\nexport default ({ children }) =>\n' +
      '  createElement("html", null, createElement("body", null, children));\n',
    "app/about/page.js": 'export default () => "about";\n',
    "app/route.js": lines(
      'export const dynamic = "force-dynamic";',
      "export async function GET() {",
      `  await ${wait};`,
      "  return new Response(globalThis.release.version);",
      "}",
    ),
    "app/healthz/route.js": lines(
      'export const dynamic = "force-dynamic";',
      "export function GET() {",
      '  const isBroken = globalThis.release.fault === "answers 500 to /healthz";',
      "  return new Response(null, { status: isBroken ? 500 : 200 });",
      "}",
    ),
    "app/hang/route.js": lines(
      'export const dynamic = "force-dynamic";',
      `export function GET() {\n  ${hang}\n}`,
    ),
    // Next.js calls register() once, when the server starts.
    "instrumentation.js": lines(
      "export async function register() {",
      '  if (process.env.NEXT_RUNTIME !== "nodejs") return;',
      '  const { readFileSync } = await import("node:fs");',
      '  globalThis.release = JSON.parse(readFileSync("release", "utf8"));',
      "  const { fault } = globalThis.release;",
      ...Object.entries(faults).filter(([, { code }]) => code !== "")
        .map(([name, { code }]) => `  if (fault === ${JSON.stringify(name)}) ${code}`),
      "}",
    ),
  },
  /** The text of the file `release`. */
  release: ({ version, fault }) => JSON.stringify({ version, fault }),
};
