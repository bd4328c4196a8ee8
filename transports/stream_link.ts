/** A link over a byte stream: what the Unix socket, the pipe and the control side of shared memory have in common. */
import { envelope, FrameReader, heartbeatByte } from "../src/core/wire.ts";
import type { Stream } from "../src/runtime/runtime.ts";
import type { Link, LinkSink } from "./transport.ts";

type Arrival = (sink: LinkSink) => void;

/** Makes a link of a stream. `overflow` counts the heartbeats that the stream would hold back. */
export function streamLink(stream: Stream, overflow?: { add(): void }): Link {
  const reader = new FrameReader();
  const early: Arrival[] = [];
  let sink: LinkSink | null = null;
  /** The end has been reported: what was read together with it, or waited before it, is nobody's any more. */
  let over = false;
  const deliver = (arrival: Arrival) => {
    if (!sink) early.push(arrival);
    else if (!over) arrival(sink);
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
        stream.close(); // bytes that make no sense: no frame after them can be trusted
      }
    },
    (detail) =>
      deliver((to) => {
        over = true;
        to.end(detail);
      }),
  );
  return {
    heartbeat() {
      // A full kernel holds heartbeats that the server has yet to read: one more would say nothing new.
      if (!stream.offer(heartbeatByte)) overflow?.add();
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

/** Does something when a link ends, before its owner is told. */
export function atEnd(link: Link, act: () => void): Link {
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
