/** The active side of the checks of a transport. It carries out the requests of the server's side until the link ends. */
import type { Link, Transport } from "../../transports/transport.ts";
import { SamError } from "../errors.ts";
import { launch, linkVariable } from "../runtime/launch.ts";
import { loadRuntime } from "../runtime/load.ts";
import type { Clock } from "../runtime/runtime.ts";

/** A number of heartbeats that fills the buffer of a Unix socket, which has room for 277. */
const fullHeartbeats = 1000;

/** The letters of the requests. A request is a frame with a letter and a number. */
export const requests = {
  echo: "e",
  heartbeats: "h",
  loop: "l",
  frames: "f",
  full: "u",
  close: "c",
  idle: "i",
  store: "s",
} as const;

/**
 * Answers the checks of a transport from the other end of the link. Call it in the program that you pass to
 * `transportConformance()` as `peer`; that program does nothing else. Rejects with BAD_HANDLE in any other program.
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
      `servePeer() needs the variable ${linkVariable}: pass this program as the option peer of transportConformance()`,
    );
  }
  const runtime = await loadRuntime();
  await serveRequests(await transport.connect(address, runtime), runtime, true);
}

/** Carries out requests until the link ends. `ownProcess` is true if this process has no other work. */
export function serveRequests(link: Link, runtime: Clock, ownProcess: boolean): Promise<void> {
  return new Promise((resolve) => {
    const execute = (letter: string, number: number) => {
      switch (letter) {
        case requests.heartbeats:
          for (let count = 0; count < number; count++) link.heartbeat();
          return link.send(numbered(number));
        case requests.full:
          for (let count = 0; count < fullHeartbeats; count++) link.heartbeat();
          return execute(requests.loop, number);
        case requests.loop:
          for (const end = runtime.now() + number, last = { at: 0 }; runtime.now() < end;) {
            if (runtime.now() - last.at < 1) continue;
            last.at = runtime.now();
            link.heartbeat();
          }
          return link.send(numbered(number));
        case requests.store: // twice, first one byte more, so that a remaining byte of the first data would show
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
        case requests.idle: // only the link could keep the process alive
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
        execute(letter, number);
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
