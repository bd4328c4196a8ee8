// `sam unit`: the units are valid for systemd, and a real systemd as process 1 runs them, also after the next boot.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { spawn, spawnSync } from "node:child_process";
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { type Command, commandTest, page, runtimeName, samCommand } from "../support/command.ts";
import { freePorts } from "../support/ports.ts";
import { newest } from "../support/runtimes.ts";
import { eventually } from "../support/processes.ts";

const hasSystemd = spawnSync("systemctl", ["--version"]).status === 0;
const isNode = runtimeName === "node";
const canBoot = hasSystemd &&
  spawnSync("unshare", ["--pid", "--mount", "--cgroup", "--fork", "--mount-proc", "true"])
      .status === 0;

async function output(command: Command): Promise<string> {
  assertEquals(await command.exited, 0, command.stderr);
  return command.stdout;
}

/** The texts of the units that `sam unit` has printed, by their names. */
function unitsIn(text: string): Map<string, string> {
  const parts = text.split(/^# (\/.*)\n(?=# Made by sam unit\.\n)/m).slice(1);
  return new Map(
    parts.flatMap((path, at) => at % 2 === 0 ? [[path.replace(/.*\//, ""), parts[at + 1]!]] : []),
  );
}

/** Writes a module that does nothing. */
function program(directory: string, name = "web.mjs"): string {
  const path = join(directory, name);
  writeFileSync(path, "setInterval(() => {}, 1000);\n");
  return path;
}

commandTest(
  "the printed units are valid for systemd, for the system and a user",
  async (sam, stage) => {
    program(stage.directory);
    for (const flags of [[], ["--user"]]) {
      const words = ["unit", ...flags, "--socket", "--listen", "8080", "--listen", "[::1]:80"];
      const text = await output(
        sam([...words, "--listen", "unix:/run/web/x", "web.mjs"], {}, stage.directory),
      );
      const units = unitsIn(text);
      assertEquals([...units.keys()], ["web.service", "web.socket"]);
      assertMatch(
        units.get("web.socket")!,
        /ListenStream=8080\nListenStream=\[::1\]:80\nListenStream=\/run\/web\/x\n/,
      );
      const paths = [...units].map(([name, unit]) => {
        const path = join(stage.directory, name);
        writeFileSync(path, unit);
        return path;
      });
      const verify = spawnSync("systemd-analyze", ["verify", "--man=no", ...paths], {
        encoding: "utf8",
      });
      const own = verify.stderr.split("\n").filter((line) => line.includes("web."));
      assertEquals([verify.status, own], [0, []], verify.stderr);
    }
  },
  { skip: !hasSystemd && "needs systemd" },
);

commandTest(
  "sam unit has the words of sam run, the user and the capability for a low port",
  async (sam, stage) => {
    program(stage.directory);
    const sudo = { SUDO_USER: "nobody" };
    const words = [
      "unit",
      "--json",
      "--no-preload",
      "--env",
      "A=1",
      "--listen",
      "80",
      "--",
      "web.mjs",
      "--user",
    ];
    const text = await output(sam(words, sudo, stage.directory));
    assertStringIncludes(text, " run --json --no-preload --env A=1 --listen 80 web.mjs --user\n");
    assertStringIncludes(text, " reload web\n");
    assertStringIncludes(text, `WorkingDirectory=${stage.directory}\n`);
    if (process.getuid!() === 0) assertStringIncludes(text, "User=nobody\n");
    assertStringIncludes(text, "AmbientCapabilities=CAP_NET_BIND_SERVICE\n");
    const variable = sam(["unit", "web.mjs"], { SAM_RESTART: "always" }, stage.directory);
    assertStringIncludes(await output(variable), "\nEnvironment=SAM_RESTART=always\n");
    const refused = sam(["unit", "--socket", "web.mjs"], {}, stage.directory);
    assertEquals(await refused.exited, 64);
    assertStringIncludes(refused.stderr, "--socket needs an address that systemd opens");
    const missing = sam(["unit", "no.mjs"], {}, stage.directory);
    assertEquals(await missing.exited, 66);
    assertMatch(await output(sam(["unit", "--help"])), /^sam unit \[--install\]/);
  },
);

commandTest(
  "sam unit --install overwrites no unit of another folder or of somebody else, and refuses odd names",
  async (sam, { directory }) => {
    program(directory);
    const units = join(directory, "systemd/user");
    const path = join(units, "web.service");
    mkdirSync(units, { recursive: true });
    const env = { XDG_CONFIG_HOME: directory };
    for (const text of ["[Service]\n", "# Made by sam unit.\nWorkingDirectory=/srv/other\n"]) {
      writeFileSync(path, text);
      const install = sam(["unit", "--install", "--user", "web.mjs"], env, directory);
      assertEquals(await install.exited, 69);
      assertStringIncludes(install.stderr, `${path} exists, and was not made by sam unit`);
      assertEquals(readFileSync(path, "utf8"), text);
    }
    program(directory, "my app.mjs");
    const odd = sam(["unit", "my app.mjs"], {}, directory);
    assertEquals(await odd.exited, 64);
    assertStringIncludes(odd.stderr, 'a unit cannot be named "my app"');
  },
);

/** Words with all characters that systemd treats in a special way. */
const odd = [
  ...["a b", 'quote"s', "it's", "back\\slash", "per%cent %n", "dol$lar ${HOME}", ";", "-", "tab\t"],
  ...["@+!:", "ü", ""],
];

/** Boots a systemd that runs no units but those of the test, and the shell script `$1/script`. Its cgroup is `$2`. */
const boot = `set -e
mkdir "$2"
echo $$ > "$2/cgroup.procs"
exec unshare --pid --mount --uts --ipc --cgroup --fork --mount-proc --kill-child sh -ec '
mount --make-rprivate /
for each in /run /etc/systemd/system /usr/lib/systemd/system-generators /usr/lib/systemd/system; do
  mount -t tmpfs none $each
done
mount -t cgroup2 none /sys/fs/cgroup
mount --bind "$1/system" /etc/systemd/system
cd /usr/lib/systemd/system
for each in sysinit basic sockets network-online shutdown umount; do
  printf "[Unit]\\nDefaultDependencies=no\\n" > $each.target
done
printf "Wants=sockets.target\\nAfter=sockets.target\\n" >> basic.target
printf "[Unit]\\nRequires=basic.target\\nAfter=basic.target\\n" > multi-user.target
ln -s multi-user.target default.target
printf "[Service]\\nType=oneshot\\nStandardOutput=append:$1/said\\nStandardError=append:$1/said\\n" > script.service
printf "ExecStart=/bin/sh $1/script\\n" >> script.service
mkdir multi-user.target.wants
ln -s ../script.service multi-user.target.wants/
container=lxc exec /lib/systemd/systemd --system --log-level=err
' sh "$1"
`;

/** The place where cgroups of version 2 are mounted; empty if they are not. */
const cgroups = spawnSync("findmnt", ["-fnt", "cgroup2", "-o", "TARGET"], { encoding: "utf8" })
  .stdout?.trim() ?? "";

/**
 * Boots systemd, and runs a shell script as a service. When it has said "ready", calls `act`; the script then finds the file `go`.
 * Resolves to what it has said until "end".
 */
async function booted(
  directory: string,
  script: string,
  act: () => Promise<void>,
): Promise<readonly string[]> {
  const said = () => readFileSync(join(directory, "said"), "utf8");
  writeFileSync(join(directory, "said"), "");
  rmSync(join(directory, "go"), { force: true });
  const wait = "echo ready; while [ ! -e go ]; do sleep 0.1; done";
  const lines = script.replace("WAIT", wait);
  writeFileSync(join(directory, "script"), `cd ${directory}\n${lines}\necho end\n`);
  const group = `${cgroups}/sam-test-${process.pid}`;
  const child = spawn("sh", ["-c", boot, "sh", directory, group], { stdio: "inherit" });
  const exited = new Promise((resolve) => child.on("close", resolve));
  try {
    await eventually("ready", () => /^(ready|end)$/m.test(said()));
    await act();
    writeFileSync(join(directory, "go"), "");
    await eventually("end", () => /^end$/m.test(said()));
  } catch (error) {
    throw new Error(`${(error as Error).message}; it has said:\n${said()}`);
  } finally {
    child.kill("SIGKILL");
    await exited;
    await eventually("the end of the cgroup", () => removed(group));
  }
  return said().trim().split("\n");
}

/** Removes a cgroup with those below it. False while one of them has processes. */
function removed(group: string): boolean {
  try {
    for (const name of readdirSync(group)) {
      if (statSync(join(group, name)).isDirectory() && !removed(join(group, name))) return false;
    }
    rmdirSync(group);
    return true;
  } catch (error) {
    return (error as { code?: string }).code === "ENOENT";
  }
}

commandTest(
  "sam unit --install starts the program under systemd, and each boot starts it again",
  async (_sam, { directory }) => {
    const [port] = await freePorts(1);
    mkdirSync(join(directory, "system"));
    writeFileSync(
      join(directory, "web.mjs"),
      `import { writeFileSync } from "node:fs";
      import { createServer } from "node:http";
      import process from "node:process";
      writeFileSync("words", JSON.stringify(process.argv.slice(2)));
      createServer(({ url }, response) => {
        if (url === "/hang") for (;;);
        response.end(String(process.pid));
      }).listen(${port});`,
    );
    const quoted = (words: readonly string[]) =>
      words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
    // Only Node's HTTP servers can use a socket of systemd, and be reloaded with it.
    const socket = isNode ? ["--socket", "--listen", String(port)] : [];
    const line = [
      ...[...samCommand(), "unit", "--install", ...socket, "--time-interval", "500ms"],
      ...["--runtime", runtimeName, "web.mjs", ...odd],
    ];
    const answer = () => page(port!, "/");
    const first = await booted(
      directory,
      `${quoted(line)}
      echo "$(systemctl is-active web), $(systemctl is-enabled web), $(systemctl show -P StatusText web)"
      WAIT
      until systemctl show -P StatusText web | grep "^ready"; do sleep 0.1; done
      systemctl ${isNode ? "reload" : "restart"} web && echo replaced
      systemctl stop web 2>/dev/null && systemctl is-active web`,
      async () => {
        const pid = await eventually("an answer", answer);
        assertEquals(JSON.parse(readFileSync(join(directory, "words"), "utf8")), odd);
        assertEquals(await page(port!, "/hang"), undefined);
        await eventually("another process", async () => ![undefined, pid].includes(await answer()));
      },
    );
    const wrote = isNode ? ["service", "socket"] : ["service"];
    assertEquals(first.filter((each) => !each.startsWith("Created symlink")), [
      ...wrote.map((kind) => `sam: wrote /etc/systemd/system/web.${kind}`),
      "sam: web.service is started and enabled. Its log: journalctl -u web.service",
      "active, enabled, ready",
      "ready",
      "ready, 1 restart (last reason: timeout)",
      "replaced",
      "inactive",
      "end",
    ]);
    const second = await booted(
      directory,
      `until [ "$(systemctl is-active web)" = active ]; do sleep 0.1; done\nWAIT\nsystemctl stop web 2>/dev/null`,
      async () => assert(await eventually("an answer", answer)),
    );
    assertEquals(second, ["ready", "end"]);
  },
  {
    leg: newest,
    timeoutMs: 120_000,
    skip: canBoot && cgroups !== ""
      ? false
      : "needs root, systemd, unshare and cgroups of version 2",
  },
);
