/** Writes metrics in the text format of Prometheus 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/ */
import {
  durationBounds,
  type DurationInstrument,
  durations,
  instruments,
  type Sample,
  type Unit,
} from "./instruments.ts";
import { Meters } from "./program_meter.ts";

export const prometheusType = "text/plain; version=0.0.4; charset=utf-8";

/** The suffix that a unit adds to a name. A unit in braces adds none. */
const suffixes: Readonly<Partial<Record<Unit, string>>> = { s: "_seconds", By: "_bytes" };

/** The number of durations in each bucket (the last one has no upper bound), and the sum of all durations. */
interface Histogram {
  readonly counts: number[];
  sum: number;
}

export class PrometheusText {
  readonly meters: Meters;
  readonly #histograms = new Map<string, Map<DurationInstrument, Histogram>>();

  constructor() {
    this.meters = new Meters((program, instrument, seconds) => {
      const histogram = this.#histogram(program, instrument);
      const bucket = durationBounds.findIndex((bound) => seconds <= bound);
      histogram.counts[bucket < 0 ? durationBounds.length : bucket]!++;
      histogram.sum += seconds;
    });
  }

  #histogram(program: string, instrument: DurationInstrument): Histogram {
    let own = this.#histograms.get(program);
    if (!own) this.#histograms.set(program, own = new Map());
    let histogram = own.get(instrument);
    if (!histogram) {
      const counts = Array.from({ length: durationBounds.length + 1 }, () => 0);
      own.set(instrument, histogram = { counts, sum: 0 });
    }
    return histogram;
  }

  /** Deletes the durations of a program that was removed. */
  forget(program: string): void {
    this.#histograms.delete(program);
  }

  get text(): string {
    const programs = this.meters.read();
    const lines: string[] = [];
    for (const { name, kind, unit, description, read } of instruments) {
      const counts = kind === "counter";
      const full = prometheusName(name, unit) + (counts ? "_total" : "");
      family(lines, full, counts ? "counter" : "gauge", description);
      for (const program of programs) {
        for (const sample of read(program)) lines.push(line(full, program.name, sample));
      }
    }
    for (const instrument of durations) {
      const full = prometheusName(instrument.name, instrument.unit);
      family(lines, full, "histogram", instrument.description);
      for (const { name } of programs) {
        const { counts, sum } = this.#histogram(name, instrument);
        let value = 0;
        for (const [at, count] of counts.entries()) {
          value += count;
          const le = at < durationBounds.length ? String(durationBounds[at]) : "+Inf";
          lines.push(line(`${full}_bucket`, name, { labels: { le }, value }));
        }
        lines.push(line(`${full}_sum`, name, { labels: {}, value: sum }));
        lines.push(line(`${full}_count`, name, { labels: {}, value }));
      }
    }
    return `${lines.join("\n")}\n`;
  }
}

/** Returns the Prometheus name: `sam_data_size_bytes` for `sam.data.size` in bytes. */
function prometheusName(name: string, unit: Unit): string {
  return name.replaceAll(".", "_") + (suffixes[unit] ?? "");
}

function family(lines: string[], name: string, kind: string, description: string): void {
  lines.push(`# HELP ${name} ${description}`, `# TYPE ${name} ${kind}`);
}

function line(name: string, program: string, { labels, value }: Sample): string {
  const all = Object.entries({ program, ...labels })
    .map(([label, text]) => `${label}="${escaped(text)}"`);
  return `${name}{${all.join(",")}} ${value}`;
}

function escaped(text: string): string {
  return text.replace(/[\\"\n]/g, (sign) => sign === "\n" ? "\\n" : `\\${sign}`);
}
