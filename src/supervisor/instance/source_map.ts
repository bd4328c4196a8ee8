/** Source maps that lie inside the code, as Deno and compilers put them there: from a place in it to the source. */

/** A place: line and column count from 0. */
export interface Place {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

interface SourceMap {
  readonly sources: readonly string[];
  readonly sourceRoot?: string;
  readonly mappings: string;
}

const inline = /^data:application\/json[^,]*;base64,/;
/** A longer map is left alone: to read it takes a server too long. */
const maxMapCharacters = 1024 * 1024;
const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** Where a place comes from; the place itself where the map (the value of `sourceMappingURL`) does not tell. */
export function original(place: Place, mapUrl: string): Place {
  const prefix = inline.exec(mapUrl)?.[0];
  if (prefix === undefined || mapUrl.length > maxMapCharacters) return place;
  try {
    const bytes = Uint8Array.from(atob(mapUrl.slice(prefix.length)), (char) => char.charCodeAt(0));
    const map = JSON.parse(new TextDecoder().decode(bytes)) as SourceMap;
    const found = find(map.mappings, place);
    const source = found && map.sources[found.source];
    if (source === undefined) return place;
    const { href } = new URL(`${map.sourceRoot ?? ""}${source}`, place.file);
    return { file: href, line: found!.line, column: found!.column };
  } catch {
    return place; // a map that makes no sense
  }
}

/** The last segment at or before a place, in its line. */
function find(
  mappings: string,
  place: Place,
): { source: number; line: number; column: number } | undefined {
  let [source, line, column] = [0, 0, 0];
  let found: { source: number; line: number; column: number } | undefined;
  for (const [at, segments] of mappings.split(";").entries()) {
    if (at > place.line) break;
    let generated = 0;
    for (const segment of segments.split(",")) {
      if (segment === "") continue;
      const [moved, ...more] = numbersOf(segment) as [number, number?, number?, number?];
      generated += moved;
      if (more.length < 3) continue;
      source += more[0]!;
      line += more[1]!;
      column += more[2]!;
      if (at === place.line && generated <= place.column) found = { source, line, column };
    }
  }
  return found;
}

/** Base 64 VLQ: five bits a digit, the sixth says that more follow, the lowest bit of all is the sign. */
function numbersOf(segment: string): number[] {
  const numbers: number[] = [];
  let [value, shift] = [0, 0];
  for (const char of segment) {
    const digit = digits.indexOf(char);
    value += (digit & 31) << shift;
    shift += 5;
    if (digit & 32) continue;
    numbers.push(value & 1 ? -(value >> 1) : value >> 1);
    [value, shift] = [0, 0];
  }
  return numbers;
}
