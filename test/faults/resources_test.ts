// Missing resources: shared memory, a directory for a socket, the pages of a file that was cut.
import { assert, assertEquals } from "@std/assert";
import { spawnSync } from "node:child_process";
import { readdirSync, readlinkSync, truncateSync } from "node:fs";
import { eventually, processTest } from "../support/processes.ts";

const canMount = spawnSync("unshare", ["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).status === 0;
const skip = canMount ? false : "needs root and unshare";

/** A shell that prepares /dev/shm in its own mount namespace, and then becomes the program. */
function within(preparation: string): readonly string[] {
  return ["unshare", "-m", "sh", "-c", `${preparation}; exec "$@"`, "sh"];
}

const small = "mount -t tmpfs -o size=64k none /dev/shm";

/** A /dev with only a few devices. */
const bare = "mount -t tmpfs none /mnt && for each in null zero random urandom tty; do " +
  ">/mnt/$each && mount --bind /dev/$each /mnt/$each || exit 9; done; mount --move /mnt /dev";

for (
  const [what, preparation] of [
    ["is full", `${small}; head -c 65536 /dev/zero >/dev/shm/full`],
    ["cannot be written", "mount -t tmpfs -o ro none /dev/shm"],
    ["is not there", `${bare}; [ ! -e /dev/shm ] || exit 9`],
  ] as const
) {
  processTest(
    `/dev/shm ${what}: the server uses a file elsewhere, and says so`,
    async (stage) => {
      const server = stage.run("faults/program", { args: ["shm"], within: within(preparation) });
      const { pid } = await stage.line("started");
      const said = () =>
        server.stderr().match(/^sam: cannot use shared memory \(.*\): \S+ is used instead$/gm);
      await eventually("the fallback", () => said()?.length === 1);
      assert(said()![0]!.includes(`: ${process.env["TMPDIR"]}/sam-`), server.stderr());
      process.kill(pid, "SIGKILL");
      await stage.line("started", 2);
      server.kill("SIGTERM");
      assertEquals((await server.exited).code, 5);
    },
    { skip },
  );
}

processTest("/dev/shm has 64 KiB: shm works in it", async (stage) => {
  const server = stage.run("faults/program", { args: ["shm"], within: within(small) });
  await stage.line("started");
  server.kill("SIGTERM");
  await server.exited;
  assert(!server.stderr().includes("cannot use"), server.stderr());
}, { skip });

processTest(
  "no directory for a socket: the default transport becomes a pipe, a chosen transport is an error",
  async (stage) => {
    const env = { TMPDIR: "/nonexistent" };
    const server = stage.run("faults/program", { args: ["default"], env });
    await stage.line("started");
    assert(server.stderr().includes('using transport "pipe" instead'), server.stderr());
    server.kill("SIGTERM");
    assertEquals((await server.exited).code, 5);
    const other = stage.run("faults/program", { args: ["unix"], env });
    assertEquals((await other.exited).code !== 0, true);
    assert(other.stderr().includes("/nonexistent"), other.stderr());
  },
);

processTest("a program that truncates the shared file does not end its server", async (stage) => {
  const watched = stage.supervise("faults/program", {
    timeInterval: 300,
    recoveryPolicy: "restart",
    transport: "shm",
  }, { args: ["shm", "checked"] });
  const { pid } = await stage.line("started");
  let cut = 0;
  for (const descriptor of readdirSync(`/proc/${pid}/fd`)) {
    const path = `/proc/${pid}/fd/${descriptor}`;
    try {
      if (!/\/sam-.*\/p/.test(readlinkSync(path))) continue;
      truncateSync(path, 0);
      cut++;
    } catch {
      // closed meanwhile
    }
  }
  assert(cut > 0);
  process.kill(pid, "SIGKILL");
  await stage.line("started", 2);
  assertEquals((await watched.supervisor.stop()).reason, "stopped");
});
