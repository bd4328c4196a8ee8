// `sam run --listen`: the messages of the command, the configuration file, and sockets that systemd hands on.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { commandTest, page, runtimeName, samCommand } from "../support/command.ts";
import { ask } from "../support/ask.ts";
import { freePorts } from "../support/ports.ts";
import { eventually, killQuietly, type Stage } from "../support/processes.ts";
import { quickFixture } from "../support/runtimes.ts";

/** The words that run a program of test/fixtures on the current runtime. */
function program(name: string, ...args: string[]): string[] {
  return ["--runtime", runtimeName, quickFixture(name), ...args];
}

/** The variables with which a program writes its lines for the test. */
function output(stage: Stage): Record<string, string> {
  return stage.program("supervisor/plain_server").env as Record<string, string>;
}

/** The parent of a process. */
function ppid(pid: number): number {
  return Number(/PPid:\s*(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]);
}

commandTest(
  "sam run refuses a wrong address, and names the flag or the key",
  async (sam, stage) => {
    for (
      const address of ["0", "65536", "web", "example.org:80", "256.1.1.1:80", "unix:web", "::1:80"]
    ) {
      const run = sam(["run", "--listen", address, "true"]);
      assertEquals(await run.exited, 64, address);
      assertStringIncludes(
        run.stderr,
        `--listen is "${address}"; it must be a port from 1 to 65535`,
      );
    }
    const config = join(stage.directory, "sam.config.json");
    const both = { a: { program: "true", listen: 8080 }, b: { program: "true", listen: ["8080"] } };
    writeFileSync(config, JSON.stringify({ programs: both }));
    const run = sam(["run", "--config", config]);
    assertEquals(await run.exited, 78);
    assertStringIncludes(run.stderr, "programs.a.listen and programs.b.listen both contain 8080");

    const part = { a: { program: "true", listen: "127.0.0.1:80" }, b: { ...both.a, listen: 80 } };
    writeFileSync(config, JSON.stringify({ programs: part }));
    const second = sam(["run", "--config", config]);
    assertEquals(await second.exited, 78);
    assertStringIncludes(
      second.stderr,
      "programs.b.listen contains 80, which includes 127.0.0.1:80 of programs.a.listen",
    );

    for (const all of ["80", "[::]:80", "0.0.0.0:80"]) {
      const third = sam(["run", "--listen", "127.0.0.1:80", "--listen", all, "true"]);
      assertEquals(await third.exited, 64, all);
      assertStringIncludes(third.stderr, `--listen contains ${all} and 127.0.0.1:80`);
    }
  },
);

commandTest("a port in use is exit code 69, and the message names the address", async (sam) => {
  const other = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => other.once("listening", resolve));
  const { port } = other.address() as { port: number };
  try {
    for (const address of [`127.0.0.1:${port}`, `localhost:${port}`, String(port)]) {
      const run = sam(["run", "--listen", address, "sleep", "60"]);
      assertEquals(await run.exited, 69);
      assertStringIncludes(
        run.stderr,
        `cannot listen on ${address.replace("localhost", "127.0.0.1")}:`,
      );
      assertStringIncludes(run.stderr, "another process uses the port");
    }
  } finally {
    await new Promise((resolve) => other.close(resolve));
  }
});

commandTest(
  "sam run serves an unchanged program, and says what its runtime cannot do",
  async (sam, stage) => {
    const [port] = await freePorts(1) as [number];
    const run = sam(
      [
        "run",
        "--json",
        "--listen",
        String(port),
        "--instances",
        "2",
        ...program("supervisor/web_server", String(port)),
      ],
      output(stage),
    );
    const pids = [await stage.line("listening"), await stage.line("listening", 2)]
      .map(({ pid }) => String(pid));
    assert(pids.includes(String(await page(port, "/"))));
    if (runtimeName === "node") assert(!run.stderr.includes("cannot take over"));
    else await run.text(/serve cannot take over a listening socket/, "stderr");
  },
);

commandTest("sam run warns of a wrapper that does not pass sockets on", async (sam, stage) => {
  const [port] = await freePorts(1) as [number];
  const npm = join(stage.directory, "npm");
  symlinkSync("/bin/true", npm);
  const run = sam(["run", "--listen", String(port), npm, "start"]);
  await run.exited;
  assertStringIncludes(run.stderr, "npm does not pass the sockets of --listen on");
});

commandTest(
  "a server on Deno without --allow-ffi says that it needs the flag",
  async (_sam, stage) => {
    const [file, ...words] = samCommand();
    const flags = words.map((word) => word === "-A" ? "--allow-all" : word)
      .flatMap((word) =>
        word === "--allow-all"
          ? [
            "--allow-read",
            "--allow-write",
            "--allow-net",
            "--allow-env",
            "--allow-run",
            "--allow-sys",
          ]
          : [word]
      );
    const [port] = await freePorts(1) as [number];
    const run = stage.runCommand(file, {
      args: [...flags, "run", "--listen", String(port), "sleep", "60"],
      env: { XDG_RUNTIME_DIR: stage.directory },
    });
    assertEquals((await run.exited).code, 69);
    assertStringIncludes(
      run.stderr(),
      "cannot listen for the program: cannot call C libraries: run Deno with --allow-ffi",
    );
  },
  { skip: runtimeName !== "deno" && "only Deno has permissions" },
);

commandTest("a program that listens on another port is told", async (sam, stage) => {
  const [held, own] = await freePorts(2) as [number, number];
  const run = sam(
    ["run", "--listen", String(held), ...program("supervisor/plain_server", String(own))],
    output(stage),
  );
  await stage.line("listening");
  await run.text(
    new RegExp(`sam: the program listens on ${own}, which --listen does not name \\(${held}\\)`),
    "stderr",
  );
});

commandTest(
  "a program that listens on one address of a held port is told why it fails",
  async (sam, stage) => {
    const [port] = await freePorts(1) as [number];
    const run = sam(
      [
        ...["run", "--listen", String(port)],
        ...program("supervisor/plain_server", String(port), "127.0.0.1"),
      ],
      output(stage),
    );
    if (runtimeName !== "node") return void await stage.line("listening"); // nothing listens on the held socket
    await run.text(
      new RegExp(`cannot listen on 127.0.0.1:${port}, because sam holds ${port}. Use --listen`),
      "stderr",
    );
  },
);

commandTest(
  "a program that listens on a second address of a held port is told",
  async (sam, stage) => {
    const [port] = await freePorts(1) as [number];
    const run = sam(
      [
        ...["run", "--listen", `127.0.0.1:${port}`],
        ...program("supervisor/plain_server", String(port), "127.0.0.2"),
      ],
      output(stage),
    );
    await stage.line("listening");
    await run.text(
      new RegExp(
        `listens on 127.0.0.2:${port}, but sam holds only 127.0.0.1:${port}.* Add --listen 127.0.0.2:${port}`,
      ),
      "stderr",
    );
  },
);

commandTest(
  "sockets of systemd reach the program",
  async (_sam, stage) => {
    const [port] = await freePorts(1) as [number];
    const words = ["run", ...program("supervisor/plain_server", String(port))];
    const activator = spawn("systemd-socket-activate", [
      ...["-l", `127.0.0.1:${port}`, "-E", "SAM_TEST_OUTPUT", "-E", "SAM_TEST_TAG", "-E", "PATH"],
      ...["-E", "TMPDIR", "-E", "XDG_RUNTIME_DIR", "-E", "HOME"],
      ...samCommand(),
      ...words,
    ], {
      env: { ...process.env, ...output(stage), XDG_RUNTIME_DIR: stage.directory },
      stdio: "ignore",
    });
    const ended = new Promise((resolve) => activator.on("exit", resolve));
    try {
      const answer = await eventually("an answer", () => ask(port));
      const { pid } = await stage.line("listening");
      assertEquals(answer, String(pid));
      assertEquals(ppid(pid), activator.pid); // systemd-socket-activate has become sam
    } finally {
      killQuietly(activator.pid!);
      await ended;
    }
  },
  { skip: spawnSync("systemd-socket-activate", ["--version"]).status !== 0 },
);

commandTest(
  "sam opens the sockets of all programs before it starts one",
  async (sam, stage) => {
    const other = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => other.once("listening", resolve));
    const { port } = other.address() as { port: number };
    const path = join(stage.directory, "first.sock");
    const mark = join(stage.directory, "started");
    const config = join(stage.directory, "sam.config.json");
    const programs = {
      first: { program: "touch", args: [mark], listen: `unix:${path}` },
      second: { program: "touch", args: [mark], listen: `127.0.0.1:${port}` },
    };
    writeFileSync(config, JSON.stringify({ programs }));
    try {
      const run = sam(["run", "--config", config]);
      assertEquals(await run.exited, 69);
      assertStringIncludes(run.stderr, `cannot listen on 127.0.0.1:${port}:`);
      assert(!existsSync(mark), "a program was started");
      assert(!existsSync(path), "the first socket is left over");
    } finally {
      await new Promise((resolve) => other.close(resolve));
    }
  },
);

commandTest("instances side by side share the held sockets", async (sam, stage) => {
  const [port] = await freePorts(1) as [number];
  const run = sam(
    [
      ...["run", "--listen", String(port), "--instances", "2"],
      ...program("supervisor/plain_server", String(port)),
    ],
    output(stage),
  );
  const pids = [await stage.line("listening"), await stage.line("listening", 2)].map(({ pid }) =>
    pid
  );
  assert(pids[0] !== pids[1]);
  assert(pids.includes(Number(await ask(port))));
  assert(!run.stderr.includes("in use"), run.stderr);
});

commandTest(
  "connections wait while a program is stopped, and are refused when it has finished",
  async (sam, stage) => {
    const [stopped, finished] = await freePorts(2) as [number, number];
    const [, , file, ...args] = program("supervisor/plain_server", String(stopped));
    const config = join(stage.directory, "sam.config.json");
    const programs = {
      web: { program: file, args, runtime: runtimeName, listen: stopped },
      done: { program: "true", listen: finished },
      other: { program: "sleep", args: ["60"] },
    };
    writeFileSync(config, JSON.stringify({ programs }));
    const run = sam(["run", "--json", "--config", config], output(stage));
    await run.event("finish", 1, "done");
    assertEquals(
      await eventually("a refusal", async () => await ask(finished) ?? "refused"),
      "refused",
    );
    const first = await stage.line("listening");
    assertEquals(await ask(stopped), String(first.pid));
    assertEquals(await sam(["stop", "web"]).exited, 0);
    const waiting = ask(stopped);
    assertEquals(await sam(["restart", "web"]).exited, 0);
    const next = await stage.line("listening", 2);
    assertEquals(await waiting, String(next.pid));
    assertEquals(await sam(["stop"]).exited, 0);
  },
);

commandTest(
  "a program of Bun can export an application as a web server",
  async (sam, stage) => {
    const [port] = await freePorts(1) as [number];
    const file = join(stage.directory, "application.ts");
    // In the manner of Hono: `routes` is an array, which Bun ignores. The function is not an own property of the object.
    writeFileSync(
      file,
      `class App { port = ${port}; routes = [{ path: "/" }]; fetch() { return new Response("application"); } }
      export default new App();`,
    );
    const run = sam(["run", "--json", "--listen", String(port), "--runtime", "bun", file]);
    await run.event("start");
    assertEquals(await page(port, "/"), "application");
  },
  { skip: runtimeName !== "bun" && "only Bun serves what a program exports" },
);

commandTest(
  "a program that removes the file of its held socket opens its own, and a line tells it",
  async (sam, stage) => {
    const path = join(stage.directory, "web.sock");
    const file = join(stage.directory, "removes.cjs");
    writeFileSync(
      file,
      `require("node:fs").rmSync(process.argv[2], { force: true });
      require("node:net").createServer((socket) => socket.end("own")).listen(process.argv[2]);`,
    );
    const run = sam([
      "run",
      "--json",
      "--listen",
      `unix:${path}`,
      "--runtime",
      runtimeName,
      file,
      path,
    ]);
    await run.event("start");
    assertEquals(await ask(path), "own");
    assertStringIncludes(
      run.stderr,
      `the program removed the file of unix:${path} before it listened`,
    );
  },
  { skip: runtimeName === "deno" && "on Deno, the preload does not look for the file" },
);

commandTest("a relative path of a Unix socket is that of a held socket", async (sam, stage) => {
  const path = join(stage.directory, "web.sock");
  const words = program("supervisor/plain_server", "./web.sock");
  const run = sam(
    ["run", "--json", "--listen", `unix:${path}`, "--cwd", stage.directory, ...words],
    output(stage),
  );
  await run.event("start");
  const { pid } = await stage.line("listening");
  assertEquals(await ask(path), String(pid));
});
