/** The active side of the checks of a transport. It does what the server's side asks, until the link ends. */
import type { Link, Transport } from "../../transports/transport.ts";
import { SamError } from "../errors.ts";
import { launch, linkVariable } from "../runtime/launch.ts";
import { loadRuntime } from "../runtime/load.ts";
import type { Clock } from "../runtime/runtime.ts";

/** More heartbeats than a Unix socket has room for, which is 277. */
const fullHeartbeats = 1000;

/** What the server's side asks for: a frame of a letter, then a number. */
export const requests = {
  echo: "e",
  heartbeats: "h",
  loop: "l",
  frames: "f",
  full: "u",
  close: "c",
  idle: "i",
  keep: "k",
} as const;

/**
 * The active side of the checks; the whole of the `peer` program.
 *
 * ```ts imported
 * // my_transport_peer.ts
 * import { servePeer } from "@x/sam/testing";
 * import { mine } from "./my_transport.ts";
 *
 * await servePeer(mine);
 * ```
 */
export async function servePeer(transport: Transport): Promise<void> {
  const address = launch.link?.slice(launch.link.indexOf(":") + 1);
  if (address === undefined) {
    throw new SamError(
      "BAD_HANDLE",
      `servePeer() runs in a process that was started with ${linkVariable}`,
    );
  }
  const runtime = await loadRuntime();
  await serveRequests(await transport.connect(address, runtime), runtime, true);
}

/** Does what the server's side asks, until the link ends. `ownProcess`: this process has no other work. */
export function serveRequests(link: Link, runtime: Clock, ownProcess: boolean): Promise<void> {
  return new Promise((resolve) => {
    const obey = (letter: string, number: number) => {
      switch (letter) {
        case requests.heartbeats:
          for (let count = 0; count < number; count++) link.heartbeat();
          return link.send(numbered(number));
        case requests.full:
          for (let count = 0; count < fullHeartbeats; count++) link.heartbeat();
          return obey(requests.loop, number);
        case requests.loop:
          for (const end = runtime.now() + number, last = { at: 0 }; runtime.now() < end;) {
            if (runtime.now() - last.at < 1) continue;
            last.at = runtime.now();
            link.heartbeat();
          }
          return link.send(numbered(number));
        case requests.keep: // twice, and less than before, so that what is left over would be seen
          link.storeData?.(new Uint8Array(number + 1).fill(1));
          link.storeData?.(new Uint8Array(number).fill(2));
          return link.send(numbered(link.storeData ? 1 : 0));
        case requests.frames:
          for (let count = 0; count < number; count++) {
            link.send(numbered(count));
            link.heartbeat();
          }
          return;
        case requests.close:
          return link.close();
        case requests.idle: // nothing but the link is left to wait for
          if (ownProcess) link.hold(false);
          return resolve();
      }
    };
    link.receive({
      heartbeat() {},
      frame(frame) {
        const letter = String.fromCharCode(frame[0]!);
        if (letter === requests.echo) return link.send(frame);
        const number = new DataView(frame.buffer, frame.byteOffset).getUint32(1);
        obey(letter, number);
      },
      end: () => resolve(),
    });
  });
}

function numbered(number: number): Uint8Array {
  const frame = new Uint8Array(4);
  new DataView(frame.buffer).setUint32(0, number);
  return frame;
}
