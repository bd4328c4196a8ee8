/** A link with a page beside it, in which heartbeats are counted. */
import type { Page, RandomFile } from "../src/runtime/runtime.ts";
import type { Link } from "./transport.ts";

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

/** Makes `sample` of the page's count, and gives the page back when the link ends. */
export function pagedLink(link: Link, page: Page): Link {
  return {
    ...atEnd(link, page.close),
    sample: page.read,
    close() {
      page.close();
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
