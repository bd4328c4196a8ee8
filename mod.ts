/**
 * SAM, the Simple Availability Manager, restarts a program that crashes or stops responding. It runs on Node, Deno and Bun.
 *
 * When a program calls `initialize()` and `register()`, its first process becomes the SAM server. The server starts the program
 * again as a child process, called an instance. It watches the instance, and replaces it after a crash or a hang.
 * `supervise()` starts and watches another program from your code. That program need not use SAM.
 *
 * ```ts serves
 * import { initialize } from "@x/sam";
 *
 * const sam = await initialize({ timeInterval: 2000, recoveryPolicy: "restart" });
 * await sam.register(); // the code above this line runs in the server and in every instance
 * sam.setHealthCheck(() => true);
 * await sam.start();
 * console.log("watched");
 * ```
 *
 * `Source: sam_start(3)` in a description means: this call is modeled after the call in that man page of Corosync's libsam.
 *
 * @module
 */
export { SamError, type SamErrorCode } from "./src/errors.ts";
export { initialize } from "./src/active/initialize.ts";
export type {
  HealthCheck,
  InheritedSocket,
  Sam,
  SamData,
  SamState,
  StartOptions,
} from "./src/api/sam.ts";
export { supervise } from "./src/supervisor/supervise.ts";
export type { Supervisor } from "./src/api/supervisor.ts";
export type {
  CheckEvent,
  DriverEvent,
  ExitStatus,
  LastRecovery,
  MemberStatus,
  ReloadEvent,
  SupervisorEvent,
  SupervisorEventDetail,
  SupervisorStatus,
} from "./src/api/events.ts";
export type { Log, SamOptions, TransportName } from "./src/api/options.ts";
export type { CheckOptions, SuperviseOptions } from "./src/api/supervise_options.ts";
export type {
  CommandProgram,
  ModuleProgram,
  Program,
  ProgramOptions,
  RuntimeChoice,
} from "./src/api/program.ts";
export type { RestartOptions } from "./src/core/server/restart_policy.ts";
export type { EndSignal, Signal } from "./src/core/signals.ts";
export type { Slack, SlackBucket } from "./src/core/server/slack.ts";
export type {
  Evidence,
  FinishReason,
  Note,
  Problem,
  ProcessState,
  RecoveryReason,
  ServerEvent,
  ServerState,
  SpareStatus,
} from "./src/core/server/types.ts";
export type { ClusterMap, QuorumSource } from "./src/api/cluster.ts";
export type {
  Child,
  Clock,
  Command,
  Exit,
  Files,
  FileStatus,
  Listener,
  Output,
  OwnProcess,
  Processes,
  RandomFile,
  Runtime,
  RuntimeName,
  Sockets,
  Stdio,
  Stream,
  SystemFiles,
  TemporaryFiles,
} from "./src/runtime/runtime.ts";
export type {
  Endpoint,
  Link,
  LinkSink,
  StoredData,
  TimedNote,
  Transport,
  TransportRuntime,
} from "./transports/transport.ts";
