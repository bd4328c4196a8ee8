// The unit of docs/how-to/systemd.md, run by the test's own systemd: a user manager in its own namespaces.
import { assertEquals } from "@std/assert";
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runtimeName, samCommand } from "../support/command.ts";
import { processTest } from "../support/processes.ts";
import { documentation, newest, quickFixture } from "../support/runtimes.ts";

/** Short limits, so that systemd notices a hung server in seconds. */
const hastened = ["WatchdogSec=3", "TimeoutAbortSec=1", "StandardError=inherit"];

/** Runs in the namespace: starts the manager and checks each promise of the page with the unit. */
const script = `
mount -t tmpfs none /run
export XDG_RUNTIME_DIR=/run/user/0
mkdir -p /run/systemd/system $XDG_RUNTIME_DIR/systemd/user
cp "$1/web.service" $XDG_RUNTIME_DIR/systemd/user
systemd --user &
show() { systemctl --user show web -P "$1"; }
reach() {
  for _ in $(seq 400); do
    case $(show "$1") in $2) return ;; esac
    sleep 0.1
  done
  echo "$1 is never $2"
  systemctl --user status web
  exit 1
}
for _ in $(seq 100); do systemctl --user daemon-reload 2>&- && break; sleep 0.1; done
systemctl --user start web
echo "start: $(show ActiveState), $(show StatusText), restarts by systemd: $(show NRestarts)"
first=$(show MainPID)
touch "$1/hang"
reach StatusText '*1 restart*'
reach StatusText 'ready*'
echo "hang: $(show ActiveState), $(show StatusText), restarts by systemd: $(show NRestarts)"
[ "$(show MainPID)" = "$first" ] && echo "the same server"
systemctl --user reload web && echo "reload: $(show ActiveState), $(show StatusText), result: $(show ReloadResult)"
[ "$(show MainPID)" = "$first" ] && echo "the same server"
kill -STOP "$first"
reach NRestarts 1
reach SubState running
second=$(show MainPID)
echo "hung server: $(show ActiveState), $(show StatusText)"
kill -KILL "$second"
reach NRestarts 2
reach SubState running
echo "killed server: $(show ActiveState), $(show StatusText)"
echo "processes: $(pgrep -cf "supervisor/system[d]\\.")"
systemctl --user stop web
echo "stop: $(show ActiveState), $(show Result), processes: $(pgrep -cf "supervisor/system[d]\\.")"
systemctl --user exit
wait
`;

const isThere = spawnSync("systemctl", ["--version"]).status === 0 &&
  spawnSync("unshare", ["--pid", "--fork", "--mount-proc", "true"]).status === 0;

/** The unit of the page, with its placeholders replaced. */
function unit(directory: string): string {
  const page = readFileSync(join(documentation, "how-to/systemd.md"), "utf8");
  const [, text] = /```ini\n([\s\S]*?)```/.exec(page)!;
  const words = [
    ...samCommand(),
    ...["run", "--time-interval", "500", "--runtime", runtimeName],
    ...[quickFixture("supervisor/systemd"), `${directory}/hang`],
  ];
  return text!.replace(/^ExecStart=.*/m, `ExecStart=${words.join(" ")}`)
    .replace(/^ExecReload=.*/m, `ExecReload=${samCommand().join(" ")} reload systemd`)
    .replaceAll("/srv/web", directory)
    .replaceAll("/run/sam-web", "/run/user/0/sam-web")
    .replace(/^User=.*\n/m, "")
    .replace(
      /^WatchdogSec=.*/m,
      [...hastened, `Environment=PATH=${process.env["PATH"]}`].join("\n"),
    );
}

processTest(
  "systemd starts the documented unit, lets sam recover a hang, and restarts a hung or killed server",
  async (stage) => {
    const directory = join(stage.directory, "unit");
    mkdirSync(directory);
    writeFileSync(join(directory, "web.service"), unit(directory));
    const flags = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    const child = spawn("unshare", [...flags, "bash", "-c", script, "bash", directory]);
    let [said, complaints] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => said += text);
    child.stderr.setEncoding("utf8").on("data", (text: string) => complaints += text);
    const code = await new Promise((resolve) => child.on("close", resolve));
    assertEquals(said.trim().split("\n"), [
      "start: active, ready, restarts by systemd: 0",
      "hang: active, ready, 1 restart (last reason: timeout), restarts by systemd: 0",
      "the same server",
      "reload: active, ready, 2 restarts (last reason: timeout), result: success",
      "the same server",
      "hung server: active, ready",
      "killed server: active, ready",
      "processes: 2",
      "stop: inactive, success, processes: 0",
    ], complaints);
    assertEquals(code, 0, complaints);
  },
  { leg: newest, skip: isThere ? false : "needs systemd, root and unshare" },
);
