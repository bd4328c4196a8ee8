// What one heartbeat() costs the program, on each transport, in a loop. The peer, measured in the same process, is one
// system call: a byte written to a file. Heartbeats that the transport may leave out are part of the figure.
import { spawnSync } from "node:child_process";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";

interface Figures {
  readonly p50: number;
  readonly p99: number;
}
interface Result {
  readonly transport: string;
  readonly heartbeat: Figures;
  readonly write: Figures;
}

const program = fileURLToPath(
  new URL(`./programs/heartbeat.${import.meta.url.split(".").at(-1)}`, import.meta.url),
);
console.log(
  `Node ${process.version}, ${cpus()[0]?.model} × ${cpus().length}; nanoseconds, p50 (p99)`,
);
for (const transport of ["unix", "pipe", "shm"]) {
  const { stdout, status } = spawnSync(process.execPath, [program, transport], {
    stdio: ["ignore", "pipe", "inherit"],
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`${transport}: exit status ${status}`);
  const { heartbeat, write } = JSON.parse(stdout) as Result;
  const show = ({ p50, p99 }: Figures) => `${p50.toFixed(1)} (${p99.toFixed(1)})`;
  const ratio = (heartbeat.p50 / write.p50).toFixed(3);
  console.log(
    `${transport.padEnd(5)} heartbeat() ${show(heartbeat)}; one system call ${
      show(write)
    }; ratio ${ratio}`,
  );
}
