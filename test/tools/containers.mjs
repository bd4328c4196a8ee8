// Does what docs/how-to/containers.md says. Builds its Dockerfile, with the package as npm would publish it and the
// server of docs/getting-started.md. Runs it and heals a hang. Runs the Kubernetes manifest as a pod.
//
//   npm run test:containers     needs root, installs podman with apt; skipped elsewhere
//
// The image `node:24-slim` is made from files of this machine, so no registry is asked. The last line is
// `N passed, N failed`.

import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { installPackages } from "../support/apt.mjs";
import { check, conclude, skip, skipAll } from "../support/counted.mjs";
import { install, root, run, runtimesDir } from "../support/setup.mjs";
import { must } from "../support/shell.mjs";

const limitMs = 30_000;
if (process.platform !== "linux") skipAll(`podman runs on Linux, this is ${process.platform}`);
if (process.getuid() !== 0) skipAll("containers need root (sudo npm run test:containers)");
const why = await installPackages({
  "/usr/bin/podman": "podman",
  "/usr/sbin/runc": "runc",
  "/usr/bin/catatonit": "catatonit",
  "/usr/bin/slirp4netns": "slirp4netns", // a pod's ports
});
if (why !== undefined) skipAll(why);
await install(root);
await install(runtimesDir);

/** Podman leaves this file behind wherever its store is. */
const lock = "/dev/shm/libpod_lock";
const hadLock = existsSync(lock);
const groups = "find /sys/fs/cgroup -depth -path '*/libpod_parent*' -type d";
const hadGroups = (await run("sh", ["-c", groups])).output !== "";
const directory = mkdtempSync(join(tmpdir(), "sam-containers-"));
const path = (...names) => join(directory, ...names);
const running = ["--network=none"];
// The limits that podman sets by default are higher than some machines allow.
const limits = '[containers]\ndefault_ulimits = ["nofile=1000:1000", "nproc=1000:1000"]\n';
writeFileSync(path("containers.conf"), limits);
const docs = (name) => readFileSync(join(root, "docs", name), "utf8");
const page = docs("how-to/containers.md");
const block = (text, language) =>
  new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\`$`, "m").exec(text)[1];

/** Runs podman with a store of its own. */
function podman(...args) {
  const own = [`--root=${path("store")}`, `--runroot=${path("run")}`, `--tmpdir=${path("run")}`];
  const flags = ["--runtime=runc", "--cgroup-manager=cgroupfs", "--log-level=error"];
  return run("podman", [...own, ...flags, ...args], {
    cwd: directory,
    env: { ...process.env, CONTAINERS_CONF: path("containers.conf") },
  });
}

async function good(result) {
  const { code, output } = await result;
  must(code === 0, `ended with ${code}:\n${output}`);
  return output;
}

async function eventually(ask, holds) {
  for (const end = Date.now() + limitMs;; await sleep(200)) {
    const { output, code } = await ask();
    if (holds(output, code)) return output;
    must(Date.now() < end, `waited in vain; the last that was said:\n${output}`);
  }
}

/** Makes an image with what a Dockerfile needs of Node's: node, npm, a shell and a user. */
async function makeImage() {
  const image = path("image");
  const copy = async (file, to = file) => {
    const { output } = await run("ldd", [file]);
    for (const one of [[file, to], ...(output.match(/\/\S+/g) ?? []).map((name) => [name, name])]) {
      cpSync(one[0], image + one[1], { dereference: true });
    }
  };
  for (const folder of ["tmp", "root", "etc", "home/node"]) {
    mkdirSync(join(image, folder), { recursive: true });
  }
  chmodSync(join(image, "tmp"), 0o1777);
  chownSync(join(image, "home/node"), 1000, 1000);
  for (const program of ["/bin/sh", "/usr/bin/env", "/usr/bin/setsid", "/usr/bin/sleep"]) {
    await copy(program);
  }
  await copy(join(runtimesDir, "node_modules/node-24/bin/node"), "/usr/local/bin/node");
  const npm = join((await good(run("npm", ["root", "--global"]))).trim(), "npm");
  cpSync(npm, join(image, "usr/local/lib/npm"), { recursive: true });
  writeFileSync(
    join(image, "usr/local/bin/npm"),
    '#!/bin/sh\nexec node /usr/local/lib/npm/bin/npm-cli.js "$@"\n',
    { mode: 0o755 },
  );
  writeFileSync(
    join(image, "etc/passwd"),
    "root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n",
  );
  writeFileSync(join(image, "etc/group"), "root:x:0:\nnode:x:1000:\n");
  await good(run("tar", ["--create", "--file", path("image.tar"), "--directory", image, "."]));
  const environment = "ENV PATH=/usr/local/bin:/usr/bin:/bin";
  await good(podman("import", "--change", environment, path("image.tar"), "node:24-slim"));
  return await podman("run", "--rm", ...running, "node:24-slim", "sh", "-c", "exit 0");
}

/**
 * Makes the folder in which the Dockerfile is built: a server, its package.json and the lock file.
 */
async function makeApplication() {
  const app = path("app");
  mkdirSync(app);
  const flags = process.argv.includes("--built") ? ["--ignore-scripts"] : [];
  await good(run("npm", ["pack", "--silent", ...flags, "--pack-destination", app]));
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const dependencies = { "@x/sam": `file:x-sam-${version}.tgz` };
  writeFileSync(join(app, "package.json"), JSON.stringify({ type: "module", dependencies }));
  const lock = ["install", "--package-lock-only", "--offline", "--no-audit", "--no-fund"];
  await good(run("npm", lock, { cwd: app }));
  writeFileSync(join(app, "web.js"), block(docs("getting-started.md"), "js"));
  writeFileSync(join(app, "Dockerfile"), block(page, "dockerfile"));
  const build = [
    "build",
    "--isolation=chroot",
    "--format=docker",
    "--network=host",
    "--layers=false",
  ];
  return await good(podman(...build, "--tag=web", app));
}

/** Fetches a URL from inside the container. */
const get = (name, port, url) => {
  const code =
    `fetch("http://127.0.0.1:${port}${url}").then(async (r) => console.log(r.status, await r.text()))`;
  return podman("exec", name, "node", "-e", code);
};
const sam = (name, ...words) =>
  podman("exec", name, "node", "node_modules/@x/sam/dist/cli.js", ...words);
const started = (name, ...args) =>
  good(podman("run", "--detach", `--name=${name}`, ...running, ...args));
const ready = (name) => eventually(() => get(name, 9464, "/readyz"), (said) => /^200/.test(said));

try {
  const trial = await makeImage();
  if (trial.code !== 0) skipAll(`no containers here: ${trial.output.trim()}`);
  await check("the Dockerfile builds", makeApplication);
  await check("the container becomes healthy", async () => {
    await started("web", "web");
    await eventually(
      () => podman("healthcheck", "run", "web"),
      (_said, code) => code === 0,
    );
  });
  await check("the Kubernetes manifest runs as a pod, and its probes get answers", async () => {
    if (!existsSync("/dev/net/tun")) skip("no /dev/net/tun, which the ports of a pod need");
    const manifest = block(page, "yaml");
    const pod = `apiVersion: v1\nkind: Pod\nmetadata:\n  name: pod\n${manifest}`;
    writeFileSync(path("pod.yaml"), pod);
    await good(podman("play", "kube", "--network=slirp4netns", path("pod.yaml")));
    await ready("pod-web");
    const port = /containerPort: (\d+)/.exec(manifest)[1];
    const probes = [...manifest.matchAll(/httpGet: \{ path: (\S+), port: sam \}/g)];
    must(probes.length === 2, `there are ${probes.length} probes`);
    for (const [, url] of probes) {
      const said = await good(get("pod-web", port, url));
      must(said.startsWith("200 "), `${url}: ${said}`);
    }
    await good(podman("pod", "stop", "--time=50", "pod"));
    const state = await good(podman("inspect", "--format={{.State.ExitCode}}", "pod-web"));
    must(state.trim() === "143", `it ended with ${state}`);
    await good(podman("pod", "rm", "pod"));
  });
  await check("a hang is healed, and the report names its line", async () => {
    void get("web", 8080, "/report");
    const said = await eventually(
      () => podman("logs", "web"),
      (text) => /\(pid \d+\) ended by/.test(text) && /web\.js:\d+/.test(text),
    );
    must(/stopped responding/.test(said), said);
    await ready("web");
    must((await good(get("web", 8080, "/"))).startsWith("200 process "), "it does not serve");
  });
  await check(
    "process 1 warns if it cannot reap orphans; with --init there is no warning",
    async () => {
      must(/cannot reap orphans/.test(await good(podman("logs", "web"))), "it says nothing");
      await started("init", "--init", "--read-only", "--tmpfs=/tmp", "web");
      await ready("init");
      must(!/cannot reap/.test(await good(podman("logs", "init"))), "it complains below an init");
    },
  );
  await check("sam status works by docker exec, also if only /tmp is writable", async () => {
    for (const [name, restarts] of [["web", 1], ["init", 0]]) {
      const said = await good(sam(name, "status"));
      must(RegExp(`^web +ready +\\d+ +\\d+ s +${restarts} `, "m").test(said), said);
    }
  });
  await check("docker stop ends the container before its time limit", async () => {
    for (const name of ["web", "init"]) {
      await good(podman("stop", "--time=50", name));
      const state = await good(podman("inspect", "--format={{.State.ExitCode}}", name));
      must(state.trim() === "143", `${name} ended with ${state}`);
    }
  });
  await check("the transport pipe works on a read-only file system", async () => {
    const line = /^CMD (\[.*\])$/m.exec(page)[1];
    const [node, cli, command, ...rest] = JSON.parse(line);
    await started(
      ...["read", "--read-only", "--read-only-tmpfs=false", "web"],
      ...[node, cli, command, "--transport", "pipe", ...rest],
    );
    await ready("read");
    await good(podman("stop", "--time=50", "read"));
  });
} finally {
  await podman("pod", "rm", "--all", "--force", "--time=0");
  await podman("rm", "--all", "--force", "--time=0");
  await run("umount", ["--lazy", path("store/overlay")]);
  if (!hadGroups) await run("sh", ["-c", `${groups} -delete`]);
  if (!hadLock) rmSync(lock, { force: true });
  rmSync(directory, { recursive: true, force: true });
}
conclude();
