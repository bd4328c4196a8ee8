// The active process of bench/heartbeat.ts: what one heartbeat() costs here, beside one system call.
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { measure } from "mitata";
import { initialize, type TransportName } from "../../mod.ts";

const transport = process.argv[2] as TransportName;
const sam = await initialize({ timeInterval: 60_000, recoveryPolicy: "quit", transport });
await sam.register();
await sam.start();

const directory = mkdtempSync(join(tmpdir(), "bench-"));
const file = openSync(join(directory, "f"), "w");
const byte = Uint8Array.of(0);

const heartbeat = await measure(() => sam.heartbeat());
const write = await measure(() => void writeSync(file, byte, 0, 1, 0));
await sam.stop();
closeSync(file);
rmSync(directory, { recursive: true });
const figures = ({ p50, p99 }: { p50: number; p99: number }) => ({ p50, p99 });
console.log(JSON.stringify({ transport, heartbeat: figures(heartbeat), write: figures(write) }));
