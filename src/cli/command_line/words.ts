/**
 * Parses the words of a command line into options and operands. With `stops`, options end at the first operand, because what
 * follows PROGRAM belongs to PROGRAM. `parseArgs` of node:util cannot stop there, has no `--no-…` in Node 20.16, and does not
 * suggest the option that was probably wanted.
 */
import { CommandError } from "./exit.ts";

/** An option of a command. */
export interface Option {
  /** With its dashes: `--name`. */
  readonly flag: string;
  /** `-h`. */
  readonly short?: string;
  /** True if a value follows. */
  readonly takesValue: boolean;
}

/** The parts of a command line. */
export interface Parsed {
  /** Each option that was given, in order: its flag, and its value; `"false"` for `--no-…`, empty for none. */
  readonly given: readonly (readonly [flag: string, value: string])[];
  readonly operands: readonly string[];
}

/** Parses a command line; throws for an unknown option, and for one without its value. */
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
      throw new CommandError("usage", `${name} takes no value, and was given "${value}"`);
    }
    given.push(option ? [option.flag, value ?? ""] : [negated!.flag, "false"]);
  }
  return { given, operands };
}

const helpWords: readonly string[] = ["--help", "-h", "--help-all"];

/** The word that asks for help. Values of options and the words after PROGRAM do not count. */
export function helpAsked(
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
  const [nearest] = options.map(({ flag }) => ({ flag, distance: distance(name, flag) }))
    .sort((a, b) => a.distance - b.distance);
  const meant = nearest && nearest.distance <= 3 ? `; is ${nearest.flag} meant?` : "";
  return new CommandError("usage", `there is no option ${name}${meant}`);
}

/** The number of letters to change to get from one word to the other (Levenshtein distance). */
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
