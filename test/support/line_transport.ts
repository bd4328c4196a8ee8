// A fifth transport, written as an outsider would: TCP on the loopback interface, frames as lines of base64.
// It imports what the package exports, and nothing else of it.
import type { AddressInfo } from "node:net";
import net from "node:net";
import type { Link, LinkSink, Transport } from "../../mod.ts";

function lineLink(socket: net.Socket): Link {
  let sink: LinkSink | null = null;
  let ended = false;
  let over = false;
  let rest = "";
  const early: ((to: LinkSink) => void)[] = [];
  const deliver = (arrival: (to: LinkSink) => void): void => {
    if (!sink) early.push(arrival);
    else if (!over) arrival(sink);
  };
  const end = (detail: string): void => {
    if (ended) return;
    ended = true;
    socket.destroy();
    deliver((to) => {
      over = true;
      to.end(detail);
    });
  };
  socket.setNoDelay(true);
  socket.on("data", (bytes) => {
    const lines = (rest + bytes.toString("latin1")).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") deliver((to) => to.heartbeat());
      else deliver((to) => to.frame(new Uint8Array(Buffer.from(line, "base64"))));
    }
  });
  socket.on("error", (error) => end(error.message));
  socket.on("end", () => end("the peer closed it"));
  socket.on("close", () => end("closed"));
  return {
    heartbeat() {
      if (!ended) socket.write("\n");
    },
    send(frame) {
      if (!ended) socket.write(`${Buffer.from(frame).toString("base64")}\n`);
    },
    receive(to) {
      sink = to;
      if (to) early.splice(0).forEach(deliver);
    },
    hold(on) {
      if (on) socket.ref();
      else socket.unref();
    },
    close: () => end("closed"),
  };
}

/** Heartbeats and frames as lines over TCP. */
export const lineTransport: Transport = {
  name: "lines",
  open: () =>
    new Promise((resolve, reject) => {
      let waiting: ((link: Link) => void) | null = null;
      let known: Link | null = null;
      const server = net.createServer((socket) => {
        known = lineLink(socket);
        server.close();
        waiting?.(known);
      });
      server.once("error", reject);
      server.listen(0, "127.0.0.1", () =>
        resolve({
          address: String((server.address() as AddressInfo).port),
          accept(_child, onLink) {
            if (known) onLink(known);
            else waiting = onLink;
          },
          close: () => void server.close(),
        }));
    }),
  connect: (address) =>
    new Promise((resolve, reject) => {
      const socket = net.connect(Number(address), "127.0.0.1");
      socket.once("error", reject);
      socket.once("connect", () => {
        socket.off("error", reject);
        resolve(lineLink(socket));
      });
    }),
};
