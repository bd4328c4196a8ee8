// Runs one etcd for tests. It ends with the thread that started it, also when that thread crashes.

import { spawn, spawnSync } from "node:child_process";
import { freePorts } from "./ports.ts";
import { eventually } from "./processes.ts";

export interface Etcd {
  readonly url: string;
  /** Stops it, so that it answers no request. */
  freeze(): void;
  thaw(): void;
  /** Calls its HTTP gateway. */
  // deno-lint-ignore no-explicit-any
  ask(call: string, body: object): Promise<any>;
  close(): Promise<void>;
}

/** The reason why etcd cannot run here, or undefined. */
export function etcdMissing(): string | undefined {
  return spawnSync("etcd", ["--version"]).status === 0
    ? undefined
    : "etcd is not installed (Debian: etcd-server)";
}

/** Starts etcd with its data in `directory`. */
export async function startEtcd(directory: string): Promise<Etcd> {
  const [client, peer] = await freePorts(2);
  const url = `http://127.0.0.1:${client}`;
  const peerUrl = `http://127.0.0.1:${peer}`;
  const child = spawn("setpriv", [
    ...["--pdeathsig", "KILL", "etcd", "--data-dir", `${directory}/etcd`, "--name", "one"],
    ...["--listen-client-urls", url, "--advertise-client-urls", url],
    ...["--listen-peer-urls", peerUrl, "--initial-advertise-peer-urls", peerUrl],
    ...["--initial-cluster", `one=${peerUrl}`, "--unsafe-no-fsync"],
  ], { stdio: ["ignore", "ignore", "pipe"] });
  let output = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => output += text);
  const exited = new Promise<void>((resolve) => child.on("close", () => resolve()));
  const signal = (name: NodeJS.Signals) => void process.kill(child.pid!, name);
  let ready = false;
  const ask = async () => {
    while (!ready && child.exitCode === null) {
      const answer = await fetch(`${url}/health`).then((each) => each.text()).catch(() => "");
      ready = answer.includes("true");
    }
  };
  void ask();
  await eventually("etcd", () => ready).catch((error: Error) => {
    throw new Error(`${error.message}: ${output}`);
  });
  return {
    url,
    freeze: () => signal("SIGSTOP"),
    thaw: () => signal("SIGCONT"),
    async ask(call, body) {
      const response = await fetch(`${url}/v3/${call}`, {
        method: "POST",
        body: JSON.stringify(body),
      });
      return await response.json();
    },
    async close() {
      signal("SIGKILL");
      await exited;
    },
  };
}
