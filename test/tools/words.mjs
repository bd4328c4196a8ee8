// Holds the words that people read: error messages, log lines and help in test/house/messages.txt, comments and docs.
// `node test/tools/words.mjs` compares; with --fix it first writes test/house/messages.txt anew.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { filesIn } from "../support/files.mjs";
import { messageText } from "../support/messages.mjs";
import { root } from "../support/setup.mjs";

const read = (path) => readFileSync(join(root, path), "utf8");
const complaints = [];
const complain = (path, text, index, problem) => {
  const line = text.slice(0, index).split("\n").length;
  complaints.push(`${path}:${line}: ${problem}`);
};

/** Words for which docs and messages have plainer ones. */
const riddles = [
  [
    /\b(is|was|are|were|be|been) given up\b|\bgiv(es?|ing) up\b|\bgave up\b/gi,
    "say: failed, stopped responding, or restart limit reached",
  ],
  [/\bsigns? of life\b/gi, "say: heartbeat"],
  [/\b(beats?|beater)\b/g, "say: heartbeat"],
  [/\b(some|no)body\b/gi, "name who acts: the server, a user, another process"],
  [/\bso (long|many|much|often)\b/gi, "give the number or the limit"],
  [/\bin the way\b(?! (that|in|of|as))/gi, "say what conflicts"],
  [/\bbrak(es?|ed|ing)\b/gi, "say: back-pressure"],
  [/\b(is|are|was|were|be|been) told\b/gi, "say: is notified, receives, learns, reads"],
  [/\b(hardly run|(is|are|was|were) not run)\b/gi, "say: got no CPU time, or does not run"],
  [/\bstays? out\b/gi, "say: missed its deadline"],
  [/\bwho (waits|runs|acts|hears)\b/gi, "name the process"],
  [/\bstandby process(es)?\b/gi, "say: spare"],
  [/\bprocessor time\b/gi, "say: CPU time"],
  [/\bsays so\b/gi, "say what it writes, and where"],
];

/** Comments of a source, without the marks of a comment. */
function commentsOf(text) {
  return [...text.matchAll(/\/\*\*?[\s\S]*?\*\/|(?<=^|\s)\/\/ .*(?:\n\s*\/\/ .*)*/gm)].map((
    { 0: comment, index },
  ) => ({
    index,
    isDoc: comment.startsWith("/**"),
    text: comment.replace(/^\s*(\/\*\*?|\*\/|\*|\/\/) ?|\s*\*\/$/gm, "").trim(),
  }));
}

/** Complains of riddles in a part of a text. `at` is the place of the part, if it is not the text as it stands. */
function checkRiddles(path, text, inText, at) {
  const plain = inText.replace(/`[^`\n]*`|"[^"\n]*"/g, (code) => " ".repeat(code.length));
  for (const [words, advice] of riddles) {
    for (const { 0: found, index } of plain.matchAll(words)) {
      complain(path, text, at ?? index, `"${found}": ${advice}`);
    }
  }
}

function checkComments(path) {
  const text = read(path);
  for (const comment of commentsOf(text)) {
    const [begin] = comment.text.match(/^(What|Whether|So|The same|Who|Which)\b/) ?? [];
    if (comment.isDoc && begin) {
      complain(
        path,
        text,
        comment.index,
        `a doc comment begins with "${begin}": begin with what the thing is or does`,
      );
    }
    checkRiddles(path, text, comment.text, comment.index);
  }
}

const maxCell = 80;
const anchors = new Map();

/** The anchors of a page, as GitHub makes them of its headings. */
function anchorsOf(path) {
  if (!anchors.has(path)) {
    const text = read(path).replace(/^```[\s\S]*?^```/gm, "");
    const headings = [...text.matchAll(/^#+ +(.*)$/gm)].map(([, heading]) =>
      heading.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, "").trim().replace(/ /g, "-")
    );
    const ids = [...text.matchAll(/<a (?:id|name)="([^"]+)"/g)].map(([, id]) => id);
    const all = new Set([...headings, ...ids]);
    if (all.size < headings.length + ids.length) {
      complaints.push(`${path} has two headings with one anchor`);
    }
    anchors.set(path, all);
  }
  return anchors.get(path);
}

function checkPage(path) {
  const text = read(path);
  const prose = text.replace(/^```[\s\S]*?^```/gm, (block) => block.replace(/[^\n]/g, " "));
  checkRiddles(path, text, prose);
  for (const { 0: row, index } of prose.matchAll(/^\|.*\|$/gm)) {
    for (const cell of row.replaceAll("\\|", "¦").split("|").slice(1, -1)) {
      const shown = cell.trim().replace(/\[([^\]]*)\]\([^)]*\)/g, "$1");
      if (shown.length > maxCell && !/^-+$/.test(shown)) {
        complain(
          path,
          text,
          index,
          `a cell of ${shown.length} characters, of ${maxCell}: ${shown.slice(0, 40)}…`,
        );
      }
    }
  }
  for (const { 1: link, index } of prose.matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z]+:/.test(link)) continue;
    const [file, anchor] = link.split("#");
    const target = file === "" ? path : normalize(join(dirname(path), file));
    if (!existsSync(join(root, target))) complain(path, text, index, `there is no ${target}`);
    else if (anchor && !anchorsOf(target).has(anchor)) {
      complain(path, text, index, `${target} has no heading for #${anchor}`);
    }
  }
}

/** Checks that each `path/file.ts: name` in CONTRIBUTING.md still names something in that file. */
function checkPlaces(path) {
  const text = read(path);
  const sources = [...filesIn("src", ".ts"), ...filesIn("transports", ".ts")];
  for (const { 1: file, 2: name, index } of text.matchAll(/`([\w/]+\.ts): (#?\w+)`/g)) {
    const found = sources.filter((source) => source === file || source.endsWith(`/${file}`));
    if (!found.some((source) => RegExp(`${name}\\b`).test(read(source)))) {
      complain(path, text, index, `${file} has no ${name}`);
    }
  }
}

const snapshot = "test/house/messages.txt";
const messages = await messageText();
if (process.argv.includes("--fix")) writeFileSync(join(root, snapshot), messages);
else if (!existsSync(join(root, snapshot)) || read(snapshot) !== messages) {
  complaints.push(
    `${snapshot} is not what the sources say: npm run fmt writes it, and git diff shows the new words`,
  );
}
checkRiddles(snapshot, messages, messages);
for (const folder of ["src", "transports", "test", "bench", "examples"]) {
  filesIn(folder, ".ts", ".mjs", ".cts").forEach(checkComments);
}
checkComments("mod.ts");
["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "test/README.md", ...filesIn("docs", ".md")]
  .forEach(checkPage);
checkPlaces("CONTRIBUTING.md");

for (const complaint of complaints) console.log(complaint);
if (complaints.length > 0) process.exitCode = 1;
