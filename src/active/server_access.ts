/** The access of an active process to the SAM server that has started it. */
import type { Link, TransportRuntime } from "../../transports/transport.ts";

// A link to the server, and the id of the last request on it. A preload may have made requests before the program.
export type Connection = { readonly link: Link; readonly lastId: number };

// Access to the server that started this process.
export interface ServerAccess {
  // Name of the server's transport.
  readonly transport: string;
  connect(runtime: TransportRuntime): Connection | Promise<Connection>;
}
