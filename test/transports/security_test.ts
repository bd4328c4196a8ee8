// What others may try, and a program that means harm: nobody is let in, and a server does not crash, hang or grow.

import { assert, assertEquals } from "@std/assert";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
} from "node:fs";
import { connect, type Socket } from "node:net";
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

spawnSync("true"); // Bun keeps what it opens for the first one

/** An endpoint in a directory that everybody may enter, and what its address says. */
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

/** A connection past the library. */
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
    `another user cannot come near the socket, ${transport.name}`,
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
        assertEquals(as("--no-new-privs"), "connected"); // it does listen
        return Promise.resolve();
      }),
  );

  processTest(
    `strangers are refused and keep nobody out, ${transport.name}`,
    () =>
      opened(transport, async (endpoint, nonce, path) => {
        const links: Link[] = [];
        endpoint.accept({ stream: null }, (link) => links.push(link));
        const silent = [];
        for (let count = 0; count < 12; count++) silent.push(await raw(path));
        const wrong = Uint8Array.from(nonce, (byte) => byte ^ 1);
        const lies = [
          envelope(wrong),
          envelope(nonce.subarray(0, 15)),
          envelope(new Uint8Array(17)),
          Uint8Array.of(0, 0, 0),
          Uint8Array.of(1, 255, 255, 255, 255),
          Uint8Array.of(7),
        ];
        for (const lie of lies) {
          const liar = await raw(path);
          liar.socket.write(lie);
          await eventually("the end of a liar", liar.closed);
        }
        assertEquals(links.length, 0);

        const late = await raw(path);
        const mine = await raw(path);
        mine.socket.write(envelope(nonce));
        await eventually("the link", () => links.length === 1);
        late.socket.write(envelope(nonce));
        await eventually("the end of the second with the nonce", late.closed);
        for (const each of silent) await eventually("the end of the silent", each.closed);
        assert(!existsSync(path), "the name is still there");
        assert(!existsSync(path.replace(/\/s$/, "")), "the directory is still there");
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

const root = 0;
const nobody = 65534;
const asNobody = [
  ...["setpriv", `--reuid=${nobody}`, `--regid=${nobody}`, "--clear-groups"],
  ...["--inh-caps=+dac_override", "--ambient-caps=+dac_override"], // to read this library
];
const needsRoot = process.getuid!() === root ? false : "needs root";

/** Starts a server of a user's, to whose socket every user can connect; returns the address. */
async function openToAll(stage: Stage, user: number): Promise<string> {
  chownSync(process.env["TMPDIR"]!, user, user);
  stage.run("transports/peer_server", { within: user === root ? [] : asNobody });
  return (await stage.line("open"))["address"] as string;
}

const introduce =
  "use Socket; $SIG{PIPE} = q(IGNORE); socket(S, PF_UNIX, SOCK_STREAM, 0) or die; " +
  "connect(S, sockaddr_un($ARGV[0])) or die qq($!\\n); syswrite(S, pack(q(H*), $ARGV[1])); " +
  "print sysread(S, $_, 1) ? q(admitted) : q(refused)";

/** What becomes of a process of a user's that knows the address, and says the nonce. */
function introduced(user: number, address: string): string {
  const bytes = Array.from(
    envelope(nonceOf(address)),
    (byte) => byte.toString(16).padStart(2, "0"),
  );
  const as = [`--reuid=${user}`, `--regid=${user}`, "--clear-groups"];
  const words = ["perl", "-e", introduce, address.slice(32), bytes.join("")];
  const { stdout, stderr } = spawnSync("setpriv", [...as, ...words]);
  return `${stdout}${stderr}`;
}

for (const [name, user, stranger] of [["root", root, nobody], ["nobody", nobody, 65533]] as const) {
  processTest(
    `another user who has the nonce and a way to the socket is refused, and keeps nobody out, server of ${name}`,
    async (stage) => {
      const address = await openToAll(stage, user);
      assertEquals(introduced(stranger, address), "refused");
      assertEquals(introduced(user, address), "admitted");
    },
    { skip: needsRoot || (currentRuntime === "deno" && "Deno tells no descriptor") },
  );
}

processTest("root is admitted to the socket of another user", async (stage) => {
  const address = await openToAll(stage, nobody);
  assertEquals(introduced(root, address), "admitted");
}, { skip: needsRoot });

/** A program that harms its server, recovered at most so many times. */
function hostile(stage: Stage, transport: TransportName, intensity: number, args: string[]) {
  return stage.supervise("transports/hostile", {
    timeInterval: 2000,
    recoveryPolicy: "restart",
    transport,
    restart: { intensity, maxDelay: 0 },
  }, { args });
}

test("random and mutated frames are a message or a MESSAGE_ERROR", () => {
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
    `a program that floods its server is recovered, and no more, ${transport}`,
    async (stage) => {
      const watched = hostile(stage, transport, Infinity, ["floods", "60"]);
      await watched.event("recovery", 1);
      const before = process.memoryUsage().rss;
      await watched.event("recovery", 2);
      assert(process.memoryUsage().rss - before < 200 * 2 ** 20, "it has grown");
      assert(watched.all("problem").length >= 2);
      assert(watched.supervisor.status.dataSize <= 64 * 2 ** 20);
    },
    { leg: newest },
  );
}

for (
  const [transport, what, size] of [
    ["shm", "no file at all", 0],
    ["shm", "a size beyond all bounds", 2 ** 41],
    ["unix", "a size beyond all bounds", 2 ** 41],
  ] as const
) {
  processTest(
    `a program that scribbles over the file it shares is recovered, and no more: ${what}, ${transport}`,
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
    `a program that writes noise over the page it shares is recovered, and no more, ${transport}`,
    async (stage) => {
      const watched = hostile(stage, transport, Infinity, ["scrawls", "500"]);
      await watched.event("recovery", 1);
      const before = process.memoryUsage().rss;
      const { evidence } = await watched.event("recovery", 4);
      assert(process.memoryUsage().rss - before < 100 * 2 ** 20, "it has grown");
      assertEquals(evidence.note, undefined);
      assert(watched.supervisor.status.dataSize <= 64 * 2 ** 20);
      assertEquals((await watched.supervisor.stop()).reason, "stopped");
    },
  );
}

processTest(
  "a process that a program claims to be, and that does not descend from it, is never signalled",
  async (stage) => {
    const bystander = stage.runCommand("sleep", { args: ["600"] });
    const watched = stage.supervise("transports/hostile", {
      timeInterval: 300,
      recoveryPolicy: "quit",
    }, { args: ["claims", String(bystander.pid)] });
    assertEquals((await watched.event("register")).pid, bystander.pid);
    const { reason, signal } = await watched.finished();
    assertEquals([reason, signal], ["quit", "SIGTERM"]);
    assert(lives(bystander.pid), "the other process was signalled");
    bystander.kill("SIGKILL");
    assertEquals(await bystander.exited, { code: null, signal: "SIGKILL" });
  },
);

processTest(
  "what stays in /proc of the address is of no use: the nonce is taken, the names are gone",
  async (stage) => {
    const watched = stage.supervise("api/instance", {
      timeInterval: 60_000,
      recoveryPolicy: "quit",
    });
    const { pid } = await watched.event("register");
    const environment = readFileSync(`/proc/${pid}/environ`, "utf8");
    const address = /SAM_LINK=unix:([0-9a-f]{32})(\/[^\0]+)/.exec(environment);
    assert(address, "the kernel has it still");
    assert(!existsSync(address[2]!), "the socket is still there");
  },
);
