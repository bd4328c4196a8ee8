// The machine and the versions of a run.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { runtimePath } from "../../test/support/runtimes.ts";
import { runtimes } from "./host.ts";

/** The machine of a run. */
export interface Machine {
  readonly date: string;
  readonly cpu: string;
  readonly memoryGiB: number;
  readonly kernel: string;
  readonly system: string;
  /** The version of each runtime and peer, by name. */
  readonly versions: Readonly<Record<string, string>>;
}

export function thisMachine(): Machine {
  const version = (command: string, ...words: string[]) =>
    execFileSync(command, words, { encoding: "utf8" }).trim();
  const file = (path: string) => readFileSync(path, "utf8");
  const numbered = runtimes.map((runtime) => {
    const text = version(runtimePath(runtime), "--version");
    return [runtime, /\d+\.\d+\.\d+/.exec(text)?.[0] ?? text];
  });
  const peers = new URL("../../../bench/peers/package.json", import.meta.url);
  const { dependencies } = JSON.parse(file(peers.pathname)) as {
    dependencies: Record<string, string>;
  };
  return {
    date: new Date().toISOString(),
    cpu: `${cpus().length} × ${cpus()[0]?.model}`,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    system: /^PRETTY_NAME="(.*)"/m.exec(file("/etc/os-release"))?.[1] ?? "unknown",
    versions: {
      ...Object.fromEntries(numbered),
      libsam: version("dpkg-query", "-W", "-f", "${Version}", "libsam4"),
      ...dependencies,
      ...systemdVersion(),
    },
  };
}

/** The version of systemd-socket-activate, if it is installed. */
function systemdVersion(): Readonly<Record<string, string>> {
  try {
    const text = execFileSync("systemd-socket-activate", ["--version"], { encoding: "utf8" });
    return { systemd: text.split(" ")[1]! };
  } catch {
    return {};
  }
}
