/**
 * Parses the words of a command line into options and operands. `parseArgs` of node:util cannot replace this parser: it cannot
 * stop at the first operand, has no `--no-…` in Node 20.16, and suggests no correction for a misspelled option.
 */
import { CommandError } from "./exit.ts";

/** An option of a command. */
export interface Option {
  /** The flag with its dashes: `--name`. */
  readonly flag: string;
  /** The short form: `-h`. */
  readonly short?: string;
  /** True if a value follows. */
  readonly takesValue: boolean;
}

/** The parts of a command line. */
export interface Parsed {
  /** The given options in their order. The value is `"false"` for `--no-…`, and empty for an option without a value. */
  readonly given: readonly (readonly [flag: string, value: string])[];
  readonly operands: readonly string[];
}

/**
 * Parses a command line. Throws for an unknown option, and for a missing value. With `stops`, options end at the first operand,
 * because the words after PROGRAM belong to PROGRAM.
 */
export function parseWords(
  words: readonly string[],
  options: readonly Option[],
  stops: boolean,
): Parsed {
  const given: [string, string][] = [];
  const operands: string[] = [];
  for (let at = 0; at < words.length; at++) {
    const word = words[at]!;
    if (word === "--") return { given, operands: [...operands, ...words.slice(at + 1)] };
    if (!word.startsWith("-") || word === "-") {
      operands.push(word);
      if (stops) return { given, operands: [...operands, ...words.slice(at + 1)] };
      continue;
    }
    const equals = word.indexOf("=");
    const name = equals < 0 ? word : word.slice(0, equals);
    const value = equals < 0 ? undefined : word.slice(equals + 1);
    const option = options.find(({ flag, short }) => flag === name || short === name);
    if (option?.takesValue) {
      const next = value ?? words[++at];
      if (next === undefined) throw new CommandError("usage", `${name} needs a value`);
      given.push([option.flag, next]);
      continue;
    }
    const negated = options.find(({ flag, takesValue }) =>
      !takesValue && name === flag.replace(/^--/, "--no-")
    );
    if (option === undefined && negated === undefined) throw unknown(name, options);
    if (value !== undefined && negated) {
      throw new CommandError("usage", `${name} takes no value, but was given "${value}"`);
    }
    given.push(option ? [option.flag, value ?? ""] : [negated!.flag, "false"]);
  }
  return { given, operands };
}

const helpWords: readonly string[] = ["--help", "-h", "--help-all"];

/** Finds the word that asks for help. Ignores the values of options and the words after PROGRAM. */
export function findHelpFlag(
  words: readonly string[],
  options: readonly Option[],
  stops: boolean,
): string | undefined {
  for (let at = 0; at < words.length; at++) {
    const word = words[at]!;
    if (helpWords.includes(word)) return word;
    if (word === "--" || (stops && (!word.startsWith("-") || word === "-"))) return undefined;
    const option = options.find(({ flag, short }) => flag === word || short === word);
    if (option?.takesValue) at++;
  }
  return undefined;
}

function unknown(name: string, options: readonly Option[]): CommandError {
  const [closest] = options.map(({ flag }) => ({
    flag,
    distance: flag.startsWith(name) ? 0 : distance(name, flag),
  })).sort((a, b) => a.distance - b.distance);
  const hint = closest && closest.distance <= 3
    ? `Did you mean ${closest.flag}?`
    : "See sam --help.";
  return new CommandError("usage", `unknown option ${name}. ${hint}`);
}

/** The Levenshtein distance of two words: the number of letters to insert, delete or replace. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(
        row[j]! + 1,
        next[j - 1]! + 1,
        row[j - 1]! + Number(a[i - 1] !== b[j - 1]),
      );
    }
    row = next;
  }
  return row[b.length]!;
}
