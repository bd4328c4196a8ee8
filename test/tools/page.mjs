// Opens the status page in a real browser. It must be live, fit a phone, be readable in light, in dark and without
// colors, and keep its own content security policy.
//
//   npm run test:page            needs Chromium; installs it with apt as root, else it is skipped
//   npm run test:page page.png   also takes pictures: page-390.png, …
//
// The last line is `N passed, N failed`.

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { installPackages } from "../support/apt.mjs";
import { check, conclude, skipAll } from "../support/counted.mjs";
import { build, install, root, run } from "../support/setup.mjs";
import { must, Shell } from "../support/shell.mjs";

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
  if (url === "/exit") process.exit(3);
  response.end();
}).listen(0, "127.0.0.1", () => writeFileSync(process.argv[2], String(server.address().port)));
`,
);
const patient = 2000; // SAM waits this long for the stack, so on a busy machine it must not be short.
const line = `echo "<script>alert(1)</script> ${"x".repeat(200)}"; read word < "$0"; exit 7`;
const sick = join(directory, "sick");
const restart = { initialDelay: 0, maxDelay: 0 };
const programs = {
  calm: { program: "sleep", args: ["60"], check: { command: "true" } },
  exits: { program: "sh", args: ["-c", line, fifo], stdio: "tee", restart },
  hangs: { program: "./server.js", args: [portFile], timeInterval: patient, restart },
  waits: { program: "false", restart: { initialDelay: 60_000 } },
  done: { program: "true" },
  ill: {
    program: "sleep",
    args: ["60"],
    check: { command: `test ! -e ${sick}`, period: 200, failureThreshold: 1000 },
  },
};
writeFileSync(join(directory, "sam.config.json"), JSON.stringify({ programs }));
/** The number of a program in the ids of the page. */
const numberOf = (name) => Object.keys(programs).indexOf(name);
const idOf = (name, part) => `p${numberOf(name)}-${part}`;

// The directory for the browser's files, which is removed.
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

/**
 * Runs in the page: the luminance of its background, and the contrast of its texts as WCAG 2
 * defines them.
 */
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
  root.style.outlineColor = "Canvas"; // the background of the page
  const backmost = [getComputedStyle(root).outlineColor, 1];
  const texts = [...document.querySelectorAll(".state, h1, h2, h3, p, b, span, dt, dd, td, pre")]
    .map((element) => {
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

/** The state words of the programs, in the order of the page. */
const states = async () => (await page.locator(".state").allTextContents()).join(" ");

/**
 * Runs in the page: the elements that are wider than their place or beyond the edge. Folded
 * elements have no size.
 */
function cut() {
  const beyond = (element) => {
    const { left, right } = element.getBoundingClientRect();
    return left < 0 || right > innerWidth || element.scrollWidth > element.clientWidth + 1 &&
        getComputedStyle(element).display !== "inline";
  };
  return [...document.querySelectorAll("body *")].filter(beyond)
    .map(({ localName, id, textContent }) => `${localName}#${id} ${textContent.slice(0, 50)}`);
}

/** Waits until the page fulfills a condition. */
const becomes = (what, ask, argument) =>
  page.waitForFunction(ask, argument).catch(() => must(false, what));

/** Folds the details of a program in or out, by keyboard. */
async function toggle(name) {
  await page.locator(`#${idOf(name, "row")}`).focus();
  await page.keyboard.press("Enter");
}

/** Looks at the page of a running `sam` until that ends. */
async function visit(sam) {
  const [, url] = await sam.said(/status page is at (\S+)/);
  await page.goto(url);
  await check("the page updates itself", async () => {
    const clock = await page.textContent("#clock");
    await becomes(
      "its clock goes",
      (clock) => document.getElementById("clock").textContent !== clock,
      clock,
    );
  });
  await check(
    "each program has one row, and all rows fit on one screen while their details are folded",
    async () => {
      await says("summary", /^Needs attention: waits · /);
      await says(idOf("hangs", "row"), /^ready/);
      must(await page.locator("details[open]").count() === 0, "details are open");
      const height = await page.evaluate(() => document.documentElement.scrollHeight);
      must(height <= phone.height, `${height} pixels high`);
    },
  );
  await check(
    "a program whose check fails needs attention, and its row has the reason",
    async () => {
      writeFileSync(sick, "");
      await says(idOf("ill", "row"), /^unhealthy.*test ! -e .* ended with exit code 1/);
      await says("summary", /^Needs attention: waits, ill · /);
    },
  );
  await check(
    "a ready program with recent restarts needs attention, and its row is among the first",
    async () => {
      for (let at = 1; at <= 3; at++) {
        writeFileSync(fifo, "go\n");
        await says(
          idOf("exits", "row"),
          new RegExp(`${at} failures? in 5 min, last .*exit code 7`),
        );
        await says(idOf("exits", "row"), /^ready/);
      }
      await says("summary", /^Needs attention: exits, waits, ill · /);
      const words = await states();
      must(words === "ready backoff unhealthy ready ready finished", words);
      const title = await page.title();
      must(title.startsWith("(3) "), title);
    },
  );
  await check(
    "each ended instance has a row with its own report and last output, without a reload",
    async () => {
      await toggle("exits");
      const rows = page.locator(`#${idOf("exits", "instances")} details`);
      must(await rows.count() === 3, `${await rows.count()} rows`);
      await rows.last().locator("summary").click();
      await says(
        idOf("exits", "instances"),
        /instance 1 ended with exit code 7[^]*<script>alert\(1\)<\/script>/,
      );
      must(
        await rows.locator("pre", { hasText: "instance 2 ended" }).count() === 0,
        "that of another one",
      );
    },
  );
  await check("near misses take one line while there are none", async () => {
    await toggle("hangs");
    await says(
      idOf("hangs", "now"),
      /Near misses: 0 of \d+ heartbeats?; the closest came \d+ ms before its deadline$/,
    );
  });
  await check(
    "the report of a hang has the stack, and a later exit does not replace that report",
    async () => {
      const port = () =>
        sam.until("port", () => existsSync(portFile) && readFileSync(portFile, "utf8"));
      const ask = async (path) => {
        const number = await port();
        rmSync(portFile);
        await fetch(`http://127.0.0.1:${number}/${path}`).catch(() => {}); // it ends
      };
      await ask("hang");
      await port();
      await ask("exit");
      const id = idOf("hangs", "instances");
      await says(id, /3running.*2exit code 3.*1timeout: no heartbeat/);
      await page.locator(`#${id} details`).last().locator("summary").click();
      await says(id, /after it stopped responding[^]*stack:\n\s+at .*server\.js:4/);
    },
  );
  await check(
    "open details stay open, and the focus stays, when another instance begins",
    async () => {
      const open = () => page.locator("details[open]").count();
      must(await open() === 4, `${await open()} are open`);
      await page.locator(`#${idOf("exits", "instances")} details[open] summary`).focus();
      writeFileSync(fifo, "go\n");
      await says(idOf("exits", "instances"), /5running.*4exit code 7/);
      must(await open() === 4, `${await open()} are open`);
      const focused = await page.evaluate(() => document.activeElement.textContent);
      must(/^1exit code 7/.test(focused), `the focus is at ${focused}`);
      await says(idOf("exits", "instances"), /instance 1 ended with exit code 7/);
    },
  );
  await check("the time line has a scale and a key", async () => {
    const clock = String.raw`\d\d:\d\d:\d\d`;
    const key = "running\\s+failed · gap: no process";
    await says(idOf("exits", "time"), new RegExp(`^\\s*${clock}${clock}now\\s*${key}\\s*$`));
    await becomes("not five bars with a width", (bars) => {
      const widths = [...document.querySelectorAll(bars)].map((bar) =>
        bar.getBoundingClientRect().width
      );
      return widths.length === 5 && Math.min(...widths) > 0;
    }, `#${idOf("exits", "time")} .time rect`);
    must(
      await page.locator(`#${idOf("exits", "time")} .time path`).count() === 4,
      "not 4 failures",
    );
  });
  for (const viewport of [phone, { width: 390, height: 844 }, { width: 1280, height: 800 }]) {
    await check(`no text is cut off at a width of ${viewport.width} pixels`, async () => {
      await page.setViewportSize(viewport);
      must(await page.evaluate(() => innerWidth) === viewport.width, "it is wider");
      const all = await page.evaluate(cut);
      must(all.length === 0, all.join("\n"));
    });
    const picture = process.argv.slice(2).find((word) => !word.startsWith("--"));
    if (picture !== undefined) {
      await page.screenshot({
        path: picture.replace(/(?=\.\w+$)/, `-${viewport.width}`),
        fullPage: true,
      });
    }
  }
  for (const [where, media, query] of looks) {
    await check(`the page is readable ${where}`, () => readable(media, query));
  }
  await check("the page keeps its content security policy", () => {
    must(complaintsOfThePage.length === 0, complaintsOfThePage.join("\n"));
  });
  const lost =
    /^Connection lost: sam has ended or cannot be reached\. The page shows the state as of /;
  const isGrey = () => page.evaluate(() => getComputedStyle(document.querySelector("main")).filter);
  const server = Number(/\d+/.exec(await page.textContent("#server"))[0]);
  await check(
    "when sam does not answer, the page shows a banner and turns gray; both go when sam answers again",
    async () => {
      process.kill(server, "SIGSTOP");
      try {
        await says("lost", lost);
        must(await isGrey() === "grayscale(1)", await isGrey());
        for (const [, media, query] of looks) await readable(media, query);
      } finally {
        process.kill(server, "SIGCONT");
      }
      await says("lost", /^$/);
      must(await isGrey() === "none", await isGrey());
    },
  );
  await check("when sam has ended, the page says so and turns gray", async () => {
    await sam.interrupt();
    await says("lost", lost);
    must(await isGrey() === "grayscale(1)", await isGrey());
  });
  return url;
}

/**
 * Checks that every text has enough contrast, and that the background is of the color scheme that
 * the user prefers.
 */
async function readable(media, query) {
  await page.emulateMedia(media);
  must(await page.evaluate((query) => matchMedia(query).matches, query), "it is not so");
  const { background, texts } = await page.evaluate(legibility);
  const { colorScheme } = media;
  must(
    !(colorScheme === "light" && background < 0.9 ||
      colorScheme === "dark" && background > 0.1),
    `the background is ${background}`,
  );
  must(texts.length > 50, `${texts.length} texts`);
  const faint = texts.filter(({ text, contrast }) => text !== "" && contrast < 4.5);
  must(faint.length === 0, JSON.stringify(faint));
}

const looks = [
  ["in light mode", { colorScheme: "light", forcedColors: null }, "(prefers-color-scheme: light)"],
  [
    "with forced colors",
    { colorScheme: null, forcedColors: "active" },
    "(forced-colors: active)",
  ],
  ["in dark mode", { colorScheme: "dark", forcedColors: null }, "(prefers-color-scheme: dark)"],
];
const shell = new Shell({ ...process.env, XDG_RUNTIME_DIR: directory });
const cli = `"${process.execPath}" "${join(root, "dist/cli.js")}"`;
try {
  const run = (words) => `${cli} run --name a-server-with-a-long-name ${words}`;
  let url;
  await shell.during(run("--metrics 0"), directory, async (sam) => url = await visit(sam));
  await shell.during(
    run(`--metrics ${new URL(url).port} --quiet sleep 60`),
    directory,
    async (sam) => {
      await check(
        "an open page shows the programs of the next sam at the same address, without a reload by the user",
        async () => {
          await says("summary", /^Nothing needs attention · 1 ready$/);
          await says("p0-row", /^ready/);
          await says("lost", /^$/);
        },
      );
      await sam.interrupt();
    },
  );
} finally {
  await browser.close();
}
conclude();
