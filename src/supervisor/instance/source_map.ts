/**
 * Maps places in a script to places in its source, for example in TypeScript, by the script's source map. The source map may
 * be a `data:` URL in the script, or a local file. This module loads a package, so a server loads it only to format a stack.
 */
import {
  originalPositionFor,
  type SectionedSourceMap,
  type SourceMapInput,
  TraceMap,
} from "@jridgewell/trace-mapping";
import type { Files } from "../../runtime/runtime.ts";

/** A script that the runtime has loaded. */
export interface Script {
  /** The URL it was loaded from. */
  readonly url: string;
  /** The value of its `sourceMappingURL`; empty without one. */
  readonly mapUrl: string;
}

/** A place in a script. Lines and columns count from 0. */
export interface ScriptPlace {
  readonly script: Script;
  readonly line: number;
  readonly column: number;
}

/** A place in a source. Lines and columns count from 0. */
export interface SourcePlace {
  readonly url: string;
  readonly line: number;
  readonly column: number;
}

/** A part of a script with its own source map, and the place where the part begins. Usually the whole script. */
interface Section {
  readonly line: number;
  readonly column: number;
  readonly map: TraceMap;
}

type TextReader = Pick<Files, "readText">;

const inline = /^data:application\/json[^,]*;base64,/;
/** A larger source map is not used, because decoding it would block the server's event loop for too long. */
const maxMapBytes = 8 * 1024 * 1024;

/** Finds the source places. For a script without a usable source map, it returns the place in the script. */
export function findSources(places: readonly ScriptPlace[], files: TextReader): SourcePlace[] {
  const known = new Map<Script, readonly Section[]>();
  return places.map(({ script, line, column }) => {
    try {
      const sections = known.get(script) ?? readSections(script, files);
      known.set(script, sections);
      const section = sections.findLast((each) =>
        each.line < line || (each.line === line && each.column <= column)
      );
      const found = section && originalPositionFor(section.map, {
        line: line - section.line + 1,
        column: section.line === line ? column - section.column : column,
      });
      if (typeof found?.source === "string") {
        return { url: new URL(found.source).href, line: found.line - 1, column: found.column };
      }
    } catch {
      known.set(script, []); // the source map is invalid
    }
    return { url: script.url, line, column };
  });
}

function readSections({ url, mapUrl }: Script, files: TextReader): readonly Section[] {
  if (mapUrl === "") return [];
  const prefix = inline.exec(mapUrl)?.[0];
  const at = prefix === undefined ? new URL(mapUrl, url) : new URL(url);
  const text = prefix === undefined
    ? readLocal(at, files)
    : mapUrl.length <= maxMapBytes && decodeBase64(mapUrl.slice(prefix.length));
  if (!text) return [];
  const map = JSON.parse(text) as SectionedSourceMap | Exclude<SourceMapInput, string>;
  const sections = "sections" in map ? map.sections : [{ offset: { line: 0, column: 0 }, map }];
  return sections.map(({ offset, map }) => ({
    ...offset,
    map: new TraceMap(map as SourceMapInput, at.href),
  }));
}

function readLocal({ protocol, host, pathname }: URL, files: TextReader): string | undefined {
  if (protocol !== "file:" || host !== "") return undefined;
  return files.readText(decodeURIComponent(pathname), maxMapBytes);
}

function decodeBase64(text: string): string {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at++) bytes[at] = binary.charCodeAt(at);
  return new TextDecoder().decode(bytes);
}
