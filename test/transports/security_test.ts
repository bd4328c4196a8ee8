// Attacks by other processes and by a hostile program: no stranger gets in, and a server does not crash, hang or grow.

import { assert, assertEquals, assertMatch } from "@std/assert";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { envelope } from "../../src/core/wire.ts";
import { loadRuntime } from "../../src/runtime/load.ts";
import { shm } from "../../transports/shm.ts";
import type { Endpoint, Link } from "../../transports/transport.ts";
import { unix } from "../../transports/unix.ts";
import { Decoding } from "../support/fuzzer.ts";
import { test } from "../support/harness.ts";
import {
  eventually,
  lives,
  processTest,
  type Stage,
  type TransportName,
} from "../support/processes.ts";
import { currentRuntime, newest, runtimeNames } from "../support/runtimes.ts";

spawnSync("true"); // Bun opens files for its first child process and never closes them

/**
 * Opens an endpoint in a directory that all users can enter. Passes it on with the nonce and the path of its address.
 */
async function opened(
  transport: typeof unix,
  act: (endpoint: Endpoint & { address: string }, nonce: Uint8Array, path: string) => Promise<void>,
): Promise<void> {
  const around = process.env["TMPDIR"];
  const directory = process.env["TMPDIR"] = mkdtempSync("/tmp/open-");
  chmodSync(directory, 0o755);
  const endpoint = await transport.open(await loadRuntime()) as Endpoint & { address: string };
  try {
    await act(endpoint, nonceOf(endpoint.address), endpoint.address.slice(32));
  } finally {
    endpoint.close();
    if (around === undefined) delete process.env["TMPDIR"];
    else process.env["TMPDIR"] = around;
    rmSync(directory, { recursive: true });
  }
}

function nonceOf(address: string): Uint8Array {
  return Uint8Array.from(address.slice(0, 32).match(/../g)!, (pair) => parseInt(pair, 16));
}

/** Connects without the library. */
async function raw(path: string): Promise<{ socket: Socket; closed: () => boolean }> {
  let closed = false;
  const socket = connect(path);
  socket.on("close", () => closed = true).on("error", () => {}).resume();
  await new Promise((resolve) => socket.once("connect", resolve));
  return { socket, closed: () => closed };
}

const knock = "use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0) or die; " +
  "connect(S, sockaddr_un($ARGV[0])) or die qq($!\\n); print qq(connected\\n)";

for (const transport of [unix, shm]) {
  processTest(
    `another user cannot connect to the socket, ${transport.name}`,
    () =>
      opened(transport, (_endpoint, _nonce, path) => {
        const directory = path.replace(/\/s$/, "");
        assertEquals(statSync(directory).mode & 0o777, 0o700);
        if (transport === shm) assertEquals(statSync(`${directory}/p`).mode & 0o777, 0o600);
        assert(/\/sam-[^/]{6,}$/.test(directory), directory);
        if (process.getuid!() !== 0) return Promise.resolve();
        const nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
        const as = (...who: string[]) => {
          const { stdout, stderr } = spawnSync("setpriv", [...who, "perl", "-e", knock, path]);
          return `${stdout}${stderr}`.trim();
        };
        assertEquals(as(...nobody), "Permission denied");
        assertEquals(as("--no-new-privs"), "connected"); // the socket does accept connections
        return Promise.resolve();
      }),
  );

  processTest(
    `strangers are refused, and do not keep the program out, ${transport.name}`,
    () =>
      opened(transport, async (endpoint, nonce, path) => {
        const links: Link[] = [];
        endpoint.accept({ stream: null }, (link) => links.push(link));
        const mute = [];
        for (let count = 0; count < 12; count++) mute.push(await raw(path));
        const wrong = Uint8Array.from(nonce, (byte) => byte ^ 1);
        const wrongFrames = [
          envelope(wrong),
          envelope(nonce.subarray(0, 15)),
          envelope(new Uint8Array(17)),
          Uint8Array.of(0, 0, 0),
          Uint8Array.of(1, 255, 255, 255, 255),
          Uint8Array.of(7),
        ];
        for (const frame of wrongFrames) {
          const stranger = await raw(path);
          stranger.socket.write(frame);
          await eventually("the end of a stranger", stranger.closed);
        }
        assertEquals(links.length, 0);

        const late = await raw(path);
        const mine = await raw(path);
        mine.socket.write(envelope(nonce));
        await eventually("the link", () => links.length === 1);
        late.socket.write(envelope(nonce));
        await eventually("the end of the second with the nonce", late.closed);
        for (const each of mute) {
          await eventually("the end of the connections that sent nothing", each.closed);
        }
        assert(!existsSync(path), "the socket still exists");
        assert(!existsSync(path.replace(/\/s$/, "")), "the directory still exists");
        assertEquals(links.length, 1);

        const frames: number[] = [];
        links[0]!.receive({
          frame: (frame) => frames.push(frame.length),
          heartbeat() {},
          end() {},
        });
        mine.socket.write(envelope(new Uint8Array(5)));
        await eventually("a frame", () => frames.length === 1);
        links[0]!.close();
        await eventually("the end of the link", mine.closed);
      }),
  );
}

for (const transport of [unix, shm]) {
  processTest(
    `a worker's socket admits one connection, with the key that was announced, ${transport.name}`,
    () =>
      opened(transport, async (endpoint, ownNonce, path) => {
        endpoint.close(); // after the connection of the instance
        const name = "0123456789abcdef";
        const nonce = new Uint8Array(16).fill(0xab);
        const key = name + "ab".repeat(16);
        const beside = path.replace(/[^-/]+\/s$/, `${name}/s`);
        const worker = await endpoint.openWorker!(key);
        const links: Link[] = [];
        worker.accept((link) => links.push(link));
        assertEquals(statSync(beside.replace(/\/s$/, "")).mode & 0o777, 0o700);
        // The same key cannot be announced twice, and a directory of another process is not used.
        const again = await endpoint.openWorker!(key).then(() => "opened", (error) => error.code);
        assertEquals(again, "LIBRARY");
        for (const wrong of [new Uint8Array(16), nonce.subarray(1), ownNonce]) {
          const stranger = await raw(beside);
          stranger.socket.write(envelope(wrong));
          await eventually("the end of a stranger", stranger.closed);
        }
        assertEquals(links.length, 0);
        const late = await raw(beside);
        const mine = await raw(beside);
        mine.socket.write(envelope(nonce));
        await eventually("the link", () => links.length === 1);
        late.socket.write(envelope(nonce));
        await eventually("the end of a connection with the used key", late.closed);
        assert(!existsSync(beside), "the socket still exists");
        assert(!existsSync(beside.replace(/\/s$/, "")), "the directory still exists");
        assertEquals(links.length, 1);
        links[0]!.close();
        await eventually("the end of the link", mine.closed);

        const unused = await endpoint.openWorker!(key);
        unused.close();
        assert(!existsSync(beside.replace(/\/s$/, "")), "an unused directory still exists");
      }),
  );
}

const root = 0;
const nobody = 65534;
const asNobody = [
  ...["setpriv", `--reuid=${nobody}`, `--regid=${nobody}`, "--clear-groups"],
  ...["--inh-caps=+dac_override", "--ambient-caps=+dac_override"], // to read this library
];
const needsRoot = process.getuid!() === root ? false : "needs root";

/** Starts a server as `user`, with a socket to which every user can connect. Returns the address. */
async function openToAll(stage: Stage, user: number): Promise<string> {
  chownSync(process.env["TMPDIR"]!, user, user);
  stage.run("transports/peer_server", { within: user === root ? [] : asNobody });
  return (await stage.line("open"))["address"] as string;
}

const connectScript =
  "use Socket; $SIG{PIPE} = q(IGNORE); socket(S, PF_UNIX, SOCK_STREAM, 0) or die; " +
  "connect(S, sockaddr_un($ARGV[0])) or die qq($!\\n); syswrite(S, pack(q(H*), $ARGV[1])); " +
  "print sysread(S, $_, 1) ? q(admitted) : q(refused)";

/** Connects as `user`, with the nonce. Returns "admitted", "refused" or an error. */
function connectAs(user: number, address: string): string {
  const bytes = Array.from(
    envelope(nonceOf(address)),
    (byte) => byte.toString(16).padStart(2, "0"),
  );
  const as = [`--reuid=${user}`, `--regid=${user}`, "--clear-groups"];
  const words = ["perl", "-e", connectScript, address.slice(32), bytes.join("")];
  const { stdout, stderr } = spawnSync("setpriv", [...as, ...words]);
  return `${stdout}${stderr}`;
}

for (const [name, user, stranger] of [["root", root, nobody], ["nobody", nobody, 65533]] as const) {
  processTest(
    `another user who has the nonce and can connect is refused, and does not keep the program out, server of ${name}`,
    async (stage) => {
      const address = await openToAll(stage, user);
      assertEquals(connectAs(stranger, address), "refused");
      assertEquals(connectAs(user, address), "admitted");
    },
    { skip: needsRoot || (currentRuntime === "deno" && "Deno does not expose file descriptors") },
  );
}

processTest("root is admitted to the socket of another user", async (stage) => {
  const address = await openToAll(stage, nobody);
  assertEquals(connectAs(root, address), "admitted");
}, { skip: needsRoot });

/** Starts the hostile program, with at most `intensity` recoveries. */
function hostile(stage: Stage, transport: TransportName, intensity: number, args: string[]) {
  return stage.supervise("transports/hostile", {
    timeInterval: 2000,
    recoveryPolicy: "restart",
    transport,
    restart: { intensity, maxDelay: 0 },
  }, { args });
}

test("random and mutated frames decode to a message or fail with MESSAGE_ERROR", () => {
  const count = 30_000; // a million of them: npm run test:soak
  const decoding = new Decoding(runtimeNames.indexOf(currentRuntime));
  const before = process.memoryUsage().heapUsed;
  decoding.run(count);
  assert(decoding.messages > count / 50, `${decoding.messages} of ${count} were messages`);
  const grown = process.memoryUsage().heapUsed - before;
  assert(grown < 100 * 2 ** 20, `${grown} bytes more`);
});

for (const transport of ["unix", "shm"] as const) {
  processTest(
    `a program that floods its server with frames causes nothing but its own recovery, ${transport}`,
    async (stage) => {
      const watched = hostile(stage, transport, Infinity, ["floods", "60"]);
      await watched.event("recovery", 1);
      const before = process.memoryUsage().rss;
      await watched.event("recovery", 2);
      assert(process.memoryUsage().rss - before < 200 * 2 ** 20, "the server has grown");
      assert(watched.all("problem").length >= 2);
      assert(watched.supervisor.status.dataSize <= 64 * 2 ** 20);
    },
    { leg: newest },
  );
}

for (
  const [transport, what, size] of [
    ["shm", "an empty file", 0],
    ["shm", "a size beyond all bounds", 2 ** 41],
    ["unix", "a size beyond all bounds", 2 ** 41],
  ] as const
) {
  processTest(
    `a program that writes wrong records to the shared file causes nothing but its own recovery: ${what}, ${transport}`,
    async (stage) => {
      const watched = hostile(stage, transport, 1, ["scribbles", String(size)]);
      const status = await watched.finished();
      assertEquals([status.reason, status.code], ["restart-limit", 1]);
      assertEquals(watched.all("recovery").length, 2);
      if (size > 0) assert(watched.all("problem").length >= 2);
      assertEquals(watched.supervisor.status.dataSize, 0);
    },
  );
}

for (const transport of ["shm", "unix"] as const) {
  processTest(
    `a program that writes random bytes to the shared page causes nothing but its own recovery, ${transport}`,
    async (stage) => {
      const watched = hostile(stage, transport, Infinity, ["scrawls", "500"]);
      await watched.event("recovery", 1);
      const before = process.memoryUsage().rss;
      const { evidence } = await watched.event("recovery", 4);
      assert(process.memoryUsage().rss - before < 100 * 2 ** 20, "the server has grown");
      assertEquals(evidence.note, undefined);
      assert(watched.supervisor.status.dataSize <= 64 * 2 ** 20);
      assertEquals((await watched.supervisor.stop()).reason, "stopped");
    },
  );
}

processTest(
  "a program that claims another process's id cannot make the server signal that process",
  async (stage) => {
    const bystander = stage.runCommand("sleep", { args: ["600"] });
    const watched = stage.supervise("transports/hostile", {
      timeInterval: 300,
      recoveryPolicy: "quit",
    }, { args: ["claims", String(bystander.pid)] });
    assertEquals((await watched.event("register")).pid, bystander.pid);
    const { reason, signal } = await watched.finished();
    assertEquals([reason, signal], ["quit", "SIGTERM"]);
    assert(lives(bystander.pid), "the other process was signaled");
    bystander.kill("SIGKILL");
    assertEquals(await bystander.exited, { code: null, signal: "SIGKILL" });
  },
);

for (const transport of [unix, shm]) {
  processTest(
    `a program connects to no directory of another user, and through no symbolic link, ${transport.name}`,
    async (stage) => {
      const runtime = await loadRuntime();
      const file = join(stage.directory, "file");
      writeFileSync(file, "unchanged");
      const place = (name: string) => {
        const path = join(stage.directory, name);
        mkdirSync(path);
        symlinkSync(file, join(path, "p"));
        return path;
      };
      const foreign = place("foreign");
      chownSync(foreign, nobody, nobody);
      const link = join(stage.directory, "link");
      symlinkSync(place("own"), link);
      for (const directory of [foreign, link]) {
        const error = await transport.connect(`${"0".repeat(32)}${directory}/s`, runtime)
          .then(() => undefined, (error) => error);
        assertEquals(error?.code, "ACCESS");
        assertMatch(error.message, /belongs to another user, so this program does not connect/);
      }
      assertEquals(readFileSync(file, "utf8"), "unchanged");
    },
    { skip: needsRoot || (currentRuntime === "deno" && "Deno may not see the owner") },
  );
}

processTest(
  "the address that stays in /proc is useless: the nonce is used, and the socket is gone",
  async (stage) => {
    const watched = stage.supervise("api/instance", {
      timeInterval: 60_000,
      recoveryPolicy: "quit",
    });
    const { pid } = await watched.event("register");
    const environment = readFileSync(`/proc/${pid}/environ`, "utf8");
    const address = /SAM_LINK=unix:([0-9a-f]{32})(\/[^\0]+)/.exec(environment);
    assert(address, "/proc no longer contains the address");
    assert(!existsSync(address[2]!), "the socket is still there");
  },
);
