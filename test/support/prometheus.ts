// A strict parser of Prometheus' text format, which throws whatever promtool would report.
import { assert, assertEquals } from "@std/assert";

/** The samples, by `name{labels}`. */
export type Samples = ReadonlyMap<string, number>;

const sampleLine = /^([a-zA-Z_:][\w:]*)\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*",?)*)\} (\S+)$/;

/** Parses a text. Each family must be complete, described once, and of a type that fits its names. */
export function parsePrometheus(text: string): Samples {
  assert(text.endsWith("\n"), "the last line must end");
  const samples = new Map<string, number>();
  const seen = new Set<string>();
  let family = "", type = "";
  for (const line of text.slice(0, -1).split("\n")) {
    const [, name, description] = /^# HELP (\S+) (\S.*)$/.exec(line) ?? [];
    if (name !== undefined) {
      assert(!seen.has(name), `${name} is described twice`);
      assert(description!.length > 10, description);
      seen.add(family = name);
      type = "";
      continue;
    }
    const [, typed, kind] = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line) ?? [];
    if (typed !== undefined) {
      assertEquals([typed, type], [family, ""], "TYPE follows HELP, once");
      type = kind!;
      assertEquals(type === "counter", family.endsWith("_total"), family);
      continue;
    }
    const [, sample, labels, value] = sampleLine.exec(line) ?? [];
    assert(sample !== undefined, `no sample: ${line}`);
    const base = type === "histogram" ? sample.replace(/_(bucket|sum|count)$/, "") : sample;
    assertEquals(base, family, `${line} is outside of its family`);
    assert(type !== "", `${family} has no type`);
    const number = Number(value);
    assert(!Number.isNaN(number), line);
    const key = `${sample}{${labels}}`;
    assert(!samples.has(key), `${key} is there twice`);
    samples.set(key, number);
  }
  checkHistograms(samples);
  return samples;
}

/** Buckets never shrink, and the last one equals the count. */
function checkHistograms(samples: Samples): void {
  for (const [key, count] of samples) {
    const [, name, labels] = /^(\w+)_count\{(.*)\}$/.exec(key) ?? [];
    if (name === undefined) continue;
    const buckets = [...samples].filter(([key]) => key.startsWith(`${name}_bucket{${labels},`))
      .map(([, value]) => value);
    assert(buckets.length > 1, name);
    assertEquals(buckets, [...buckets].sort((a, b) => a - b), name);
    assertEquals(buckets.at(-1), count, name);
    assert(
      samples.has(`${name}_bucket{${labels},le="+Inf"}`) && samples.has(`${name}_sum{${labels}}`),
    );
  }
}
