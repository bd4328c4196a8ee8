/** The JSON schema of the configuration file, made from the table of the options. The build of the npm package writes it to a file. */
import { strategies } from "../../supervisor/fleet_program.ts";
import { type Flag, flags } from "../command_line/flags.ts";
import { programName } from "./check_config.ts";

/** A JSON schema. */
type Schema = Readonly<Record<string, unknown>>;

const texts: Schema = { type: "array", items: { type: "string" } };
const name: Schema = { type: "string", pattern: programName.source };
const address: Schema = { type: ["string", "integer"] };

/** The values of the options whose type in the file differs from that on the command line. */
const special: Readonly<Record<string, Schema>> = {
  listen: { anyOf: [address, { type: "array", items: address }] },
  envFile: { anyOf: [{ type: "string" }, texts] },
};

function schemaOf({ key, kind, help }: Flag): Schema {
  const unit = { ms: ", in milliseconds", bytes: ", in bytes" }[kind as string] ?? "";
  return { description: help + unit, ...(special[key] ?? typeOf(kind)) };
}

function typeOf(kind: Flag["kind"]): Schema {
  switch (kind) {
    case "ms":
    case "bytes":
      return { type: "integer", minimum: 0 };
    case "number":
      return { type: "number", minimum: 0 };
    case "count":
      return { anyOf: [{ type: "integer", minimum: 1 }, { const: "auto" }] };
    case "text":
      return { type: "string" };
    case "switch":
      return { type: "boolean" };
    case "list":
      return texts;
    case "variables":
      return { type: "object", additionalProperties: { type: "string" } };
    default:
      return { enum: kind };
  }
}

/** An object that has only these keys. */
function objectOf(properties: Readonly<Record<string, Schema>>, required: string[] = []): Schema {
  return { type: "object", properties, required, additionalProperties: false };
}

/** The schema of the options whose keys begin with `prefix`. */
function optionsOf(prefix: string): Record<string, Schema> {
  return Object.fromEntries(
    flags.filter(({ key }) => key.startsWith(prefix) && !key.slice(prefix.length).includes("."))
      .map((row) => [row.key.slice(prefix.length), schemaOf(row)]),
  );
}

/** The schema of a `.json` configuration file. */
export function configSchema(): Schema {
  const options = optionsOf("");
  const { restart } = options;
  const program = {
    program: { description: "a module or a command", type: "string", minLength: 1 },
    args: { description: "its arguments", ...texts },
    after: { description: "the programs that must be ready before it starts", ...texts },
    ...options,
    restart: { anyOf: [restart!, objectOf({ policy: restart!, ...optionsOf("restart.") })] },
    check: { description: "health check", ...objectOf(optionsOf("check.")) },
  };
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "Configuration of sam run",
    ...objectOf({
      $schema: { type: "string" },
      name: { description: "the name of the server", ...name },
      metrics: { description: "the address for metrics, probes and the status page", ...address },
      strategy: { description: "which programs restart when one fails", enum: strategies },
      programs: {
        description: "the programs; each key is the name of a program",
        type: "object",
        propertyNames: name,
        minProperties: 1,
        additionalProperties: objectOf(program, ["program"]),
      },
    }, ["programs"]),
  };
}
