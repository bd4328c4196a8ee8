// Installs this package and others from npm in a folder of .build/, as a user does. Finds what processes that use it leave behind.

import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { root } from "./setup.mjs";
import { good, must } from "./shell.mjs";

const limitMs = 60_000;

/** A port on which no process listens. */
export async function freePort() {
  const server = createServer().listen(0);
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** The folder `.build/NAME` with packages in it, and a private directory for the temporary files of all its processes. */
export class Installed {
  /** The folder with the packages. */
  home;
  /** The environment of all processes. `PATH` begins with the given executables. */
  env;
  /** Path of the `sam` command. */
  cli;
  #directory;

  constructor(name, executables) {
    this.home = join(root, ".build", name);
    this.cli = join(this.home, "node_modules/@x/sam/dist/cli.js");
    const directory = this.#directory = mkdtempSync(join(tmpdir(), `sam-${name}-`));
    process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
    for (const each of ["tmp", "run", "deno"]) mkdirSync(join(directory, each), { mode: 0o700 });
    const inherited = Object.entries(process.env).filter(([variable]) =>
      !/^(npm_|SAM_|INIT_CWD$|NODE_OPTIONS$|PORT$)/i.test(variable)
    );
    this.env = {
      ...Object.fromEntries(inherited),
      PATH: [...executables.map(dirname), process.env.PATH].join(delimiter),
      TMPDIR: join(directory, "tmp"),
      XDG_RUNTIME_DIR: join(directory, "run"),
      DENO_DIR: join(directory, "deno"),
      DENO_NO_UPDATE_CHECK: "1",
      NO_COLOR: "1",
    };
  }

  /** Installs this package, as npm would publish it, and others. If `isBuilt`, dist/ is up to date. */
  async install(packages, isBuilt) {
    const { home } = this;
    mkdirSync(home, { recursive: true });
    writeFileSync(join(home, "package.json"), '{ "private": true, "type": "module" }');
    const flags = isBuilt ? ["--ignore-scripts"] : [];
    const pack = ["pack", "--silent", ...flags, "--pack-destination", this.#directory];
    const packed = await good("npm", pack);
    const tarball = join(this.#directory, packed.trim().split("\n").at(-1));
    const words = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=peer"];
    await good("npm", [...words, tarball, ...new Set(packages)], { cwd: home });
    rmSync(tarball);
  }

  /** Fails if a process is left, or a temporary file whose name matches. */
  async mustHaveLeftNothing(name) {
    for (const end = Date.now() + limitMs;; await sleep(50)) {
      const processes = this.#processes();
      if (processes.length === 0) break;
      must(Date.now() < end, `processes are left: ${processes.join("; ")}`);
    }
    const files = ["run/sam", "tmp"].map((each) => join(this.#directory, each))
      .flatMap((each) => existsSync(each) ? readdirSync(each) : [])
      .filter((each) => name.test(each));
    must(files.length === 0, `files are left: ${files.join(", ")}`);
  }

  /** The processes that were started with this environment. */
  #processes() {
    return readdirSync("/proc").filter((pid) => /^\d+$/.test(pid)).flatMap((pid) => {
      try {
        const isOurs = readFileSync(`/proc/${pid}/environ`, "utf8").includes(this.#directory);
        const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
        return isOurs && words !== "" ? [`${pid} ${words}`] : [];
      } catch {
        return []; // it has ended
      }
    });
  }
}
