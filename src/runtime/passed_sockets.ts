/**
 * Hands listening sockets on to a process by the protocol of sd_listen_fds(3): the sockets are the descriptors from 3 on, and
 * three variables describe them. Many programs understand the protocol.
 */
import { socketsVariable } from "./launch.ts";
import type { Command, PassedSocket } from "./runtime.ts";
import { spawnError } from "./spawn_error.ts";

/** The executable of a process, its first words, and its environment. */
interface CommandStart {
  readonly file: string;
  readonly flags: readonly string[];
  readonly env: Record<string, string>;
}

/**
 * Sets the variables that contain the id of the process, and becomes the program. `LISTEN_PID` must be the id of the process
 * itself, which is known only after the start.
 */
const script = `export LISTEN_PID=$$ ${socketsVariable}="$$ $${socketsVariable}"; exec "$0" "$@"`;

/** A name that a shell accepts for a variable. Some shells drop all other variables. */
const shellName = /^[A-Za-z_]\w*$/;

/**
 * Returns the start of a command line that hands the sockets of `command` on. Without sockets, it is the command's own start. Throws
 * an error of `spawn()` if the executable does not exist, because the shell would start anyway. `numbers` are the descriptors in
 * the process, if they are not those of the protocol.
 */
export function passSockets(
  command: Command,
  env: Record<string, string>,
  exists: (path: string) => boolean,
  numbers?: readonly number[],
): CommandStart {
  const { file, flags, cwd, sockets = [], mustListen = false } = command;
  if (sockets.length === 0) return { file, flags, env };
  const directory = cwd ?? ".";
  const places = file.includes("/")
    ? [file.startsWith("/") ? file : `${directory}/${file}`]
    : env["PATH"]?.split(":").map((place) => `${place || directory}/${file}`);
  if (places && !places.some(exists)) throw spawnError(command, { code: "ENOENT" });
  // env(1) sets the variables that the shell drops, such as those of npm: npm_package_bin_my-tool.
  const dropped = file.includes("=")
    ? []
    : Object.entries(env).filter(([name]) => !shellName.test(name));
  const words = dropped.length === 0 ? [] : ["env", ...dropped.map((each) => each.join("="))];
  return {
    file: "sh",
    flags: ["-c", script, ...words, file, ...flags],
    env: { ...env, ...socketVariables(sockets, mustListen, numbers) },
  };
}

function socketVariables(
  sockets: readonly PassedSocket[],
  mustListen: boolean,
  numbers?: readonly number[],
): Record<string, string> {
  const described = sockets.map(({ name, address }, at) => ({
    name,
    address,
    fd: numbers?.[at] ?? firstDescriptor + at,
  }));
  return {
    ...(numbers === undefined && {
      LISTEN_FDS: String(sockets.length),
      LISTEN_FDNAMES: sockets.map(({ name }) => name).join(":"),
    }),
    [socketsVariable]: JSON.stringify({ sockets: described, mustListen }),
  };
}

/** The descriptor of the first socket. */
const firstDescriptor = 3;
