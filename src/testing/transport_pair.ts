/** The link for one check of a transport. The server's side is in this process, and the active side runs `servePeer`. */
import type { Endpoint, Link, Transport } from "../../transports/transport.ts";
import { checkProgram, type ModuleProgram } from "../api/program.ts";
import { linkVariable } from "../runtime/launch.ts";
import { loadRuntime } from "../runtime/load.ts";
import type { Child, Runtime } from "../runtime/runtime.ts";
import { fail, within } from "./conformance.ts";
import { requests, serveRequests } from "./transport_peer.ts";

/** Options of `transportConformance`. */
export interface ConformanceOptions {
  /**
   * The program at the other end of the link: a module that only does `await servePeer(transport)`. Omit it for a transport
   * whose two ends are in one process.
   */
  readonly peer?: ModuleProgram;
  /** Time limit for an answer, in milliseconds. Default 20,000. */
  readonly limit?: number;
}

/** Both sides of one link. */
export interface Pair {
  readonly runtime: Runtime;
  readonly link: Link;
  readonly child: Child | null;
  readonly ended: Promise<void>;
  readonly peerEnded: Promise<void>;
  // The number of times that the link reported its end.
  readonly ends: number;
  // Calls `act` when the link reports its end.
  atEnd(act: () => void): void;
  // The number of frames that have arrived and were not taken by `next()`.
  readonly waiting: number;
  receive(): void;
  ask(what: keyof typeof requests, number: number): void;
  // Resolves to the next frame.
  next(): Promise<Uint8Array>;
  // Resolves at the next heartbeat that no earlier call has seen.
  untilHealthy(): Promise<void>;
  pause(ms: number): Promise<void>;
  close(): Promise<void>;
}

/** Opens a link. With the option `peer`, the active side is in a process of its own. */
export async function openPair(transport: Transport, options: ConformanceOptions): Promise<Pair> {
  const runtime = await loadRuntime();
  const limit = options.limit ?? 20_000;
  const endpoint = await transport.open(runtime);
  let child: Child | null = null;
  try {
    child = options.peer ? await spawnPeer(runtime, transport, endpoint, options.peer) : null;
  } catch (error) {
    endpoint.close();
    throw error;
  }
  const arrival = new Promise<Link>((resolve) =>
    endpoint.accept(child ?? { stream: null }, resolve)
  );
  const peerEnded: Promise<void> = child
    ? child.exited.then(() => {})
    : transport.connect(String(endpoint.address), runtime).then((link) =>
      serveRequests(link, runtime, false)
    );

  const inTime = <T>(event: string, promise: Promise<T>) => within(runtime, limit, event, promise);
  const pause = (ms: number) =>
    new Promise<void>((resolve) => void runtime.schedule(resolve, ms, true));
  const until = async (event: string, condition: () => boolean) => {
    for (const end = runtime.now() + limit; !condition();) {
      if (runtime.now() > end) fail(`${event} did not come within ${limit} ms`);
      await pause(2);
    }
  };

  const frames: Uint8Array[] = [];
  let healthy = false;
  let ends = 0;
  let link: Link;
  try {
    link = await inTime("the connection of the peer", arrival);
  } catch (error) {
    child?.kill("SIGKILL");
    endpoint.close();
    throw error;
  }
  endpoint.close();
  let sampled = link.sample?.();
  const endActs: (() => void)[] = [];
  let whenEnded = () => {};
  const ended = new Promise<void>((resolve) => whenEnded = resolve);
  const receive = () =>
    link.receive({
      frame: (frame) => void frames.push(frame),
      heartbeat: () => healthy = true,
      end: () => {
        ends++;
        endActs.forEach((act) => act());
        whenEnded();
      },
    });
  receive();
  return {
    runtime,
    link,
    child,
    receive,
    pause,
    atEnd: (act) => void endActs.push(act),
    get ended() {
      return inTime("the end of the link", ended);
    },
    get peerEnded() {
      return inTime("the end of the peer", peerEnded);
    },
    get ends() {
      return ends;
    },
    get waiting() {
      return frames.length;
    },
    ask(what, number) {
      const frame = new Uint8Array(5);
      frame[0] = requests[what].charCodeAt(0);
      new DataView(frame.buffer).setUint32(1, number);
      link.send(frame);
    },
    async next() {
      await until("the next frame", () => frames.length > 0);
      return frames.shift()!;
    },
    async untilHealthy() {
      await until(
        "a heartbeat",
        () => healthy || (ends === 0 && link.sample?.() !== sampled),
      );
      healthy = false;
      sampled = link.sample?.();
    },
    async close() {
      child?.kill("SIGKILL");
      link.close();
      child?.stream?.close();
      await inTime("the end of the peer", peerEnded);
    },
  };
}

async function spawnPeer(
  runtime: Runtime,
  transport: Transport,
  endpoint: Endpoint,
  peer: ModuleProgram,
): Promise<Child> {
  const command = await checkProgram(peer).command(runtime);
  const { address } = endpoint;
  const link = (text: string) => ({ [linkVariable]: `${transport.name}:${text}` });
  if (typeof address !== "string") {
    return await runtime.spawn(command, (descriptor) => link(address(descriptor)));
  }
  return await runtime.spawn({ ...command, env: { ...command.env, ...link(address) } });
}
