/** A link over a byte stream, used by all three built-in transports. */
import { envelope, FrameReader, heartbeatByte } from "../src/core/wire.ts";
import type { Stream } from "../src/runtime/runtime.ts";
import type { Link, LinkSink } from "./transport.ts";

type Arrival = (sink: LinkSink) => void;

/** Makes a link of a stream. `counter` counts the heartbeats that the stream does not take at once. */
export function streamLink(stream: Stream, counter?: { add(): void }): Link {
  const reader = new FrameReader();
  const early: Arrival[] = [];
  let sink: LinkSink | null = null;
  /**
   * True once the end has been delivered. Later arrivals are dropped, because `end()` is the last call to a receiver.
   */
  let hasEnded = false;
  const deliver = (arrival: Arrival) => {
    if (!sink) early.push(arrival);
    else if (!hasEnded) arrival(sink);
  };
  stream.read(
    (bytes) => {
      try {
        reader.push(
          bytes,
          (frame) => deliver((to) => to.frame(frame)),
          () => deliver((to) => to.heartbeat()),
        );
      } catch {
        stream.close(); // after malformed bytes, the start of the next frame is unknown
      }
    },
    (detail) =>
      deliver((to) => {
        hasEnded = true;
        to.end(detail);
      }),
  );
  return {
    heartbeat() {
      // If the kernel's buffer is full, it holds unread heartbeats, so one more is not needed. On Deno, a loop that never
      // yields cannot write either: the server reads `counter` then.
      if (!stream.offer(heartbeatByte)) counter?.add();
    },
    send: (frame) => stream.write(envelope(frame)),
    receive(to) {
      sink = to;
      if (to) early.splice(0).forEach(deliver);
    },
    hold: (on) => stream.hold(on),
    close: () => stream.close(),
  };
}

/** Makes a link call `act` when it ends, before its receiver's `end()`. */
export function withEndHook(link: Link, act: () => void): Link {
  return {
    ...link,
    receive(sink) {
      link.receive(
        sink && {
          ...sink,
          end(detail) {
            act();
            sink.end(detail);
          },
        },
      );
    },
  };
}
