/**
 * From the words of a command line to options and operands; options end at the first operand where `stops` says so: what
 * follows PROGRAM is PROGRAM's. `parseArgs` of node:util knows no such end, nor `--no-…` in Node 20.16, nor a word that is
 * nearly right.
 */
import { CommandError } from "./exit.ts";

/** An option of a command. */
export interface Option {
  /** With its dashes: `--name`. */
  readonly flag: string;
  /** `-h`. */
  readonly short?: string;
  /** Whether a value follows. */
  readonly takesValue: boolean;
}

/** A command line, taken apart. */
export interface Parsed {
  /** Each option that was given, in order: its flag, and its value; `"false"` for `--no-…`, empty for none. */
  readonly given: readonly (readonly [flag: string, value: string])[];
  readonly operands: readonly string[];
}

/** Takes a command line apart; throws for an option that is not there, or lacks its value. */
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

/** The word that asks for help; a value of an option, and what is PROGRAM's, asks for nothing. */
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

/** How many letters must be changed to make one word of another (Levenshtein). */
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
