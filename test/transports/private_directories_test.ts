// A server removes the directories that killed servers left in TMPDIR and /dev/shm, and never files of other programs.
import { assert, assertEquals } from "@std/assert";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:net";
import { loadRuntime } from "../../src/runtime/load.ts";
import { makePrivateDirectory, privatePrefixes } from "../../transports/private_directories.ts";
import { connectSocket, isPrivateName } from "../../transports/private_socket.ts";
import { taggedProcesses } from "../support/leaks.ts";
import { eventually, processTest } from "../support/processes.ts";

const isRoot = process.getuid!() === 0;
const hourAgo = Date.now() / 1000 - 3600;

/** A process id as it stands in a directory's name. */
const idOf = (pid: number) => pid.toString(36);
const { ino } = statSync("/proc/self/ns/pid");
/** Another pid namespace, as it stands in a directory's name. */
const elsewhere = (ino + 1).toString(36);
const endedPid = spawnSync("true").pid;
/** The name prefix of the directories of a killed server in this namespace. */
const killedPrefix = `sam-${ino.toString(36)}-${idOf(endedPid)}-`;

async function listening(path: string): Promise<Server> {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return server;
}

/** Creates a socket file on which no process listens. */
async function staleSocket(path: string): Promise<void> {
  const server = await listening(`${path}.`);
  renameSync(`${path}.`, path);
  await new Promise((resolve) => server.close(resolve));
}

function directory(path: string, mode = 0o700): string {
  mkdirSync(path);
  chmodSync(path, mode);
  return path;
}

/** Files and directories of other programs. */
class Foreign {
  readonly paths: string[] = [];
  /** A directory that looks like a server's, but is in another place. Links point to it. */
  readonly target: string;

  private constructor(target: string) {
    this.target = target;
  }

  static async beside(directoryPath: string): Promise<Foreign> {
    const foreign = new Foreign(directory(`${directoryPath}/target`));
    await staleSocket(`${foreign.target}/s`);
    writeFileSync(`${foreign.target}/p`, "precious");
    return foreign;
  }

  #at(path: string): string {
    this.paths.push(path);
    return path;
  }

  /**
   * Adds names to `parent` that only begin like a server's. They contain a pid, so that concurrent test runs do not
   * collide.
   */
  addNames(parent: string): void {
    const at = (name: string, end = "") => this.#at(`${parent}/sam-${name}-${process.pid}${end}`);
    writeFileSync(at("backup", ".tar.gz"), "precious");
    const project = directory(at("project"), 0o755);
    for (const name of ["s", "p"]) writeFileSync(`${project}/${name}`, "precious");
    directory(at("empty"));
    directory(at("app", "-ab12CD"));
    symlinkSync(this.target, at("link"));
    const loop = at("loop");
    symlinkSync(loop, loop);
  }

  /** Adds entries to `parent` that have a server's full name, but a type, mode or content that no server creates. */
  async addKinds(parent: string, prefix: string): Promise<void> {
    const at = (end: string) => this.#at(`${parent}/${prefix}${end}`);
    writeFileSync(at("isFile"), "precious");
    writeFileSync(at("notes.txt"), "precious");
    symlinkSync(this.target, at("isLink"));
    const loop = at("isLoop");
    symlinkSync(loop, loop);
    const open = directory(at("isOpen"));
    await staleSocket(`${open}/s`);
    chmodSync(open, 0o755);
    const more = directory(at("isMore"));
    await staleSocket(`${more}/s`);
    writeFileSync(`${more}/notes`, "precious");
    writeFileSync(`${directory(at("files0"))}/s`, "precious");
    symlinkSync(`${this.target}/p`, `${directory(at("links0"))}/p`);
    directory(`${directory(at("inside"))}/p`);
    directory(at("long-name"));
    if (!isRoot) return;
    const theirs = directory(at("theirs"));
    await staleSocket(`${theirs}/s`);
    chownSync(theirs, 65534, 65534);
  }

  /** Makes everything an hour old. */
  age(): void {
    for (const path of this.paths) lutimesSync(path, hourAgo, hourAgo);
  }

  /** The remaining paths, with types and modes. */
  get left(): string[] {
    return [this.target, ...this.paths].flatMap(tree);
  }

  remove(): void {
    for (const path of this.paths) rmSync(path, { recursive: true, force: true });
  }
}

/** A path and everything below it, with types and modes. */
function tree(path: string): string[] {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (!stat) return [];
  const below = stat.isDirectory() ? readdirSync(path).sort() : [];
  return [`${path} ${stat.mode.toString(8)}`, ...below.flatMap((name) => tree(`${path}/${name}`))];
}

processTest("a starting server removes no files of other programs", async (stage) => {
  const temporary = process.env["TMPDIR"]!;
  const foreign = await Foreign.beside(stage.directory);
  try {
    for (const parent of [temporary, "/dev/shm"]) {
      foreign.addNames(parent);
      await foreign.addKinds(parent, killedPrefix);
    }
    foreign.age();
    const before = foreign.left;
    const leftover = directory(`${temporary}/${killedPrefix}remove`);
    await staleSocket(`${leftover}/s`);
    const server = stage.run("supervisor/standby", { args: ["unix", "stays"] });
    await stage.line("started");
    await eventually("the sweep", () => !existsSync(leftover));
    server.kill("SIGTERM");
    await server.exited;
    assertEquals(foreign.left, before);
  } finally {
    foreign.remove();
  }
});

processTest(
  "links in TMPDIR that point nowhere do not end a supervising process",
  async (stage) => {
    const temporary = process.env["TMPDIR"]!;
    const loops = ["sam-loop", `${killedPrefix}isLoop`].map((name) => `${temporary}/${name}`);
    for (const path of loops) symlinkSync(path, path);
    const host = stage.run("supervisor/guard_host", { args: ["true"] });
    assertEquals(await host.exited, { code: 0, signal: null }, host.stderr());
    assertEquals(stage.lines("finished").map(({ reason }) => reason), ["quit"]);
    for (const path of loops) rmSync(path);
  },
);

processTest(
  "a starting server removes the directories of killed servers, and no others",
  async (stage) => {
    const temporary = process.env["TMPDIR"]!;
    const at = (name: string) => directory(`${temporary}/sam-${name}`);
    const stale = async (path: string) => {
      await staleSocket(`${path}/s`);
      return path;
    };
    const age = (path: string) => {
      lutimesSync(path, hourAgo, hourAgo);
      return path;
    };
    const shared = (path: string) => {
      writeFileSync(`${path}/p`, "");
      return path;
    };
    const ended = `${ino.toString(36)}-${idOf(endedPid)}`;
    const living = `${ino.toString(36)}-${idOf(process.pid)}`;
    const other = `${elsewhere}-${idOf(endedPid)}`;
    const gone = [
      await stale(at(`${ended}-socket`)),
      shared(await stale(at(`${ended}-shared`))),
      at(`${ended}-empty0`),
      at(`${ended}-0123456789abcdef`),
      age(await stale(at(`${other}-old000`))),
      age(shared(at(`${other}-oldpag`))),
      age(at(`${other}-oldemp`)),
      age(await stale(at(`x0abcdef-${idOf(endedPid)}-random`))),
      age(await stale(at(`${living}-reused`))),
    ];
    const stays = [
      await stale(at(`${other}-young0`)),
      at(`${living}-living`),
      age(at(`${other}-listen`)),
    ];
    const listener = await listening(`${stays[2]}/s`);
    age(stays[2]!);
    const server = stage.run("supervisor/standby", { args: ["unix", "stays"] });
    await stage.line("started");
    await eventually(
      "the sweep",
      () => gone.every((path) => !existsSync(path)),
    );
    server.kill("SIGTERM");
    await server.exited;
    for (const path of stays) {
      assert(existsSync(path), path);
      rmSync(path, { recursive: true });
    }
    await new Promise((resolve) => listener.close(resolve));
  },
);

processTest(
  "a guard removes the directories of its killed server, and no files of other programs",
  async (stage) => {
    const temporary = process.env["TMPDIR"]!;
    const foreign = await Foreign.beside(stage.directory);
    const server = stage.run("supervisor/standby", { args: ["unix", "stays"] });
    await stage.line("started");
    try {
      const prefix = `sam-${ino.toString(36)}-${idOf(server.pid)}-`;
      for (const parent of [temporary, "/dev/shm"]) {
        foreign.addNames(parent);
        await foreign.addKinds(parent, prefix);
      }
      const before = foreign.left;
      const leftover = [temporary, "/dev/shm"].flatMap((parent) =>
        ["socket", "shared", "empty0"].map((end) => directory(`${parent}/${prefix}${end}`))
      );
      for (const path of leftover) {
        if (!path.endsWith("empty0")) await staleSocket(`${path}/s`);
        if (path.endsWith("shared")) writeFileSync(`${path}/p`, "");
      }
      server.kill("SIGKILL");
      await server.exited;
      await eventually("the end of all", () => taggedProcesses().length === 0);
      assertEquals(leftover.filter((path) => existsSync(path)), []);
      assertEquals(foreign.left, before);
    } finally {
      foreign.remove();
    }
  },
);

processTest("the private directories of each runtime are recognized by name", async () => {
  const runtime = await loadRuntime();
  for (const inMemory of [true, false]) {
    const path = await makePrivateDirectory(runtime, inMemory);
    assert(isPrivateName(path), path);
    assert((await privatePrefixes(runtime)).some((prefix) => path.startsWith(prefix)), path);
    runtime.remove(path);
  }
});

processTest(
  "a program whose server is gone does not remove a directory that no server created",
  async (stage) => {
    const path = directory(`${stage.directory}/mine`);
    await staleSocket(`${path}/s`);
    writeFileSync(`${path}/p`, "precious");
    const runtime = await loadRuntime();
    const error = await connectSocket(runtime, `${"0".repeat(32)}${path}/s`).catch((error) =>
      error
    );
    assert(error instanceof Error);
    assertEquals(readdirSync(path).sort(), ["p", "s"]);
  },
);
