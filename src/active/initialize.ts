/** `initialize()`: the first call of a program that uses SAM. */
import { isTransportName, loadTransport, type TransportName } from "../../transports/builtin.ts";
import type { Transport } from "../../transports/transport.ts";
import { checkOptions, type SamOptions } from "../api/options.ts";
import type { Sam } from "../api/sam.ts";
import { SamError, type SamErrorCode } from "../errors.ts";
import { launch, linkVariable } from "../runtime/launch.ts";
import { checkPlatform, loadRuntime } from "../runtime/load.ts";
import { ActiveProcess } from "./active_process.ts";
import type { Connection, ServerAccess } from "./server_access.ts";

/** The link with which a preload has registered this process. The program's own `register()` takes it over. */
interface OpenedLink {
  /** Name of the transport. */
  readonly transport: string;
  /** True if the program has taken the link. */
  readonly taken: boolean;
  /** Hands the link over. May be called once. */
  take(): Connection;
}

/** The global property that holds the preload's link. The program may use another copy of the library, and finds it here. */
const linkProperty = Symbol.for("@x/sam/link");

/** Offers the preload's link to the program. */
export function offerLink(opened: OpenedLink): void {
  Object.defineProperty(globalThis, linkProperty, { value: opened });
}

let initialized = false;

/**
 * Global properties for a preload below a wrapper, which may register this process at any time. The first is true once a copy of the
 * library registers by itself; the preload then does not. The second is a promise that settles when the preload has registered.
 */
const initializedProperty = Symbol.for("@x/sam/initialized");
const attachingProperty = Symbol.for("@x/sam/attaching");

/**
 * Checks the options and returns a `Sam`, with which the program registers. Call its `register()` next. A process may call
 * `initialize()` once.
 *
 * ```ts serves
 * import { initialize } from "@x/sam";
 *
 * const sam = await initialize({ timeInterval: 2000, recoveryPolicy: "restart" });
 * const instanceId = await sam.register(); // from here on, this process is an instance of the program
 * sam.setHealthCheck(() => true);
 * await sam.start();
 * console.log(`instance ${instanceId} runs`);
 * ```
 *
 * Rejects with BAD_HANDLE if it was called before, INVALID_PARAM for a wrong option, NOT_SUPPORTED in a worker thread, in a
 * worker of node:cluster and on systems other than Linux and macOS, and ACCESS on Deno without `--allow-env=SAM_LINK`. A call that failed may be repeated.
 * Source: `sam_initialize(3)`.
 */
export async function initialize(options: SamOptions): Promise<Sam> {
  if (initialized) {
    throw new SamError("BAD_HANDLE", "initialize() was already called: a process may call it once");
  }
  const shared = globalThis as unknown as Record<symbol, unknown>;
  initialized = shared[initializedProperty] = true;
  try {
    await shared[attachingProperty];
    return await createActiveProcess(options);
  } catch (error) {
    initialized = shared[initializedProperty] = false;
    throw error;
  }
}

/** Checks the options and this process, and finds the server that started it. Rejects with the errors of `initialize()`. */
export async function createActiveProcess(options: SamOptions): Promise<ActiveProcess> {
  checkPlatform();
  const checked = checkOptions(options);
  const [runtime, server] = await Promise.all([loadRuntime(), findServer(checked.transport)]);
  if (!runtime.isMainThread) {
    throw new SamError(
      "NOT_SUPPORTED",
      "initialize() does not work in a worker thread: call it in the main thread",
    );
  }
  if (runtime.isWorker?.()) {
    throw new SamError(
      "NOT_SUPPORTED",
      "initialize() does not work in a worker of node:cluster: call it in the primary process, if cluster.isPrimary is true",
    );
  }
  if (launch.linkError) {
    throw new SamError(
      "ACCESS",
      `cannot read the environment variable ${linkVariable}: run Deno with --allow-env=${linkVariable}`,
      { cause: launch.linkError },
    );
  }
  return new ActiveProcess(runtime, checked, server);
}

/** Finds the server that started this process; undefined if no server did. */
async function findServer(own: TransportName | Transport): Promise<ServerAccess | undefined> {
  const opened = (globalThis as unknown as Record<symbol, OpenedLink | undefined>)[linkProperty];
  if (opened?.taken) {
    throw new SamError(
      "BAD_HANDLE",
      "another copy of @x/sam has registered this process: make all parts of the program import the same copy",
    );
  }
  if (opened) {
    chooseTransport(opened.transport, own);
    return { transport: opened.transport, connect: () => opened.take() };
  }
  if (launch.link === undefined) return undefined;
  const colon = launch.link.indexOf(":");
  const name = launch.link.slice(0, colon);
  const address = launch.link.slice(colon + 1);
  if (colon < 1 || address === "") {
    throw new SamError(
      "INVALID_PARAM",
      `the environment variable ${linkVariable} has the invalid value "${launch.link}": unset it, because only a SAM server may set it`,
    );
  }
  const transport = await loadTransport(chooseTransport(name, own));
  return {
    transport: name,
    async connect(runtime) {
      try {
        return { link: await transport.connect(address, runtime), lastId: 0 };
      } catch (error) {
        throw connectError(error, name);
      }
    },
  };
}

/** Returns the server's transport: a built-in one, or the object that the program passes. */
function chooseTransport(name: string, own: TransportName | Transport): TransportName | Transport {
  const ownName = typeof own === "string" ? own : own.name;
  if (name === ownName) return own;
  if (typeof own === "string" && isTransportName(name)) return name;
  throw new SamError(
    "INVALID_PARAM",
    `the SAM server uses the transport "${name}", but the program passes "${ownName}": pass the transport "${name}" as the option transport`,
  );
}

function connectError(error: unknown, transport: string): SamError {
  if (error instanceof SamError && error.code !== "LIBRARY") return error;
  const message = error instanceof Error ? error.message : String(error);
  const code: SamErrorCode = (error as { code?: string }).code === "EACCES" ? "ACCESS" : "LIBRARY";
  return new SamError(
    code,
    `cannot connect to the SAM server of this process over "${transport}" (${message}). Either the server has ended, or another process of this program has registered already: SAM watches one process per program. Start each process with its own "sam run" or supervise(), or without SAM_LINK in its environment.`,
    {
      cause: error,
    },
  );
}
