/** The address on which `sam run --metrics` listens. */
import { invalid } from "../../api/validate.ts";

/** A host name or an IP address, and a port. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/**
 * Parses `HOST:PORT`, `[IPv6]:PORT`, or a port of 127.0.0.1. Throws `INVALID_PARAM` with the flag, variable or key `source` in its
 * message.
 */
export function addressOf(source: string, value: unknown): Address {
  const text = typeof value === "number" ? String(value) : typeof value === "string" ? value : "";
  const [, host, digits] = /^(?:(\[[\da-fA-F:.]+\]|[^:[\]\s]*):)?(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === undefined || port > 65_535) {
    throw invalid(
      source,
      value,
      "HOST:PORT or only PORT (on 127.0.0.1), with a port from 0 to 65535",
    );
  }
  return { host: host?.replace(/^\[(.*)\]$/, "$1") || "127.0.0.1", port };
}
