// Unix sockets through each runtime's own API, without this library: the floor for its socket transports.

/** An open connection. */
export interface BareSocket {
  /** Sends all bytes in order, at once or when the kernel's buffer has room. */
  send(bytes: Uint8Array): void;
}

/** Receives bytes from a connection. They are overwritten after the call. */
export type Received = (socket: BareSocket, bytes: Uint8Array) => void;

interface DenoConnection {
  read(into: Uint8Array): Promise<number | null>;
  write(bytes: Uint8Array): Promise<number>;
}
interface DenoLike {
  listen(options: object): AsyncIterable<DenoConnection>;
  connect(options: object): Promise<DenoConnection>;
}
interface BunSocket {
  write(bytes: Uint8Array): number;
}
interface BunLike {
  listen(options: object): unknown;
  connect(options: object): Promise<BunSocket>;
}
const { Deno, Bun } = globalThis as unknown as { Deno?: DenoLike; Bun?: BunLike };

export async function listenBare(path: string, received: Received): Promise<void> {
  if (Deno) {
    const listener = Deno.listen({ transport: "unix", path });
    void (async () => {
      for await (const connection of listener) denoSocket(connection, received);
    })();
  } else if (Bun) Bun.listen({ unix: path, socket: bunHandlers(received) });
  else {
    const { createServer } = await import("node:net");
    const server = createServer((socket) => {
      socket.on("data", (bytes: Uint8Array) => received(nodeSocket(socket), bytes));
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
  }
}

/** Connects to a path. With `asNode`, Deno uses `node:net` too, its only API for inherited sockets. */
export async function connectBare(
  path: string,
  received: Received,
  asNode = false,
): Promise<BareSocket> {
  if (Deno && !asNode) return denoSocket(await Deno.connect({ transport: "unix", path }), received);
  if (Bun) return bunSocket(await Bun.connect({ unix: path, socket: bunHandlers(received) }));
  const { connect } = await import("node:net");
  const socket = connect(path);
  await new Promise((resolve) => socket.once("connect", resolve));
  const bare = nodeSocket(socket);
  socket.on("data", (bytes: Uint8Array) => received(bare, bytes));
  return bare;
}

function nodeSocket(socket: { write(bytes: Uint8Array): boolean }): BareSocket {
  return { send: (bytes) => void socket.write(bytes) };
}

function denoSocket(connection: DenoConnection, received: Received): BareSocket {
  let sending = Promise.resolve();
  const write = async (bytes: Uint8Array): Promise<void> => {
    for (let rest = bytes; rest.length > 0;) {
      rest = rest.subarray(await connection.write(rest));
    }
  };
  const socket = {
    send(bytes: Uint8Array): void {
      sending = sending.then(() => write(bytes));
    },
  };
  void (async () => {
    const into = new Uint8Array(65_536);
    for (;;) {
      const count = await connection.read(into);
      if (count === null) return;
      received(socket, into.subarray(0, count));
    }
  })();
  return socket;
}

/** Bytes that did not fit into the kernel's buffer, by the socket that must drain first. */
const unsent = new Map<BunSocket, Uint8Array[]>();

function bunSocket(socket: BunSocket): BareSocket {
  return {
    send(bytes) {
      const waiting = unsent.get(socket);
      if (waiting) return void waiting.push(bytes);
      const written = socket.write(bytes);
      if (written < bytes.length) unsent.set(socket, [bytes.subarray(written)]);
    },
  };
}

function bunHandlers(received: Received): object {
  return {
    data: (socket: BunSocket, bytes: Uint8Array) => received(bunSocket(socket), bytes),
    drain(socket: BunSocket) {
      const waiting = unsent.get(socket) ?? [];
      unsent.delete(socket);
      for (const rest of waiting) bunSocket(socket).send(rest);
    },
  };
}
