/** The process that becomes a SAM server in `register()`: it runs its own program again and ends with the program's exit code. */
import type { Signal } from "../../core/signals.ts";
import type { SupervisorEvent } from "../../api/events.ts";
import type { CheckedOptions } from "../../api/options.ts";
import type { CheckedProgram } from "../../api/program.ts";
import { Lines, logger } from "../log.ts";
import { ignores } from "../../runtime/procfs.ts";
import { inspectorFlags } from "../../runtime/inspector_flags.ts";
import type { Clock, OwnProcess, Processes, SystemFiles } from "../../runtime/runtime.ts";
import { Supervision } from "../supervise.ts";
import { inheritedSockets } from "./socket_activation.ts";
import type { Notifier, NotifierParts } from "./systemd_notifier.ts";

type ServerRuntime = Clock & Processes & SystemFiles & OwnProcess;

/** Signals that end a server. It passes them on to the program, which has `stopTimeout` to end. */
const endSignals: readonly Signal[] = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"];

/** Signals that arrive within this time count as one. */
const repeatMs = 500;

/** Runs the server until supervision is over, and then ends the process. Rejects if the first instance cannot be started. */
export async function serve(runtime: ServerRuntime, options: CheckedOptions): Promise<never> {
  const own = await runtime.self();
  await runtime.freeInspectorPort?.(own.flags);
  const inspect = options.settings.captureStack
    ? inspectorFlags(own.runtime, own.flags, false)
    : [];
  const self = { ...own, flags: [...own.flags, ...inspect] };
  const program: CheckedProgram = {
    name: self.module ?? "the program",
    isCommand: false,
    command: () => Promise.resolve({ ...self, env: {}, stdio: ["inherit", "inherit", "inherit"] }),
  };
  let cancel: (() => void)[] = [];
  const lines = new Lines(runtime);
  const log = logger(options.log, program.name, {}, lines.write);
  const unlogged: SupervisorEvent[] = [];
  let cancelFlush: (() => void) | null = null;
  const flush = () => {
    cancelFlush?.();
    cancelFlush = null;
    unlogged.splice(0).forEach(log);
  };
  const sockets = await inheritedSockets(runtime);
  const notifier = await notifierOf(runtime, {
    programs:
      () => [{ name: program.name, settings: options.settings, status: supervision.status }],
    isReady: () => supervision.ready,
  }, (error) => supervision.report(error, "cannot notify systemd"));
  const supervision = new Supervision(program, { ...options, sockets }, (event) => {
    notifier?.hear(program.name, event);
    if (event.type === "spawn" && cancel.length === 0) cancel = takeOver();
    if (event.type === "finish" && event.status.reason === "spawn") return; // register() rejects with it
    unlogged.push(event);
    // Logged in the next turn: the first log line takes milliseconds, which would delay the next instance.
    cancelFlush ??= runtime.schedule(flush, 0, true);
  });
  const takeOver = () => {
    runtime.takeOver((error) =>
      supervision.report(
        error,
        "the program's code before register() threw an error in the SAM server",
      )
    );
    return onEnding(runtime, (signal, delivered) => {
      notifier?.stopping();
      supervision.shutdown(signal, delivered);
    });
  };
  const status = await supervision.finished;
  flush();
  await notifier?.close();
  if (status.reason === "spawn") {
    for (const each of cancel) each();
    throw status.error!;
  }
  await lines.written();
  return runtime.exit(status.code);
}

/** Opens the connection to systemd if systemd asks for it. Removes its variables, so that no child process inherits them. */
export async function notifierOf(
  runtime: ServerRuntime,
  parts: NotifierParts,
  onProblem: (error: unknown) => void,
): Promise<Notifier | undefined> {
  const path = runtime.takeVariable("NOTIFY_SOCKET");
  if (path === undefined) return undefined;
  const { openNotifier } = await import("./systemd_notifier.ts");
  return await openNotifier(runtime, path, parts, onProblem);
}

/** Calls back for each signal that ends a server. `delivered`: the program got it, too. Returns the cancellations. */
export function onEnding(
  runtime: ServerRuntime,
  end: (signal: Signal, delivered: boolean) => void,
): (() => void)[] {
  let lastAt = -Infinity;
  // A process started by nohup ignores SIGHUP, because it must outlive the terminal.
  const ignoresHangup = ignores(runtime, runtime.pid, "SIGHUP");
  return endSignals.map((signal) =>
    runtime.onSignal(signal, () => {
      // Deno takes over SIGHUP with the first listener for any signal, and would end the process without this listener.
      if (signal === "SIGHUP" && ignoresHangup) return;
      // One Ctrl-C may arrive twice: from the terminal, and passed on by npm or a shell. A later one is a new request.
      if (runtime.now() - lastAt < repeatMs) return;
      lastAt = runtime.now();
      // At a terminal, Ctrl-C (or Ctrl-\) has reached the program already, so the server does not pass it on.
      end(signal, (signal === "SIGINT" || signal === "SIGQUIT") && runtime.stdinIsTerminal);
    })
  );
}
