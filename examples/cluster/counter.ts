// A replicated counter on three nodes. It acknowledges an increment when a majority of the nodes has stored it.
// Run it on each node of a Corosync cluster:
//
//   node examples/cluster/counter.ts        (Node 26; from 22.18 with the package koffi)
//   deno run -A examples/cluster/counter.ts
//   bun examples/cluster/counter.ts
//
//   curl -X POST 'localhost:8000/add?client=me&seq=1&by=5'    adds 5; a repeated request (same seq) counts once
//   curl localhost:8000                                       shows the value and the present members
//   curl -X POST localhost:8000/hang                          hangs; SAM replaces the process, which joins again
import { rmSync } from "node:fs";
import { createServer } from "node:http";
import process from "node:process";
import { initialize } from "../../mod.ts"; // in your program: "@x/sam"
import { corosyncGroup, corosyncQuorum } from "../../src/corosync/mod.ts"; // "@x/sam/corosync"
import { Replica } from "./replica.ts";

const sam = await initialize({
  timeInterval: 1000,
  recoveryPolicy: "restart",
  quorum: corosyncQuorum(),
  restart: { intensity: Infinity, maxDelay: 1000 }, // the program is not at fault if the network splits often
});
const instance = await sam.register(); // from here on: the active process
const port = process.env["PORT"] ?? "8000"; // a port, or the path of a Unix socket
const nodes = Number(process.env["NODES"] ?? 3);

sam.setHealthCheck(() => true); // the call itself shows that the event loop runs
await sam.start(); // waits for quorum

const group = await corosyncGroup("counter");
const { nodeId } = group.self;
const replica = new Replica({
  nodeId,
  nodes,
  send: (bytes) => group.send(bytes),
  store: (bytes) => sam.data.store(bytes), // the SAM server keeps it when this process ends
  stored: sam.data.restore(),
});

const server = createServer(async (request, response) => {
  const url = new URL(request.url ?? "/", "http://localhost");
  const answer = (status: number, body: object) =>
    response.writeHead(status, { "content-type": "application/json" })
      .end(`${JSON.stringify({ node: nodeId, instance, ...body })}\n`);
  const { ready, value } = replica;
  if (request.method === "GET" && url.pathname === "/") {
    const members = group.members.map((member) => member.nodeId);
    return answer(ready ? 200 : 503, { value, ready, members });
  }
  if (request.method === "POST" && url.pathname === "/add") {
    const client = url.searchParams.get("client") ?? "";
    const [seq, by] = ["seq", "by"].map((name) => Number(url.searchParams.get(name) ?? 1));
    if (client === "" || !Number.isSafeInteger(seq) || seq! < 1 || !Number.isSafeInteger(by)) {
      return answer(400, {
        error: "the parameters client (a name), seq (1, 2, 3 …) and by (an integer) are required",
      });
    }
    const outcome = await replica.add(client, seq!, by!, 2000);
    if (outcome === "done") return answer(200, { value: replica.value });
    return answer(503, {
      error: "it is not known if the increment was stored: send the same request again",
    });
  }
  if (request.method === "POST" && url.pathname === "/hang") {
    return answer(200, {}).once("finish", () => {
      for (;;); // a bug that no exception handler can catch
    });
  }
  return answer(404, { error: "unknown path: use GET /, POST /add or POST /hang" });
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, async () => {
    await sam.stop(); // makes the exit final, unless SAM has already begun a recovery
    process.exit(0);
  });
}

if (!/^\d+$/.test(port)) rmSync(port, { force: true }); // a killed instance leaves its socket behind
server.listen(/^\d+$/.test(port) ? Number(port) : port, () => {
  console.log(`node ${nodeId}, instance ${instance}: http://localhost:${port}`);
});

// If the daemon ends, this loop throws. SAM then starts the next instance, which waits for quorum.
for await (const event of group.events()) {
  if (event.type === "message") replica.message(event.from.nodeId, event.data);
  else {
    const names = (of: readonly { nodeId: number }[]) =>
      of.map((member) => member.nodeId).join(" ");
    console.log(`node ${nodeId}: members ${names(event.members)}; left ${names(event.left)}`);
    void replica.members(event.members.map((member) => member.nodeId), event.joined.length > 0);
  }
}
