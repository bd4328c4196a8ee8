/** The process that becomes a SAM server: it runs its own program again, watches it, and ends as it ended. */
import type { Signal } from "../../core/signals.ts";
import type { SupervisorEvent } from "../../api/events.ts";
import type { CheckedOptions } from "../../api/options.ts";
import type { CheckedProgram } from "../../api/program.ts";
import { Lines, logger } from "../log.ts";
import { ignores } from "../../runtime/procfs.ts";
import { inspectorFlags } from "../../runtime/inspector_flags.ts";
import type { Clock, OwnProcess, Processes, SystemFiles } from "../../runtime/runtime.ts";
import { Supervision } from "../supervise.ts";
import type { Notifier, NotifierParts } from "./systemd_notifier.ts";

type ServerRuntime = Clock & Processes & SystemFiles & OwnProcess;

/** Signals that end a server: passed on to the program, which has `stopTimeout` to follow. */
const endings: readonly Signal[] = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"];

/** Signals that arrive within this time count as one. */
const sameMs = 500;

/** Serves until supervision is over, and ends the process then. Rejects when the first instance cannot be started. */
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
  let cancelTell: (() => void) | null = null;
  const tell = () => {
    cancelTell?.();
    cancelTell = null;
    unlogged.splice(0).forEach(log);
  };
  const notifier = await notifierOf(runtime, {
    programs:
      () => [{ name: program.name, settings: options.settings, status: supervision.status }],
    isReady: () => supervision.ready,
  }, (error) => supervision.report(error, "systemd cannot be told how supervision goes"));
  const supervision = new Supervision(program, options, (event) => {
    notifier?.hear(program.name, event);
    if (event.type === "spawn" && cancel.length === 0) cancel = rule();
    if (event.type === "finish" && event.status.reason === "spawn") return; // register() rejects with it
    unlogged.push(event);
    // Told a moment later: the first time it takes milliseconds, and the next instance is not to wait for it.
    cancelTell ??= runtime.schedule(tell, 0, true);
  });
  const rule = () => {
    runtime.takeOver((error) =>
      supervision.report(error, "code from before register() failed in the server")
    );
    return onEnding(runtime, (signal, delivered) => {
      notifier?.stopping();
      supervision.shutdown(signal, delivered);
    });
  };
  const status = await supervision.finished;
  tell();
  await notifier?.close();
  if (status.reason === "spawn") {
    for (const each of cancel) each();
    throw status.error!;
  }
  await lines.written();
  return runtime.exit(status.code);
}

/** Tells systemd of this process, where it wants to hear of it; what it has put into the environment is for nobody else. */
export async function notifierOf(
  runtime: ServerRuntime,
  parts: NotifierParts,
  onProblem: (error: unknown) => void,
): Promise<Notifier | undefined> {
  // A program gets no descriptor of systemd's sockets, and must not take another one for them.
  for (const name of ["FDS", "PID", "FDNAMES"]) runtime.takeVariable(`LISTEN_${name}`);
  const path = runtime.takeVariable("NOTIFY_SOCKET");
  if (path === undefined) return undefined;
  const { openNotifier } = await import("./systemd_notifier.ts");
  return await openNotifier(runtime, path, parts, onProblem);
}

/** Calls back for each signal that ends a server, and says whether the program has got it too; returns the cancellations. */
export function onEnding(
  runtime: ServerRuntime,
  end: (signal: Signal, delivered: boolean) => void,
): (() => void)[] {
  let heard = -Infinity;
  // A process that was started by nohup should outlive the terminal.
  const outlives = ignores(runtime, runtime.pid, "SIGHUP");
  return endings.map((signal) =>
    runtime.onSignal(signal, () => {
      // Deno, which listens for all of them where we listen for one, would end here.
      if (signal === "SIGHUP" && outlives) return;
      // One Ctrl-C may arrive twice: from the terminal, and passed on by npm or a shell. A second one is a wish of its own.
      if (runtime.now() - heard < sameMs) return;
      heard = runtime.now();
      // At a terminal, Ctrl-C (or Ctrl-\) has reached the program as well: it gets no second one from us.
      end(signal, (signal === "SIGINT" || signal === "SIGQUIT") && runtime.stdinIsTerminal);
    })
  );
}
