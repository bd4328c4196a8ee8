// Finds ports for servers that cannot choose one themselves.

import { type AddressInfo, createServer } from "node:net";

/** Ports of this machine at which no process listens. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  return await Promise.all(servers.map(async (server) => {
    if (!server.listening) await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }));
}
