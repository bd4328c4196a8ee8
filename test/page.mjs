// The status page in a real browser: it is live, fits a phone, can be read in the light, in the dark and without colours, and
// breaks no rule of its own.
//
//   npm run test:page          needs chromium; as root it installs that with apt, else it is skipped
//   npm run test:page page.png also takes a picture of it
//
// The last line is `N passed, N failed`.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { installPackages } from "./support/apt.mjs";
import { check, conclude, skipAll } from "./support/counted.mjs";
import { build, install, root, run, runtimesDir } from "./support/setup.mjs";

const chromium = process.env.CHROME ?? "/usr/bin/chromium";
const why = await installPackages({ [chromium]: "chromium" });
if (why !== undefined) skipAll(why);
if (typeof WebSocket === "undefined") { // Node 20
  await install(runtimesDir);
  const node = join(runtimesDir, "node_modules/node-26/bin/node");
  const child = spawn(node, process.argv.slice(1), { stdio: "inherit" });
  process.exit(await new Promise((resolve) => child.on("close", resolve)));
}
await install(root);
const complaints = process.argv.includes("--built") ? "" : await build();
if (complaints !== "") throw new Error(complaints);

const limitMs = 30_000;
const directory = mkdtempSync(join(tmpdir(), "sam-page-"));

/** Starts a command, and waits for a text on its standard error. */
async function start(command, args, pattern, env = {}) {
  const child = spawn(command, args, {
    env: { ...process.env, ...env },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text) => said += text);
  const exited = new Promise((resolve) => child.on("close", resolve));
  await eventually(() => pattern.test(said), () => `${command} said: ${said}`);
  return { child, exited, match: pattern.exec(said) };
}

async function eventually(holds, what) {
  for (const end = Date.now() + limitMs; !await holds();) {
    if (Date.now() > end) throw new Error(`waited in vain: ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

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
const config = join(directory, "sam.config.json");
const patient = 2000; // the stack is waited for as long, which on a busy machine is not to be short
const line = 'echo "<script>alert(1)</script>"; read word < "$0"; exit 7';
writeFileSync(
  config,
  JSON.stringify({
    programs: {
      exits: { program: "sh", args: ["-c", line, fifo], stdio: "tee" },
      hangs: { program: "./server.js", args: [portFile], timeInterval: patient },
      waits: { program: "false", restart: { initialDelay: 60_000 } },
    },
  }),
);
const sam = await start(
  process.execPath,
  [
    ...[join(root, "dist/cli.js"), "run", "--config", config],
    ...["--metrics", "0", "--name", "a-server-with-a-long-name"],
  ],
  /status page is at (\S+)/,
  { XDG_RUNTIME_DIR: directory },
);
const browser = await start(
  chromium,
  [
    ...["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"],
    ...[`--user-data-dir=${join(directory, "chromium")}`, "about:blank"],
  ],
  /DevTools listening on (\S+)/,
  { TMPDIR: directory },
); // where it leaves what it does not remove

const socket = new WebSocket(browser.match[1]);
await new Promise((resolve, reject) => {
  socket.onopen = resolve;
  socket.onerror = reject;
});
let lastId = 0;
const target = {};
const answers = new Map(), complaintsOfThePage = [];
socket.onmessage = ({ data }) => {
  const { id, result, error, method, params } = JSON.parse(data);
  answers.get(id)?.(error ? Promise.reject(new Error(error.message)) : result);
  if (method === "Log.entryAdded") complaintsOfThePage.push(params.entry.text);
  if (method === "Runtime.exceptionThrown") complaintsOfThePage.push(params.exceptionDetails.text);
};
const send = (method, params = {}) =>
  new Promise((resolve) => {
    answers.set(++lastId, resolve);
    socket.send(JSON.stringify({ id: lastId, method, params, sessionId: target.sessionId }));
  });
const value = async (expression) =>
  (await send("Runtime.evaluate", { expression, returnByValue: true })).result.value;

const { targetId } = await send("Target.createTarget", { url: "about:blank" });
Object.assign(target, await send("Target.attachToTarget", { targetId, flatten: true }));
await send("Log.enable");
await send("Runtime.enable");
await send("Emulation.setDeviceMetricsOverride", {
  width: 360,
  height: 740,
  deviceScaleFactor: 2,
  mobile: true,
});
await send("Page.navigate", { url: sam.match[1] });

const text = (id) => value(`document.getElementById("${id}")?.textContent ?? ""`);
let seen = "";
const says = (id, pattern) =>
  eventually(async () => pattern.test(seen = await text(id)), () => `${id} says ${seen}`);

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
  const widths = await value(
    "[...document.querySelectorAll('#p1-slack rect')].map((bar) => bar.getBoundingClientRect().width)",
  );
  if (!(Math.max(...widths) > 0)) throw new Error(`widths: ${widths}`);
});
await check("the report on a hang has its stack, with the line", async () => {
  await eventually(
    () => existsSync(portFile) && readFileSync(portFile, "utf8") !== "",
    () => "no port",
  );
  const url = `http://127.0.0.1:${readFileSync(portFile, "utf8")}/hang`;
  await fetch(url).catch(() => {}); // it is killed
  await says("p1-report", /\(timeout\)[^]*it was\n\s+at .*server\.js:4/);
  await says("p1-now", /^started/);
});
await check("it fits the width of a phone", async () => {
  const [wide, room] = await value("[document.documentElement.scrollWidth, innerWidth]");
  if (wide > room) throw new Error(`${wide} pixels wide, in ${room}`);
});

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

const looks = [
  ["in the light", "prefers-color-scheme", "light"],
  ["without colours of its own", "forced-colors", "active"],
  ["in the dark", "prefers-color-scheme", "dark"],
];
for (const [where, name, wanted] of looks) {
  await check(`it can be read ${where}`, async () => {
    await send("Emulation.setEmulatedMedia", { features: [{ name, value: wanted }] });
    if (!await value(`matchMedia("(${name}: ${wanted})").matches`)) throw new Error("it is not so");
    const { background, texts } = await value(`(${legibility})()`);
    if (wanted === "light" && background < 0.9 || wanted === "dark" && background > 0.1) {
      throw new Error(`the background is ${background}`);
    }
    const states = texts.filter(({ of }) => of.includes(".state")).map(({ of, text }) => of + text);
    const all = "p.state welllaunched p.state wellstarted p.state illbackoff";
    if (states.join(" ") !== all) throw new Error(states.join(" "));
    const faint = texts.filter(({ text, contrast }) => text !== "" && contrast < 4.5);
    if (faint.length > 0) throw new Error(JSON.stringify(faint));
  });
}
const picture = process.argv.slice(2).find((word) => !word.startsWith("--"));
if (picture !== undefined) {
  const { data } = await send("Page.captureScreenshot", { captureBeyondViewport: true });
  writeFileSync(picture, data, "base64");
}
await check("it keeps its own rules", () => {
  if (complaintsOfThePage.length > 0) throw new Error(complaintsOfThePage.join("\n"));
});
await check("it says when sam has ended", async () => {
  sam.child.kill("SIGTERM");
  await sam.exited;
  await says("live", /^not connected/);
});

socket.close();
browser.child.kill("SIGKILL");
await browser.exited;
await new Promise((resolve) => setTimeout(resolve, 200)); // the browser's own children
rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
conclude();
