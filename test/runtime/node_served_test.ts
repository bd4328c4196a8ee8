// The announced end of a server of node:http on a held socket: which connections it closes, and when.
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { EventEmitter } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import { type AddressInfo, connect, Server as NetServer, type Socket } from "node:net";
import { followNodeServer, type NodeHttpServer } from "../../src/runtime/node_served.ts";
import { checkConnections, type ServedServer } from "../../src/runtime/served_requests.ts";
import { test, type TestOptions } from "../support/harness.ts";
import { eventually } from "../support/processes.ts";
import { currentRuntime } from "../support/runtimes.ts";

/** Reason to skip a test. */
const noNewConnections = currentRuntime === "bun" && "a server of Bun closes new connections";

/** A client that sends and receives the text of HTTP. */
class Client {
  readonly #socket: Socket;
  readonly closed: Promise<void>;
  text = "";
  isClosed = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("utf8").on("data", (text) => this.text += text).on("error", () => {});
    this.closed = new Promise((resolve) =>
      socket.on("close", () => {
        this.isClosed = true;
        resolve();
      })
    );
  }

  /** Sends a request. */
  ask(path = "/", ...headers: string[]): void {
    const lines = [`GET ${path} HTTP/1.1`, "host: localhost", ...headers, "", ""];
    this.#socket.write(lines.join("\r\n"));
  }

  /** Waits for the end of an answer. */
  async answer(): Promise<string> {
    await eventually("an answer", () => this.text.endsWith("0\r\n\r\n"));
    const { text } = this;
    this.text = "";
    return text;
  }
}

/** A server whose end is announced, and its clients. */
interface Scene {
  readonly server: Server;
  readonly served: ServedServer;
  /** Connects a client, and waits until the server has accepted it. */
  client(): Promise<Client>;
}

/** Registers a test with a server that answers each request at once. */
function servedTest(
  name: string,
  fn: (scene: Scene) => Promise<void>,
  options?: TestOptions,
  listener: RequestListener = (_, response) => response.end(),
): void {
  test(name, async () => {
    const server = createServer((request, response) => {
      response.setHeader("transfer-encoding", "chunked");
      listener(request, response);
    });
    const like = server as unknown as NodeHttpServer;
    const stop = () => void NetServer.prototype.close.call(server);
    const served = followNodeServer(like, 1, { isSecure: false, closesIdle: false }, stop);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const sockets: Socket[] = [];
    const client = async () => {
      const socket = connect(port, "127.0.0.1");
      const accepted = new Promise((resolve, reject) => {
        server.once("connection", resolve);
        socket.once("error", reject);
      });
      sockets.push(socket);
      await accepted;
      return new Client(socket);
    };
    await fn({ server, served, client });
    for (const socket of sockets) socket.destroy();
    if (server.listening) await new Promise((resolve) => server.close(resolve));
  }, { skip: noNewConnections, ...options });
}

servedTest("close() leaves a new connection time for its first request", async (scene) => {
  const { server, served } = scene;
  const kept = await scene.client();
  kept.ask();
  await kept.answer();
  const clients = [await scene.client(), await scene.client()] as const;
  const [late, silent] = clients;
  await served.closeKept();
  assertEquals([kept, late, silent].map(({ isClosed }) => isClosed), [false, false, false]);
  assertEquals([server.listening, (server.address() as AddressInfo).port > 0], [true, true]);
  await assertRejects(scene.client);

  const began = Date.now();
  const closed = new Promise<unknown>((resolve) => server.close(resolve));
  server.closeIdleConnections();
  await kept.closed;
  assertEquals(clients.map(({ isClosed }) => isClosed), [false, false]);
  late.ask();
  assertMatch(await late.answer(), /^HTTP\/1.1 200 OK\r\n[^]*connection: close/i);
  await late.closed;
  assertEquals(silent.isClosed, false);
  await silent.closed;
  assertEquals(await closed, undefined);
  assert(Date.now() - began >= 900, "a new connection was closed early");
});

servedTest("a server ends by Symbol.asyncDispose, and by closeAllConnections()", async (scene) => {
  const { server, served } = scene;
  await scene.client();
  await served.closeKept();
  const end = server[Symbol.asyncDispose]();
  server.closeAllConnections();
  await end;
  assertEquals(server.listening, false);
});

servedTest("kept connections end before the handler of SIGTERM", async (scene) => {
  const { served } = scene;
  const [quiet, busy] = [await scene.client(), await scene.client()];
  for (const client of [quiet, busy]) {
    client.ask();
    await client.answer();
  }
  let isOver = false;
  const over = served.closeKept().then(() => isOver = true);
  busy.ask();
  assertMatch(await busy.answer(), /connection: close/i);
  await busy.closed;
  assertEquals([isOver, quiet.isClosed], [false, false]);
  await over;
});

servedTest("without a connection, the handler of SIGTERM runs at once", async ({ served }) => {
  await Promise.race([
    served.closeKept(),
    new Promise<never>((_, reject) => setImmediate(() => reject(new Error("it waits")))),
  ]);
});

servedTest(
  "a client whose answer began before the end may send another request",
  async (scene) => {
    const { served } = scene;
    const client = await scene.client();
    client.ask("/slow");
    await eventually("the headers", () => client.text.endsWith("begin\r\n"));
    const drained = served.drain();
    assertMatch(await client.answer(), /connection: keep-alive/i);
    client.ask();
    assertMatch(await client.answer(), /connection: close/i);
    await Promise.all([client.closed, drained]);
  },
  { skip: noNewConnections || currentRuntime === "deno" && "Deno closes the connection" },
  ({ url }, response) => {
    if (url !== "/slow") return void response.end();
    response.write("begin");
    setTimeout(() => response.end(), 600);
  },
);

servedTest(
  "a server that keeps each connection cannot keep one at its end",
  async (scene) => {
    const { served } = scene;
    const client = await scene.client();
    const drained = served.drain();
    client.ask();
    assertMatch(await client.answer(), /connection: keep-alive/i);
    await Promise.all([client.closed, drained]);
  },
  {},
  (_, response) => response.setHeader("connection", "keep-alive").end(),
);

test("a connection of HTTP/2 ends with its session, and not as a new connection", async () => {
  const server = new EventEmitter() as unknown as NodeHttpServer;
  const served = followNodeServer(server, 1, { isSecure: true, closesIdle: false }, () => {});
  const ended: string[] = [];
  const connectionOf = (alpnProtocol: string) => {
    const connection = new EventEmitter();
    const destroy = () => {
      ended.push(alpnProtocol);
      connection.emit("close");
    };
    return Object.assign(connection, { alpnProtocol, destroy });
  };
  const session = Object.assign(new EventEmitter(), { close: () => ended.push("session") });
  server.emit("secureConnection", connectionOf("h2"));
  server.emit("session", session);
  server.emit("secureConnection", connectionOf("http/1.1"));
  const drained = served.drain();
  await eventually("the end of the new connection", () => ended.includes("http/1.1"));
  session.emit("close");
  await drained;
  assertEquals(ended, ["session", "http/1.1"]);
});

servedTest(
  "the program sees no header of a health check, whose host counts only at the port for checks",
  async ({ server, client }) => {
    const headers = ["sam-check: 1", "sam-check-host: web.example"]; // 1 is the process id of the server
    const ordinary = await client();
    ordinary.ask("/", ...headers);
    assertStringIncludes(await ordinary.answer(), '{"host":"localhost"}');
    server.prependOnceListener("connection", (connection) => checkConnections.add(connection));
    const check = await client();
    check.ask("/", ...headers);
    assertStringIncludes(await check.answer(), '{"host":"web.example"}');
  },
  {},
  ({ headers }, response) => response.end(JSON.stringify(headers)),
);
