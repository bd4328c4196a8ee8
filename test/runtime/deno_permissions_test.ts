// Deno permissions: the least that a program needs, the errors if one is missing, and that a server passes on no more
// than it has.
import { assert, assertEquals } from "@std/assert";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, realpathSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { processTest, transports } from "../support/processes.ts";
import { runtimePath, sourceFixture } from "../support/runtimes.ts";

const deno = runtimePath("deno");
const program = sourceFixture("runtime/deno");

/** A test whose programs run on Deno, whatever runtime runs the tests. */
const denoTest: typeof processTest = (name, body, options = {}) =>
  processTest(name, body, { leg: "deno", ...options });

interface Said {
  readonly event: string;
  // deno-lint-ignore no-explicit-any
  readonly [name: string]: any;
}

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  said(event: string): Said[];
}

interface Where {
  readonly file?: string;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs a command to its end, without a terminal. */
function run(
  command: readonly string[],
  { file = deno, cwd, env = {} }: Where = {},
): Promise<Ended> {
  // Started by a shell, because Deno's node:child_process rewrites the flags of a Deno process that it starts.
  const child = spawn("sh", ["-c", 'exec "$TESTED_FILE" "$@"', "sh", ...command], {
    cwd,
    env: {
      ...process.env,
      PATH: `${dirname(deno)}:${process.env["PATH"]}`,
      ...env,
      TESTED_FILE: file,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => stdout += text);
  child.stderr.setEncoding("utf8").on("data", (text: string) => stderr += text);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => {
      const lines = stdout.split("\n").filter((line) => line.startsWith("{"))
        .map((line) => JSON.parse(line) as Said);
      const said = (event: string) => lines.filter((line) => line.event === event);
      resolve({ code, stdout, stderr, said });
    });
  });
}

/** Runs the fixture program with Deno flags. */
function runWith(flags: readonly string[], args: readonly string[], where?: Where): Promise<Ended> {
  return run(["run", "--no-config", ...flags, program, ...args], where);
}

// The least permissions that the documentation lists.

const runs = "--allow-run=deno,sh";
const link = "--allow-env=SAM_LINK";
const files = ["--allow-read=/tmp", "--allow-write=/tmp"];
const least: Readonly<Record<typeof transports[number], readonly string[]>> = {
  pipe: [runs, link],
  unix: [runs, link, ...files, "--allow-net"],
  shm: [runs, link, ...files, "--allow-net", "--allow-ffi"],
};

/** Asserts that the program recovered, and that every instance had the server's permissions. */
function assertRecovered(ended: Ended, from: "crash" | "hang" = "crash"): void {
  assertEquals(ended.code, 0, ended.stderr + ended.stdout);
  const count = from === "hang" ? 3 : 2;
  assertEquals(
    ended.said("started").map(({ instance }) => instance),
    [1, 2, 3].slice(0, count),
    ended.stderr,
  );
  const [server, ...instances] = ended.said("begin");
  assertEquals(instances, Array(count).fill(server));
  assert(/instance 1 \(pid \d+\) ended with exit code 1/.test(ended.stderr), ended.stderr);
  assertEquals(/instance 2 \(pid \d+\) stopped responding: /.test(ended.stderr), from === "hang");
}

for (const transport of transports) {
  denoTest(`a Deno program recovers with the least permissions, ${transport}`, async () => {
    const ended = await runWith(least[transport], ["hang", transport]);
    assertRecovered(ended, "hang");
    assert(!ended.stderr.includes("--allow-"), ended.stderr);
  });
}

denoTest(
  "a Deno program recovers over shm without --allow-ffi, and reports that heartbeats are slower",
  async () => {
    const flags = least.shm.filter((flag) => flag !== "--allow-ffi");
    const ended = await runWith(flags, ["hang", "shm"]);
    assertRecovered(ended, "hang");
    assert(/is a write to a file.*run Deno with --allow-ffi/.test(ended.stderr), ended.stderr);
  },
);

// The least permissions for `sam run` with a program that does not use SAM.
const uid = "--allow-sys=uid"; // to find the directory for control sockets
/** Hangs late, because SAM watches an event loop only once it has run freely for a while. */
const hangs = "setTimeout(() => { while (true); }, 1500);";
const rows: readonly (readonly [name: string, flags: readonly string[], isSeen: boolean])[] = [
  ["pipe", [...least.pipe, "--allow-read"], false],
  [
    "unix",
    [runs, "--allow-env=SAM_LINK,XDG_RUNTIME_DIR", uid, "--allow-net", "--allow-read", files[1]!],
    true,
  ],
];
for (const [transport, flags, isSeen] of rows) {
  denoTest(`sam run notices a hang with the least permissions, ${transport}`, async (stage) => {
    const XDG_RUNTIME_DIR = realpathSync(stage.directory);
    const file = join(XDG_RUNTIME_DIR, "server.js");
    writeFileSync(file, hangs);
    const words = ["--time-interval", "500", "--restart-intensity", "0", "--transport", transport];
    const command = sourceFixture("../../src/cli/main");
    const ended = await run(
      ["run", "--no-config", ...flags, command, "run", ...words, file],
      { env: { XDG_RUNTIME_DIR } },
    );
    assertEquals(ended.code, 143, ended.stderr);
    assert(/^sam: server \(pid \d+\) stopped responding: /m.test(ended.stderr), ended.stderr);
    assertEquals(!/no control socket/.test(ended.stderr), isSeen, ended.stderr);
    assertEquals(/--allow-/.test(ended.stderr), !isSeen, ended.stderr);
  });
}

denoTest(
  "sam run notices a hang of a command that has more permissions than sam",
  async (stage) => {
    const file = join(realpathSync(stage.directory), "server.js");
    writeFileSync(file, hangs);
    const ended = await run([
      ...["run", "--no-config", runs, sourceFixture("../../src/cli/main"), "run"],
      ...["--time-interval", "500", "--restart-intensity", "0", "--transport", "pipe", "--"],
      ...["deno", "run", "--no-config", link, file],
    ]);
    assertEquals(ended.code, 143, ended.stderr);
    assert(/^sam: deno \(pid \d+\) stopped responding: /m.test(ended.stderr), ended.stderr);
  },
);

denoTest(
  "sam run names the permission that it lacks to look for files next to a program",
  async (stage) => {
    const file = join(realpathSync(stage.directory), "server.js");
    writeFileSync(file, hangs);
    const command = sourceFixture("../../src/cli/main");
    const ended = await run(["run", "--no-config", ...least.pipe, command, "run", file]);
    assertEquals(ended.code, 77, ended.stderr);
    assert(/^sam: Requires read access to /.test(ended.stderr), ended.stderr);
  },
);

// Missing permissions.

/** Flags that do not suffice, and the flag that the message must name. */
const tooFew: readonly (readonly [
  transport: typeof transports[number],
  flags: readonly string[],
  named: string,
])[] = [
  ["pipe", [], link],
  ["pipe", [runs], link],
  ["pipe", [runs, "--allow-env=HOME"], link],
  ["pipe", [runs, "--allow-env", "--deny-env=SAM_LINK"], link],
  ["pipe", [link], runs],
  ["pipe", [link, "--allow-run=deno"], runs],
  ["pipe", [link, "--allow-run=sh"], `--allow-run=${deno}`],
  ["unix", [runs, link], files.join(" ")],
  ["unix", [runs, link, files[0]!, "--allow-net"], files[1]!],
  ["unix", [runs, link, files[1]!, "--allow-net"], files[0]!],
  ["unix", [runs, link, "--allow-read=/etc", "--allow-write=/etc"], files.join(" ")],
  ["unix", [runs, link, ...files], "--allow-net"],
  ["unix", [runs, link, ...files, "--allow-net=example.com,localhost:80"], "--allow-net"],
  ["shm", [runs, link, "--allow-ffi"], files.join(" ")],
  ["shm", [runs, link, ...files, "--allow-ffi"], "--allow-net"],
];

for (const [transport, flags, named] of tooFew) {
  const which = named.replace(deno, "PATH");
  denoTest(
    `${transport} with ${flags.join(" ") || "no flags"}: ACCESS names ${which}`,
    async () => {
      const ended = await runWith(flags, ["crash", transport]);
      assertEquals(ended.code, 9, ended.stderr + ended.stdout);
      const [failed] = ended.said("failed");
      assertEquals([failed!["code"], failed!["isSamError"]], ["ACCESS", true]);
      assert(`${failed!["message"]} `.includes(`${named} `), failed!["message"]);
      // No instance was started: only the server itself has begun.
      assertEquals(ended.said("begin").length, 1);
    },
  );
}

const terminal = "/usr/bin/script";
denoTest(
  "at a terminal, Deno does not prompt: a missing permission is ACCESS there too",
  async () => {
    for (
      const [transport, flags] of [["unix", [runs, link]], ["unix", [runs, link, ...files]], [
        "pipe",
        [],
      ], ["pipe", [link]]] as const
    ) {
      const words = [deno, "run", "--no-config", ...flags, program, "crash", transport];
      const line = words.map((word) => `'${word}'`).join(" ");
      const ended = await run(["-qec", line, "/dev/null"], { file: terminal });
      assertEquals(ended.code, 9, ended.stdout);
      assertEquals(ended.said("failed").map(({ code }) => code), ["ACCESS"]);
      assert(!/allow\?|requests/i.test(ended.stdout), ended.stdout);
    }
  },
  { skip: !existsSync(terminal) && `there is no ${terminal}` },
);

denoTest("a program that only imports the library needs no permission", async () => {
  const ended = await runWith([], ["show"]);
  assertEquals([ended.code, ended.stderr], [5, ""]);
  assertEquals(ended.said("begin")[0]!["permissions"], []);
});

denoTest("TMPDIR is used if the program may read it", async (stage) => {
  const TMPDIR = realpathSync(stage.directory);
  const flags = [runs, "--allow-env=SAM_LINK,TMPDIR", "--allow-net"];
  const here = [`--allow-read=${TMPDIR}`, `--allow-write=${TMPDIR}`];
  const { code, said } = await runWith(flags, ["crash", "unix"], { env: { TMPDIR } });
  assertEquals(code, 9);
  assert(said("failed")[0]!["message"].includes(here.join(" ")), said("failed")[0]!["message"]);
  assertRecovered(await runWith([...flags, ...here], ["crash", "unix"], { env: { TMPDIR } }));
});

// A program gets exactly the permissions of its server.

const own: readonly (readonly string[])[] = [
  ["run", "-A"],
  ["-A"],
  ["run", "-A", "--deny-net=example.com", "--deny-read=/etc"],
  [
    "run",
    runs,
    link,
    "--allow-read",
    "--deny-read=/etc",
    "--allow-sys=hostname",
    "-N=localhost:8000",
  ],
  ["run", runs, "-E", "-R=/tmp", "--no-prompt", "--v8-flags=--stack-size=900", "--seed", "5"],
  ["run", "--allow-run", "-REN", "--quiet", "-W=data"],
];

for (const flags of own) {
  denoTest(
    `an instance on Deno gets the flags of its server: ${flags.join(" ")}`,
    async (stage) => {
      const unusual = ["", "a b", "-A", "--allow-all", "ü\n"];
      const cwd = realpathSync(stage.directory);
      const words = [...flags, "--no-config", program, "crash", "pipe", ...unusual];
      const ended = await run(words, { cwd });
      assertRecovered(ended);
      assertEquals(ended.said("begin")[0]!["args"], ["crash", "pipe", ...unusual]);
      assertEquals(ended.said("begin")[0]!["cwd"], cwd);
    },
  );

  denoTest(
    `supervise() gives a program the permissions of its server: ${flags.join(" ")}`,
    async (stage) => {
      const cwd = realpathSync(stage.directory);
      const elsewhere = join(cwd, "elsewhere");
      mkdirSync(elsewhere);
      const programs = [{ module: program, args: ["show"] }];
      const words = [...flags, "--no-config", program, "supervise", JSON.stringify(programs)];
      const ended = await run(words, { cwd });
      const finished = ended.said("finished").map(({ code, reason }) => [code, reason]);
      assertEquals(finished, [[5, "exit"]], ended.stderr + ended.stdout);
      const [server, child] = ended.said("begin");
      assertEquals(child!["permissions"], server!["permissions"]);
      assertEquals(child!["args"], ["show"]);
    },
  );
}

/** The exit statuses of programs that one Deno server supervises, and the permissions that each had. */
async function superviseWith(
  flags: readonly string[],
  programs: readonly object[],
  where?: Where,
): Promise<{ finished: Said[]; begun: Said[] }> {
  const all = programs.map((each) => ({ module: program, args: ["show"], ...each }));
  const ended = await runWith(flags, ["supervise", JSON.stringify(all)], where);
  assertEquals(ended.code, 0, ended.stderr + ended.stdout);
  assertEquals(ended.said("finished").length, programs.length);
  return { finished: ended.said("finished"), begun: ended.said("begin").slice(1) };
}

const restricted = [
  runs,
  link,
  ...files,
  "--allow-net=localhost:8000,example.com",
  "--allow-sys=hostname",
];

denoTest(
  "explicit flags that give more permissions than the server has are ACCESS, before any process is started",
  async () => {
    const more = [
      ["-A"],
      ["run", "-A"],
      ["--allow-all"],
      ["--allow-env=SAM_LINK", "-A"],
      ["--allow-read"],
      ["--allow-read=/"],
      ["--allow-read=/tmp,/etc"],
      ["--allow-read=/tmp/../etc"],
      ["-R"],
      ["-R=/etc"],
      ["-RW=/tmp"],
      ["-qR"],
      ["--allow-write"],
      ["--allow-net"],
      ["--allow-net=localhost:8001"],
      ["--allow-net=localhost"],
      ["-N"],
      ["--allow-env"],
      ["--allow-env=HOME"],
      ["--allow-env=SAM_*"],
      ["-E=SAM_LINK,HOME"],
      ["--allow-run"],
      ["--allow-run=node"],
      ["--allow-sys"],
      ["-S=osRelease"],
      ["--allow-ffi"],
      ["--allow-import"],
      ["-I=example.org"],
      ["--allow-scripts"],
      ["-P"],
      ["-P=wide"],
      ["--permission-set=wide"],
    ];
    const programs = more.map((flags) => ({ runtime: { name: "deno", flags } }));
    const { finished, begun } = await superviseWith(restricted, programs);
    more.forEach((flags, at) => {
      const { code, reason, error, message, spawns } = finished[at]!;
      assertEquals([code, reason, error, spawns], [1, "spawn", "ACCESS", 0], flags.join(" "));
      assert(flags.some((flag) => message.includes(`the flag ${flag} `)), message);
    });
    assertEquals(begun, []);
  },
);

denoTest("explicit flags that give fewer permissions are used unchanged", async () => {
  const less: readonly (readonly [flags: readonly string[], permissions: readonly string[]])[] = [
    [[], []],
    [["run"], []],
    [["--allow-env=SAM_LINK"], ["env SAM_LINK"]],
    [["-E=SAM_LINK", "--quiet"], ["env SAM_LINK"]],
    [["--allow-net=example.com:80"], ["net example.com:80"]],
    [["--allow-sys=hostname", "--no-prompt"], ["sys hostname"]],
    [["-R=/tmp/data"], ["read /tmp/data"]],
    [["--deny-net"], []],
  ];
  const programs = less.map(([flags]) => ({ runtime: { name: "deno", flags } }));
  const { finished, begun } = await superviseWith(restricted, programs);
  assertEquals(finished.map(({ code, reason }) => [code, reason]), less.map(() => [5, "exit"]));
  assertEquals(begun.map(({ permissions }) => permissions), less.map(([, each]) => each));
});

denoTest("a server with all permissions may give all", async () => {
  const programs = [["-A"], ["--allow-read"], ["-RWE"]].map((flags) => ({
    runtime: { name: "deno", flags },
  }));
  const { finished } = await superviseWith(["-A"], programs);
  assertEquals(finished.map(({ code }) => code), [5, 5, 5]);
});

denoTest(
  "relative paths in flags are relative to the server's directory, even if the program has another cwd",
  async (stage) => {
    const cwd = realpathSync(stage.directory);
    const elsewhere = join(cwd, "elsewhere");
    mkdirSync(elsewhere);
    const { finished, begun } = await superviseWith(
      [runs, link, "--allow-read=data,./more", ...files.slice(1)],
      [
        {},
        { cwd: elsewhere },
        { cwd: elsewhere, runtime: { name: "deno", flags: ["--allow-read=data"] } },
        { cwd: elsewhere, runtime: { name: "deno", flags: ["--allow-read=../data"] } },
      ],
      { cwd },
    );
    assertEquals(finished.map(({ code, reason }) => [code, reason]), [
      [5, "exit"],
      [5, "exit"],
      [1, "spawn"],
      [5, "exit"],
    ]);
    const mayReadData = begun.map(({ permissions }) => permissions.includes("read data"));
    assertEquals(mayReadData, [true, false, false]);
  },
);

// Names under which Deno is started.

denoTest(
  "Deno can be started by a link on PATH, by the link's path, or by its own path",
  async (stage) => {
    const directory = join(realpathSync(stage.directory), "bin");
    mkdirSync(directory);
    const symlink = join(directory, "deno");
    symlinkSync(deno, symlink);
    const env = { PATH: `${directory}:/usr/bin:/bin` };
    const ways = [
      { file: "deno", allowed: "deno,sh" },
      { file: symlink, allowed: "deno,sh" },
      { file: symlink, allowed: `${symlink},sh` },
      { file: deno, allowed: "deno,sh" },
      { file: deno, allowed: `${deno},sh` },
      { file: "deno", allowed: `${deno},sh` },
    ];
    for (const { file, allowed } of ways) {
      const flags = [`--allow-run=${allowed}`, link];
      const ended = await run(
        [
          "run",
          "--no-config",
          ...flags,
          program,
          "supervise",
          JSON.stringify([{ module: program, args: ["show"] }]),
        ],
        { file, env },
      );
      assertEquals(ended.said("finished").map(({ code }) => code), [5], `${file} ${allowed}`);
    }
    assertRecovered(await runWith([runs, link], ["crash", "pipe"], { file: "deno", env }));
  },
);
