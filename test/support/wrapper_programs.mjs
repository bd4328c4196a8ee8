// Programs that users start by a wrapper, such as `npm start`: they listen on $PORT, and know nothing of SAM. test/tools/wrappers.mjs
// runs them. `/hang` blocks the event loop in the function `hangs`. `globalThis.user` answers all other paths.

import { next } from "./server_programs.mjs";

const lines = (...all) => all.join("\n") + "\n";
const hangs = "function hangs() { for (;;); }";
/** The handlers of a program that finishes its work before it ends. */
const handlers = (user) => [
  'for (const signal of ["SIGTERM", "SIGINT"]) {',
  `  process.on(signal, () => ${user}.works(signal, () => process.exit(0)));`,
  "}",
];

/** Files that a user has in every project. NODE_OPTIONS and BUN_OPTIONS load them into each process. */
const common = {
  "own.mjs": "globalThis.isImported = true;\n",
  "own.cjs": lines(
    'const { spawnSync } = require("node:child_process");',
    "const seen = () => ({",
    "  env: process.env,",
    "  execArgv: process.execArgv,",
    "  isImported: globalThis.isImported,",
    "});",
    "let atStart;",
    "globalThis.user = {",
    "  begins() {",
    "    atStart = JSON.stringify(seen());",
    "  },",
    "  works(signal, then) {",
    '    console.log("got", signal);',
    '    setTimeout(() => { console.log("done"); then(); }, 2000);',
    "  },",
    "  answers(path) {",
    '    if (path === "/crash") process.exit(3);',
    '    if (path === "/end") process.exit(0);',
    '    if (path !== "/facts") return String(process.pid);',
    "    const code = `console.log(JSON.stringify((${seen})()))`;",
    '    const { stdout } = spawnSync(process.execPath, ["-e", code]);',
    "    const child = JSON.parse(String(stdout));",
    "    return JSON.stringify({ atStart: JSON.parse(atStart), now: seen(), child });",
    "  },",
    "};",
  ),
};

const typescript = JSON.stringify({
  compilerOptions: {
    module: "commonjs",
    target: "es2022",
    esModuleInterop: true,
    experimentalDecorators: true,
    emitDecoratorMetadata: true,
    skipLibCheck: true,
    types: ["node"],
    outDir: "dist",
    sourceMap: true,
  },
});

const expressBody = lines(
  "user.begins();",
  ...handlers("user"),
  "const app = express();",
  `app.get("/hang", ${hangs});`,
  "app.use((request, response) => { response.send(user.answers(request.path)); });",
  "app.listen(process.env.PORT);",
);

/** The files of each project. */
export const projects = {
  express: {
    ...common,
    "package.json": JSON.stringify({
      private: true,
      scripts: { start: "node web.js", "start:bun": "bun web.js" },
    }),
    "web.js": `const express = require("express");\n${expressBody}`,
  },
  typescript: {
    ...common,
    "package.json": JSON.stringify({
      private: true,
      scripts: { start: "tsc -p . && node dist/web.js" },
    }),
    "tsconfig.json": typescript,
    "web.ts": `import express from "express";\ndeclare const user: any;\n${expressBody}`,
  },
  deno: {
    ...common,
    "package.json": JSON.stringify({ private: true, scripts: {} }),
    "deno.json": JSON.stringify({ tasks: { start: "deno run -A web.ts" } }),
    "web.ts": lines(
      'import process from "node:process";',
      'import "./own.cjs";',
      'import express from "express";',
      "const { user } = globalThis as any;",
    ) + expressBody,
  },
  nest: {
    ...common,
    "package.json": JSON.stringify({
      private: true,
      scripts: { build: "tsc -p .", "start:prod": "node dist/main.js" },
    }),
    "tsconfig.json": typescript,
    "main.ts": lines(
      'import "reflect-metadata";',
      'import { Controller, Get, Module, Param } from "@nestjs/common";',
      'import { NestFactory } from "@nestjs/core";',
      "declare const user: any;",
      "@Controller()",
      "class WebController {",
      '  @Get("hang")',
      "  hangs() { for (;;); }",
      '  @Get(":path")',
      '  answers(@Param("path") path: string) { return user.answers(`/${path}`); }',
      "  beforeApplicationShutdown(signal: string) {",
      "    return new Promise<void>((done) => user.works(signal, done));",
      "  }",
      "}",
      "@Module({ controllers: [WebController] })",
      "class WebModule {}",
      "user.begins();",
      "void NestFactory.create(WebModule, { logger: false }).then((app) => {",
      "  app.enableShutdownHooks();",
      "  return app.listen(process.env.PORT!);",
      "});",
    ),
  },
  next: {
    ...next.files,
    ...common,
    "package.json": JSON.stringify({
      private: true,
      scripts: { build: "next build", start: "next start" },
    }),
    "app/hang/route.js": lines(
      'export const dynamic = "force-dynamic";',
      hangs,
      "export function GET() { hangs(); }",
    ),
    "app/[path]/route.js": lines(
      'export const dynamic = "force-dynamic";',
      "export async function GET(request, { params }) {",
      "  return new Response(globalThis.user.answers(`/${(await params).path}`));",
      "}",
    ),
    "instrumentation.js": lines(
      "export async function register() {",
      '  if (process.env.NEXT_RUNTIME !== "nodejs") return;',
      "  globalThis.user.begins();",
      ...handlers("globalThis.user"),
      "}",
    ),
  },
};
