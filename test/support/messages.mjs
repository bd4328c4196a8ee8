// Collects the texts that users read: error messages, log lines, help. They are the strings of the sources that contain at
// least two words, found in the syntax tree, so that no string is missed and no comment is taken for one.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { root } from "./setup.mjs";
import { filesIn } from "./files.mjs";

// By require(), because Deno also checks this file, and deno.json does not name these packages.
const require = createRequire(import.meta.url);
const { build, transform } = require("esbuild");
const { parseAst } = require("rollup/parseAst");

/** Two words with a space between them, one of them of three letters or more. */
const prose = /\p{L}{3,}[\p{L}\d'’)}:;,.…]* \(?[\p{L}{]|[\p{L}}][:;,]? \(?\p{L}{3,}/u;

/** The error classes: their arguments are a code and a message. */
const errorClasses = new Set(["SamError", "CommandError"]);

/** Longer texts are shell scripts, style sheets and the like; help has a section of its own. */
const maxLines = 4;

/** The messages of each source, `{ path, messages }`, in the order of the paths. */
async function collectMessages() {
  const paths = [...filesIn("src", ".ts"), ...filesIn("transports", ".ts")].sort();
  const found = await Promise.all(paths.map(async (path) => {
    const source = readFileSync(join(root, path), "utf8");
    const { code } = await transform(source, { loader: "ts", target: "esnext", charset: "utf8" });
    return { path, messages: messagesIn(parseAst(code)) };
  }));
  return found.filter(({ messages }) => messages.length > 0);
}

/** The help texts of the command, as a terminal shows them. */
async function collectHelp() {
  const { outputFiles: [{ text }] } = await build({
    entryPoints: [join(root, "src/cli/command_line/help.ts")],
    bundle: true,
    write: false,
    format: "esm",
    platform: "node",
    logLevel: "silent",
  });
  const { help, runHelp } = await import(`data:text/javascript,${encodeURIComponent(text)}`);
  return [["sam --help", help], ["sam run --help", runHelp(false)], [
    "sam run --help-all",
    runHelp(true),
  ]];
}

/** All of them as one text, to be compared with the one that is in the checkout. */
export async function messageText() {
  const sections = [
    ...await collectHelp(),
    ...(await collectMessages()).map(({ path, messages }) => [path, messages.join("\n")]),
  ];
  const indented = (text) => text.trimEnd().replace(/^(?=.)/gm, "  ").replace(/[ \t]+$/gm, "");
  return sections.map(([title, text]) => `${title}\n\n${indented(text)}\n`).join("\n");
}

function messagesIn(program) {
  const messages = [];
  const visit = (node) => {
    if (node === null || typeof node !== "object") return;
    if (Array.isArray(node)) return node.forEach(visit);
    if (node.type === "ImportDeclaration" || node.type === "ImportExpression") return;
    if (node.type === "NewExpression" && errorClasses.has(node.callee.name)) {
      const [errorCode, message, ...others] = node.arguments;
      const text = textOf(message);
      if (text !== undefined && typeof errorCode.value === "string") {
        messages.push(`${errorCode.value}: ${text}`);
        visitExpressions(message);
        return others.forEach(visit);
      }
    }
    const text = textOf(node);
    if (text !== undefined) {
      if (prose.test(text) && text.trim().split("\n").length <= maxLines) messages.push(text);
      return visitExpressions(node);
    }
    for (const value of Object.values(node)) visit(value);
  };
  const visitExpressions = (node) => {
    if (node.type === "TemplateLiteral") node.expressions.forEach(visit);
    else if (node.type === "BinaryExpression") [node.left, node.right].forEach(visitExpressions);
    else if (node.type !== "Literal") visit(node);
  };
  visit(program);
  return messages;
}

/** The text of a string, a template or a sum of them, with `{name}` for what is put in; undefined for anything else. */
function textOf(node) {
  if (node?.type === "Literal") return typeof node.value === "string" ? node.value : undefined;
  if (node?.type === "TemplateLiteral") {
    return node.quasis.map(({ value }, index) => {
      const expression = node.expressions[index];
      return value.cooked + (expression === undefined ? "" : `{${nameOf(expression)}}`);
    }).join("");
  }
  if (node?.type !== "BinaryExpression" || node.operator !== "+") return undefined;
  const [left, right] = [node.left, node.right].map((side) => textOf(side));
  if (left === undefined && right === undefined) return undefined;
  return (left ?? `{${nameOf(node.left)}}`) + (right ?? `{${nameOf(node.right)}}`);
}

/** A short name for an expression in a template: that of the value that is shown. */
function nameOf(node) {
  switch (node?.type) {
    case "Identifier":
    case "PrivateIdentifier":
      return node.name;
    case "MemberExpression":
      return node.computed ? nameOf(node.object) : nameOf(node.property);
    case "CallExpression":
      return node.arguments.length > 0 && node.callee.type === "Identifier"
        ? nameOf(node.arguments[0])
        : nameOf(node.callee.type === "MemberExpression" ? node.callee.object : node.callee);
    case "ChainExpression":
      return nameOf(node.expression);
    case "LogicalExpression":
    case "BinaryExpression":
      return nameOf(node.left);
    default:
      return "…";
  }
}
