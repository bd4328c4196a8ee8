/**
 * The listening sockets that systemd, or another SAM server, has handed on to this process: sd_listen_fds(3). The server hands them
 * on to its programs.
 */
import { launch } from "../../runtime/launch.ts";
import type { OwnProcess, PassedSocket } from "../../runtime/runtime.ts";

type ActivationRuntime = Pick<OwnProcess, "pid" | "takeVariable">;

/** The descriptor of the first socket. */
const firstDescriptor = 3;
/** The name of a socket that has none. */
const unnamed = "unknown";

let taken: Promise<readonly PassedSocket[]> | undefined;

/**
 * Returns the sockets that this process has inherited. Removes the variables of the protocol, because child processes would take
 * other descriptors for the sockets. Rejects with NOT_SUPPORTED if this runtime cannot hand sockets on.
 */
export function inheritedSockets(
  runtime: ActivationRuntime,
): Promise<readonly PassedSocket[]> {
  return taken ??= take(runtime);
}

async function take(runtime: ActivationRuntime): Promise<readonly PassedSocket[]> {
  const [pid, count, names] = ["PID", "FDS", "FDNAMES"]
    .map((name) => runtime.takeVariable(`LISTEN_${name}`));
  const isActivated = Number(pid) === runtime.pid && /^[1-9]\d{0,3}$/.test(count ?? "");
  if (!isActivated && launch.sockets.length === 0) return [];
  const { loadSocketCalls } = await import("../../ffi/listening_sockets.ts");
  const { passedSocket, textOf } = await import("../held_sockets.ts");
  const calls = await loadSocketCalls();
  // A SAM server on Deno hands sockets on under other numbers.
  if (!isActivated) {
    return launch.sockets.map(({ name, address, fd }) => {
      calls.keep(fd);
      return passedSocket(calls, name, address, fd);
    });
  }
  const named = names?.split(":") ?? [];
  return Array.from({ length: Number(count) }, (_, at) => {
    const descriptor = firstDescriptor + at;
    calls.keep(descriptor);
    const address = calls.addressOf(descriptor);
    const name = named[at] || unnamed;
    return passedSocket(calls, name, address ? textOf(address) : name, descriptor);
  });
}
