// Reads the identifiers and imports of a TypeScript source, without comments and strings, for the tests of the house
// rules.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const compiled = import.meta.url.endsWith(".js");
const root = fileURLToPath(new URL(compiled ? "../../../" : "../../", import.meta.url));

/** The .ts files below a folder of the checkout, as paths from its root. */
export function sourcesIn(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    return entry.isDirectory() ? sourcesIn(path) : entry.name.endsWith(".ts") ? [path] : [];
  });
}

/** The text of a source. */
export function readSource(path: string): string {
  return readFileSync(join(root, path), "utf8");
}

const comment = String.raw`\/\*[\s\S]*?\*\/|\/\/[^\n]*`;
const quoted = String.raw`"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'`;
const template = "`(?:\\\\.|\\$\\{(?:[^{}`]|\\{[^{}]*\\}|`[^`]*`)*\\}|[^`\\\\])*`";
const notCode = new RegExp(`${comment}|${quoted}|${template}`, "g");
const commentOrText = new RegExp(`(${comment})|${quoted}|${template}`, "g");

/** A source without comments and strings. Code inside of templates stays. */
export function codeOf(source: string): string {
  return source.replace(notCode, (text) => {
    if (text.startsWith("/")) return " ";
    if (!text.startsWith("`")) return '""';
    const inside = [...text.slice(1, -1).matchAll(/\$\{((?:[^{}]|\{[^{}]*\})*)\}/g)];
    return `(${inside.map(([, code]) => codeOf(code!)).join("+")})`;
  });
}

/** The modules that a source imports or exports from. A dynamic import counts; its module is "?" if it is computed. */
export function importsOf(source: string): string[] {
  const code = source.replace(commentOrText, (text, isComment) => isComment ? " " : text);
  const fixed = code.matchAll(/\b(?:from|import)\s*\(?\s*["']([^"'\n]+)["']/g);
  const computed = code.matchAll(/\bimport\s*\(\s*(?!["'])/g);
  return [...[...fixed].map(([, name]) => name!), ...[...computed].map(() => "?")];
}

/** Those of `names` that a source uses as identifiers. Properties (`a.process`, `{ process: 1 }`) do not count. */
export function namesIn(source: string, names: readonly string[]): string[] {
  const code = codeOf(source).replace(/([{,;]\s*)\w+(?=\??:)/g, "$1");
  return names.filter((name) => {
    const words = name.split(".").join(String.raw`\s*\??\.\s*`);
    return new RegExp(String.raw`(?<![\w$#]|(?<!\.\.)\.\s*)${words}(?![\w$])`).test(code);
  });
}
