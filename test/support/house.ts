// The rules for the sources as functions: which room imports which, no circles, length of files.

import { codeOf, readSource, sourcesIn } from "./sources.ts";

/** The text of each source, by its path from the root of the checkout. */
export type House = ReadonlyMap<string, string>;

/** An import of one source by another. `later` is true for `import()`, `isType` if only types are imported. */
export interface Import {
  readonly from: string;
  readonly to: string;
  readonly later: boolean;
  readonly isType: boolean;
}

/** The rooms from left to right. Rooms side by side do not know each other. */
export const floors: readonly (readonly string[])[] = [
  ["src/errors.ts"],
  ["src/core"],
  ["src/runtime"],
  ["src/ffi"],
  ["transports"],
  ["src/api"],
  ["src/supervisor", "src/active", "src/corosync", "src/metrics", "src/testing"],
  ["src/cli", "mod.ts"],
];

/**
 * The only exception to the direction: the first process of a program becomes its server, and loads that part only
 * then.
 */
const loadedLater: readonly (readonly [string, string])[] = [["src/active", "src/supervisor"]];

/** Rooms within a room that do not know each other. */
const strangers: readonly (readonly [string, string])[] = [
  ["src/core/server", "src/core/client"],
  ["src/core/client", "src/core/server"],
];

/** All sources of the library. */
export function readHouse(): House {
  const files = [...sourcesIn("src"), ...sourcesIn("transports"), "mod.ts"];
  return new Map(files.map((path) => [path, readSource(path)]));
}

/** The imports of other sources, in the order in which they stand there. */
export function importsIn(house: House): Import[] {
  return [...house].flatMap(([from, source]) => {
    const text = source.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "");
    const found = text.matchAll(
      /^\s*(?:import|export)\s+(type\s)?(?:[^;"']*?\sfrom\s+)?["'](\.[^"']+)["']|\bimport\(\s*["'](\.[^"']+)["']/gm,
    );
    return [...found].map(([, type, now, later]) => ({
      from,
      to: new URL(now ?? later!, `file:///${from}`).pathname.slice(1),
      later: later !== undefined,
      isType: type !== undefined,
    }));
  });
}

/** The room that contains a path, or a file that is a room by itself; undefined for neither. */
function roomOf(path: string): string | undefined {
  return floors.flat().find((room) => path === room || path.startsWith(`${room}/`));
}

/** One sentence for each import in the wrong direction. */
export function wrongImports(house: House): string[] {
  const homeless = [...house.keys()].filter((path) => roomOf(path) === undefined)
    .map((path) => `${path} is in no room: put it into one of ${floors.flat().join(", ")}`);
  const wrong = importsIn(house).flatMap(({ from, to, later }) => {
    const [room, other] = [roomOf(from), roomOf(to)];
    if (room === undefined || other === undefined) return [];
    const unknown = strangers.find(([one, two]) =>
      from.startsWith(`${one}/`) && to.startsWith(`${two}/`)
    );
    if (unknown) return [`${from} imports ${to}: ${unknown.join(" and ")} do not know each other`];
    if (room === other) return [];
    const allowed = floors.slice(0, floors.findIndex((floor) => floor.includes(room))).flat();
    const isException = later && loadedLater.some(([one, two]) => room === one && other === two);
    if (allowed.includes(other) || isException) return [];
    const may = allowed.length > 0 ? `only ${allowed.join(", ")}` : "nothing";
    return [`${from} imports ${to}: ${room} may import ${may}`];
  });
  return [...homeless, ...wrong];
}

/** One sentence for each circle of imports, type imports included. `import()` closes no circle. */
export function circles(house: House): string[] {
  const imports = importsIn(house).filter(({ later }) => !later);
  const found: string[] = [];
  const done = new Set<string>();
  const visit = (path: string, way: readonly string[]): void => {
    const at = way.indexOf(path);
    if (at >= 0) found.push(`these import each other: ${[...way.slice(at), path].join(" -> ")}`);
    if (at >= 0 || done.has(path)) return;
    for (const { from, to } of imports) if (from === path) visit(to, [...way, path]);
    done.add(path);
  };
  for (const path of house.keys()) visit(path, []);
  return found;
}

/** The largest number of lines in a file. */
const maxLines = 400;
/** The two machines may be longer, because they are read from top to bottom. */
const machines = { path: /^src\/core\/(server|client)\/machine\.ts$/, maxLines: 500 };

/** One sentence for each file that is too long. */
export function longFiles(house: House): string[] {
  return [...house].flatMap(([path, source]) => {
    const most = machines.path.test(path) ? machines.maxLines : maxLines;
    const lines = source.replace(/\n$/, "").split("\n").length;
    return lines > most ? [`${path} has ${lines} lines, of ${most}: split it by what it does`] : [];
  });
}

/** One sentence for each field of a machine that other code could write. */
export function openFields(house: House): string[] {
  return [...house].filter(([path]) => machines.path.test(path)).flatMap(([path, source]) => {
    const classes = [...codeOf(source).matchAll(/^(?:export )?class [^]*?^}/gm)].join("\n");
    return [...classes.matchAll(/^ {2}(\w+)(?:[?!]?:[^=;(]+)?(?: = [^;]*)?;/gm)]
      .map(([, name]) => `${path}: the field ${name} can be written from outside: make it private`);
  });
}

/** The modules that are loaded together with some modules. */
export function loadedWith(house: House, entries: readonly string[]): string[] {
  const imports = importsIn(house).filter(({ later, isType }) => !later && !isType);
  const loaded = new Set<string>();
  const load = (path: string): void => {
    if (loaded.has(path)) return;
    loaded.add(path);
    for (const { from, to } of imports) if (from === path) load(to);
  };
  entries.forEach(load);
  return [...loaded].sort();
}
