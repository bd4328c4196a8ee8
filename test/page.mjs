// The status page in a real browser: it is live, fits a phone, is dark in the dark, and breaks no rule of its own.
//
//   npm run test:page          needs chromium; as root it installs that with apt, else it is skipped
//
// The last line is `N passed, N failed`.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
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

const program = 'echo "<script>alert(1)</script>"; read word < "$0"; exit 7';
const fifo = join(directory, "fifo");
await run("mkfifo", [fifo]);
const sam = await start(
  process.execPath,
  [
    ...[
      join(root, "dist/cli.js"),
      "run",
      "--metrics",
      "0",
      "--name",
      "a-program-with-a-long-name",
      "--stdio",
      "tee",
    ],
    ...["--", "sh", "-c", program, fifo],
  ],
  /status page is at (\S+)/,
  { XDG_RUNTIME_DIR: directory },
);
const browser = await start(chromium, [
  ...["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"],
  ...[`--user-data-dir=${join(directory, "chromium")}`, "about:blank"],
], /DevTools listening on (\S+)/);

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
await send("Emulation.setEmulatedMedia", {
  features: [{ name: "prefers-color-scheme", value: "dark" }],
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
await check("it fits the width of a phone", async () => {
  const [wide, room] = await value("[document.documentElement.scrollWidth, innerWidth]");
  if (wide > room) throw new Error(`${wide} pixels wide, in ${room}`);
});
await check("it is dark in the dark", async () => {
  const colours = await value(
    "[getComputedStyle(document.querySelector('h1')).color, matchMedia('(prefers-color-scheme: dark)').matches]",
  );
  if (colours.join() !== "rgb(255, 255, 255),true") throw new Error(colours.join());
});
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
