// The status page in a real browser: it is live, fits a phone, can be read in the light, in the dark and without colours, and
// breaks no rule of its own.
//
//   npm run test:page          needs chromium; as root it installs that with apt, else it is skipped
//   npm run test:page page.png also takes a picture of it
//
// The last line is `N passed, N failed`.

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { installPackages } from "./support/apt.mjs";
import { check, conclude, skipAll } from "./support/counted.mjs";
import { build, install, root, run } from "./support/setup.mjs";
import { must, Shell } from "./support/shell.mjs";

const executablePath = process.env.CHROME ?? "/usr/bin/chromium";
const why = await installPackages({ [executablePath]: "chromium" });
if (why !== undefined) skipAll(why);
await install(root);
const { chromium } = await import("playwright-core");
const complaints = process.argv.includes("--built") ? "" : await build();
if (complaints !== "") throw new Error(complaints);

const directory = mkdtempSync(join(tmpdir(), "sam-page-"));
process.on("exit", () => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }));
const fifo = join(directory, "fifo");
await run("mkfifo", [fifo]);
const portFile = join(directory, "port");
writeFileSync(
  join(directory, "server.js"),
  `const { createServer } = require("node:http");
const { writeFileSync } = require("node:fs");
const server = createServer(({ url }, response) => {
  while (url === "/hang");
  response.end();
}).listen(0, "127.0.0.1", () => writeFileSync(process.argv[2], String(server.address().port)));
`,
);
const patient = 2000; // the stack is waited for as long, which on a busy machine is not to be short
const line = 'echo "<script>alert(1)</script>"; read word < "$0"; exit 7';
writeFileSync(
  join(directory, "sam.config.json"),
  JSON.stringify({
    programs: {
      exits: { program: "sh", args: ["-c", line, fifo], stdio: "tee" },
      hangs: { program: "./server.js", args: [portFile], timeInterval: patient },
      waits: { program: "false", restart: { initialDelay: 60_000 } },
    },
  }),
);

// What the browser leaves in these two is removed.
const env = { ...process.env, HOME: directory, TMPDIR: directory };
const browser = await chromium.launch({ executablePath, env });
const phone = { width: 360, height: 740 };
const page = await browser.newPage({ viewport: phone, deviceScaleFactor: 2, isMobile: true });
const complaintsOfThePage = [];
page.on("console", (message) => complaintsOfThePage.push(message.text()));
page.on("pageerror", ({ message }) => complaintsOfThePage.push(message));
const says = (id, pattern) => {
  const place = page.locator(`#${id}`);
  return place.filter({ hasText: pattern }).waitFor({ state: "attached" })
    .catch(async () => must(false, `${id} says ${await place.textContent()}, not ${pattern}`));
};

/** In the page: the luminance of its background, and of its texts the contrast, as WCAG 2 has them. */
function legibility() {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const luminance = (layers) => {
    for (const [colour, opacity] of layers) {
      context.globalAlpha = opacity;
      context.fillStyle = colour;
      context.fillRect(0, 0, 1, 1);
    }
    const [red, green, blue] = [...context.getImageData(0, 0, 1, 1).data]
      .map((value) => value / 255)
      .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const root = document.documentElement;
  root.style.outlineColor = "Canvas"; // what lies behind all
  const backmost = [getComputedStyle(root).outlineColor, 1];
  const texts = [...document.querySelectorAll(".state, h1, p, dt, dd, td, pre")].map((element) => {
    const styles = [];
    for (let at = element; at; at = at.parentElement) styles.unshift(getComputedStyle(at));
    const behind = [backmost, ...styles.map(({ backgroundColor }) => [backgroundColor, 1])];
    const opacity = styles.reduce((product, { opacity }) => product * opacity, 1);
    const [dark, light] = [
      luminance(behind),
      luminance([...behind, [styles.at(-1).color, opacity]]),
    ].sort((a, b) => a - b);
    return {
      of: `${element.localName}.${element.className}`,
      text: element.checkVisibility() ? element.textContent : "",
      contrast: (light + 0.05) / (dark + 0.05),
    };
  });
  return { background: luminance([backmost]), texts };
}

/** Looks at the page of a `sam` that runs, up to its end. */
async function visit(sam) {
  const [, url] = await sam.said(/status page is at (\S+)/);
  await page.goto(url);
  await check("it is live", () => says("live", /^live$/));
  await check(
    "an instance that ends is there, with its reason and its last output, without a reload",
    async () => {
      writeFileSync(fifo, "go\n");
      await says("p0-instances", /exit/);
      await says("p0-report", /exit code 7[^]*<script>alert\(1\)<\/script>/);
    },
  );
  await check("near misses are rows with bars", async () => {
    await says("p1-slack", /least left: -?\d+ ms[^]*or more\d/);
    const widths = await page.locator("#p1-slack rect")
      .evaluateAll((bars) => bars.map((bar) => bar.getBoundingClientRect().width));
    must(Math.max(...widths) > 0, `widths: ${widths}`);
  });
  await check("the report on a hang has its stack, with the line", async () => {
    const port = await sam.until(
      "port",
      () => existsSync(portFile) && readFileSync(portFile, "utf8"),
    );
    await fetch(`http://127.0.0.1:${port}/hang`).catch(() => {}); // it is killed
    await says("p1-report", /\(timeout\)[^]*it was\n\s+at .*server\.js:4/);
    await says("p1-now", /^started/);
  });
  await check("it fits the width of a phone", async () => {
    const [wide, room] = await page.evaluate(() => [
      document.documentElement.scrollWidth,
      innerWidth,
    ]);
    must(wide <= room && room === phone.width, `${wide} pixels wide, in ${room}`);
  });
  for (const [where, media, query] of looks) {
    await check(`it can be read ${where}`, async () => {
      await page.emulateMedia(media);
      must(await page.evaluate((query) => matchMedia(query).matches, query), "it is not so");
      const { background, texts } = await page.evaluate(legibility);
      const { colorScheme } = media;
      must(
        !(colorScheme === "light" && background < 0.9 ||
          colorScheme === "dark" && background > 0.1),
        `the background is ${background}`,
      );
      const states = texts.filter(({ of }) => of.includes(".state")).map(({ of, text }) =>
        of + text
      );
      const all = "p.state welllaunched p.state wellstarted p.state illbackoff";
      must(states.join(" ") === all, states.join(" "));
      const faint = texts.filter(({ text, contrast }) => text !== "" && contrast < 4.5);
      must(faint.length === 0, JSON.stringify(faint));
    });
  }
  const picture = process.argv.slice(2).find((word) => !word.startsWith("--"));
  if (picture !== undefined) await page.screenshot({ path: picture, fullPage: true });
  await check("it keeps its own rules", () => {
    must(complaintsOfThePage.length === 0, complaintsOfThePage.join("\n"));
  });
  await check("it says when sam has ended", async () => {
    await sam.interrupt();
    await says("live", /^not connected/);
  });
}

const looks = [
  ["in the light", { colorScheme: "light", forcedColors: null }, "(prefers-color-scheme: light)"],
  [
    "without colours of its own",
    { colorScheme: null, forcedColors: "active" },
    "(forced-colors: active)",
  ],
  ["in the dark", { colorScheme: "dark", forcedColors: null }, "(prefers-color-scheme: dark)"],
];
const shell = new Shell({ ...process.env, XDG_RUNTIME_DIR: directory });
const cli = `"${process.execPath}" "${join(root, "dist/cli.js")}"`;
try {
  await shell.during(
    `${cli} run --metrics 0 --name a-server-with-a-long-name`,
    directory,
    visit,
  );
} finally {
  await browser.close();
}
conclude();
