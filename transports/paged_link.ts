/** A link with a file beside it that both sides have open: heartbeats are counted in its first page, and data lie after it. */
import type { Page, RandomFile } from "../src/runtime/runtime.ts";
import { kept } from "./keep.ts";
import type { Link } from "./transport.ts";

/** What both sides have open. */
export interface Shared {
  readonly page: Page;
  readonly file: RandomFile;
  close(): void;
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

/** The server's end. What was left in the file is asked for when the link ends, and only then is the file given back. */
export function servedLink(link: Link, { page, file, close }: Shared): Link {
  return {
    ...link,
    receive(sink) {
      link.receive(
        sink && {
          ...sink,
          end(detail) {
            try {
              sink.end(detail);
            } finally {
              close();
            }
          },
        },
      );
    },
    sample: page.read,
    kept: () => kept(file),
    close() {
      close();
      link.close();
    },
  };
}

/** The active end: what is shared is given back when the link ends. */
export function sharingLink(link: Link, { close }: Shared): Link {
  return {
    ...atEnd(link, close),
    close() {
      close();
      link.close();
    },
  };
}

/** A page where nothing is mapped: the beginning of a file, written and read. */
export function filePage(file: RandomFile): Page {
  const count = new Uint32Array(1);
  const bytes = new Uint8Array(count.buffer);
  return {
    add() {
      count[0]!++;
      file.write(bytes, 0);
    },
    read() {
      file.read(bytes, 0);
      return count[0]!;
    },
    close: () => file.close(),
  };
}
