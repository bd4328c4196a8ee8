/**
 * SAM, the Simple Availability Manager, for Node, Deno and Bun: a program registers, and is from then on run, watched,
 * warned, killed and started again by its SAM server.
 *
 * ```ts serves
 * import { initialize } from "@x/sam";
 *
 * const sam = await initialize({ timeInterval: 2000, recoveryPolicy: "restart" });
 * await sam.register(); // everything above runs in the server and in every instance
 * sam.setHealthCheck(() => true);
 * await sam.start();
 * console.log("watched");
 * ```
 *
 * @module
 */
export { SamError, type SamErrorCode } from "./src/errors.ts";
export {
  type HealthCheck,
  initialize,
  type Sam,
  type SamData,
  type SamState,
  type StartOptions,
} from "./src/sam.ts";
export {
  type ExitStatus,
  type LastRecovery,
  supervise,
  type SuperviseOptions,
  type Supervisor,
} from "./src/supervise.ts";
export type {
  CheckEvent,
  SupervisorEvent,
  SupervisorEventDetail,
  SupervisorStatus,
} from "./src/events.ts";
export type { CheckOptions, Log, SamOptions, TransportName } from "./src/options.ts";
export type {
  CommandProgram,
  ModuleProgram,
  Program,
  ProgramOptions,
  RuntimeChoice,
} from "./src/program.ts";
export type { RestartOptions } from "./src/core/restart.ts";
export type { EndSignal, Signal } from "./src/core/signals.ts";
export type { Slack, SlackBucket } from "./src/core/slack.ts";
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
} from "./src/core/server_types.ts";
export type { DriverEvent } from "./src/driver.ts";
export type { ClusterMap, QuorumSource } from "./src/cluster/cluster.ts";
export type {
  Child,
  Command,
  Exit,
  Listener,
  Output,
  Page,
  RandomFile,
  Runtime,
  RuntimeName,
  Stdio,
  Stream,
} from "./src/runtime/runtime.ts";
export type { Endpoint, Kept, Link, LinkSink, Noted, Transport } from "./transports/transport.ts";
