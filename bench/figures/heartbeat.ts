// What one heartbeat() costs the program in a loop, and whether it wakes the server.
import { readFileSync } from "node:fs";
import { peerSamples, runtimes, start } from "../support/host.ts";
import type { Row, Settings } from "../support/rows.ts";
import { figuresOf } from "../support/statistics.ts";

export async function rows({ libsam, scale }: Settings): Promise<Row[]> {
  const rows: Row[] = [];
  for (const runtime of runtimes) {
    for (const transport of ["shm", "unix", "pipe"]) {
      const before = peerSamples(libsam, "heartbeat", 20_000, 40 * scale);
      const program = start(runtime, "heartbeat", { transport, timeInterval: 60_000 });
      const { samples } = await program.line("samples");
      const server = program.pid;
      await program.line("silent");
      const silentFrom = switches(server);
      await program.line("beating");
      const beatingFrom = switches(server);
      await program.line("over");
      const end = switches(server);
      await program.ended;
      const after = peerSamples(libsam, "heartbeat", 20_000, 40 * scale);

      const ours = figuresOf(samples);
      const peer = figuresOf([...before, ...after]);
      const part = transport === "shm" ? 20 : 2;
      rows.push({
        figure: "heartbeat()",
        case: transport,
        runtime,
        unit: "ns",
        ours,
        peer: { name: "sam_hc_send", figures: peer },
        target: { text: `≤ 1/${part}`, met: ours.p50 * part <= peer.p50 },
      });
      if (transport !== "shm") continue;
      const woken = Math.max(0, end - beatingFrom - (beatingFrom - silentFrom));
      rows.push({
        figure: "the server is woken in a second of heartbeats",
        case: transport,
        runtime,
        unit: "times more than in a second of silence",
        ours: figuresOf([woken]),
        target: { text: "0, give or take 20 of its own", met: woken <= 20 },
      });
    }
  }
  return rows;
}

/** How often the main thread of a process has gone to sleep, and so been woken. */
function switches(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)![1]);
}
