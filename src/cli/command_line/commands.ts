/** The options of each command of `sam`, as data. The parser and the shell completion read them. */
import { flagOf, flags } from "./flags.ts";
import type { Option } from "./words.ts";

/** The options of `sam run`. */
export const runOptions: readonly Option[] = [
  { flag: "--name", takesValue: true },
  { flag: "--config", short: "-c", takesValue: true },
  { flag: "--metrics", takesValue: true },
  { flag: "--json", takesValue: false },
  { flag: "--quiet", short: "-q", takesValue: false },
  ...flags.map((row) => ({ flag: flagOf(row), takesValue: row.kind !== "switch" })),
];

/** The options of `sam unit`. */
export const unitOptions: readonly Option[] = [
  { flag: "--install", takesValue: false },
  { flag: "--user", takesValue: false },
  { flag: "--socket", takesValue: false },
  ...runOptions,
];

/** The options of the commands that send a request to a running server. */
export const remoteOptions: Readonly<
  Record<"status" | "events" | "restart" | "reload" | "stop" | "signal", readonly Option[]>
> = {
  status: [
    { flag: "--json", takesValue: false },
    { flag: "--watch", short: "-w", takesValue: false },
  ],
  events: [
    { flag: "--json", takesValue: false },
    { flag: "--follow", short: "-f", takesValue: false },
  ],
  restart: [],
  reload: [],
  stop: [],
  signal: [],
};
