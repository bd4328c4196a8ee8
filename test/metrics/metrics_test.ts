// The metrics of programs in Prometheus' text format and through the SDK of OpenTelemetry.
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import {
  AggregationTemporality,
  DataPointType,
  MeterProvider,
  type MetricData,
  MetricReader,
} from "@opentelemetry/sdk-metrics";
import { spawn, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { SamError, Supervisor, SupervisorEvent, SupervisorStatus } from "../../mod.ts";
import { SlackCounter } from "../../src/core/server/slack.ts";
import { EventLog } from "../../src/supervisor/event_log.ts";
import { prometheusMetrics } from "../../src/metrics/mod.ts";
import { durations, instruments } from "../../src/metrics/instruments.ts";
import { openTelemetryMetrics } from "../../src/metrics/otel.ts";
import { test } from "../support/harness.ts";
import { parsePrometheus } from "../support/prometheus.ts";
import { documentation } from "../support/runtimes.ts";

const reference = readFileSync(join(documentation, "metrics.md"), "utf8");
const howTo = readFileSync(join(documentation, "how-to/monitoring.md"), "utf8");

/** A supervised program without processes. The test sets its status and its events. */
class Puppet {
  readonly slack = new SlackCounter(100);
  readonly #log = new EventLog();
  #status: Partial<SupervisorStatus> = {};
  #instanceId = 1;

  get supervisor(): Supervisor {
    const status = () => this.#current;
    return {
      events: () => this.#log.read([]),
      get status() {
        return status();
      },
    } as unknown as Supervisor;
  }

  get #current(): SupervisorStatus {
    return {
      state: "started",
      pid: 1,
      ready: true,
      spawnedAt: Date.now() - 5000,
      instanceId: this.#instanceId,
      heartbeatAge: 20,
      dataSize: 3,
      members: [{ pid: 8, heartbeatAge: 5 }, { pid: 9, heartbeatAge: null }],
      slack: this.slack.snapshot,
      ...this.#status,
    } as SupervisorStatus;
  }

  setStatus(status: Partial<SupervisorStatus>): void {
    this.#status = status;
  }

  /** Emits an event at `at` milliseconds. */
  emit(at: number, event: object): void {
    this.#log.push({ ...event, at, instanceId: this.#instanceId } as SupervisorEvent);
  }

  /** An instance hangs from 0 on, misses its deadline at 120 and ends. The next instance is started at 520. */
  async hang(): Promise<void> {
    this.setStatus({ ready: false, state: "warned" });
    this.emit(120, { type: "warn", reason: "timeout" });
    this.emit(130, { type: "exit", code: null, signal: "SIGTERM" });
    this.emit(130, {
      type: "recovery",
      reason: "timeout",
      evidence: { heartbeatAge: 120 },
      delay: 0,
    });
    this.#instanceId++;
    this.emit(150, { type: "spawn", pid: 2 });
    await delivered();
    this.setStatus({});
    this.emit(520, { type: "start" });
    await delivered();
  }

  end(): void {
    this.#log.close();
  }
}

/** Waits until readers have received all events. */
const delivered = () => new Promise<void>((resolve) => setTimeout(resolve, 0));

test("Prometheus: restarts by reason, heartbeats by slack, durations and present values", async () => {
  const puppet = new Puppet();
  const metrics = prometheusMetrics({ web: puppet.supervisor });
  for (const left of [90, 60, 30, 1, -5]) puppet.slack.add(left);
  await puppet.hang();
  for (const signal of ["SIGKILL", null]) {
    puppet.emit(600, { type: "member", pid: 7, reason: "timeout", evidence: { signal } });
  }
  puppet.emit(900, { type: "stopping", signal: "SIGTERM" });
  puppet.emit(901, { type: "exit", code: 0, signal: null });
  puppet.emit(950, { type: "spawn", pid: 3 });
  puppet.emit(960, { type: "start" });
  puppet.emit(990, { type: "exit", code: 1, signal: null });
  puppet.emit(990, {
    type: "recovery",
    reason: "exit",
    evidence: { heartbeatAge: 9 },
    delay: null,
  });
  await delivered();
  const samples = parsePrometheus(metrics.text());
  const of = (name: string, labels = "") => samples.get(`${name}{program="web"${labels}}`);
  assertEquals(of("sam_restart_count_total", ',reason="timeout"'), 1);
  assertEquals(of("sam_restart_count_total", ',reason="requested"'), 1);
  assertEquals(of("sam_restart_count_total", ',reason="exit"'), undefined, "no restart followed");
  assertEquals(of("sam_instance_id"), 2);
  assertEquals(of("sam_program_state", ',state="started"'), 1);
  assertEquals(of("sam_program_state", ',state="backoff"'), 0);
  assertEquals(of("sam_heartbeat_count_total", ',slack="0.5"'), 2);
  assertEquals(of("sam_heartbeat_count_total", ',slack="late"'), 1);
  assertEquals(of("sam_heartbeat_slack_seconds"), -0.005);
  assertEquals(of("sam_heartbeat_age_seconds"), 0.02);
  assertEquals(of("sam_data_size_bytes"), 3);
  assertEquals([of("sam_member_active"), of("sam_member_killed_total")], [2, 1]);
  assertEquals(of("sam_detection_duration_seconds_sum"), 0.12);
  assertEquals(of("sam_detection_duration_seconds_bucket", ',le="0.1"'), 0);
  assertEquals(of("sam_detection_duration_seconds_bucket", ',le="0.25"'), 1);
  assertEquals(of("sam_recovery_duration_seconds_sum"), 0.4);
  assertEquals(of("sam_recovery_duration_seconds_count"), 1);
  puppet.slack.reset();
  assert(metrics.text().includes('slack="late"} 1\n'), "the counter decreased");
  puppet.end();
});

test("Prometheus: programs can be added and removed, names are escaped, wrong arguments are refused", async () => {
  const puppet = new Puppet();
  const metrics = prometheusMetrics();
  const name = 'a "b"\\\n';
  const remove = metrics.add(name, puppet.supervisor);
  await puppet.hang();
  assert(
    metrics.text().includes('sam_instance_id{program="a \\"b\\"\\\\\\n"} 2\n'),
    metrics.text(),
  );
  parsePrometheus(metrics.text());
  const code = (action: () => void) => (assertThrows(action) as SamError).code;
  assertEquals(code(() => metrics.add(name, puppet.supervisor)), "INVALID_PARAM");
  assertEquals(code(() => metrics.add("", puppet.supervisor)), "INVALID_PARAM");
  assertEquals(code(() => prometheusMetrics({ x: {} as Supervisor })), "INVALID_PARAM");
  remove();
  assertEquals(parsePrometheus(metrics.text()).size, 0);
  metrics.add(name, puppet.supervisor);
  assert(
    metrics.text().includes('sam_recovery_duration_seconds_count{program="a \\"b\\"\\\\\\n"} 0'),
  );
  puppet.end();
});

test("Prometheus: the table in docs/metrics.md has each metric with both names", () => {
  const rows = [...reference.matchAll(/^\| `([\w.]+)` +\| `(\w+)`/gm)].map((
    [, otel, own],
  ) => [otel, own]);
  const puppet = new Puppet();
  const text = prometheusMetrics({ web: puppet.supervisor }).text();
  const names = [...text.matchAll(/^# TYPE (\w+) /gm)].map(([, own]) => own);
  const all = [...instruments, ...durations].map(({ name }) => name);
  assertEquals(rows.map(([otel]) => otel).sort(), all.sort());
  assertEquals(rows.map(([, own]) => own).sort(), names.sort());
  puppet.end();
});

const skip = spawnSync("promtool", ["--version"]).status === 0
  ? false
  : "promtool is not installed (Debian: prometheus)";

/** Returns the output of promtool for a text: empty if promtool finds no problem. */
async function promtool(kind: string, text: string): Promise<string> {
  // promtool opens a file. A "pipe" of spawn() is a socket on Node, which cannot be opened, so cat reads it.
  const command = kind === "rules"
    ? "cat | promtool check rules /dev/stdin"
    : "promtool check metrics";
  const child = spawn("sh", ["-c", command], { stdio: ["pipe", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => output += text);
  }
  const code = new Promise((resolve) => child.on("close", resolve));
  child.stdin.end(text);
  return await code === 0 ? output : `exit ${await code}: ${output}`;
}

test("Prometheus: promtool finds no problem", async () => {
  const puppet = new Puppet();
  const metrics = prometheusMetrics({ web: puppet.supervisor });
  await puppet.hang();
  assertEquals(await promtool("metrics", metrics.text()), "");
  puppet.end();
}, { skip });

test(
  "Prometheus: the alerts in docs/how-to/monitoring.md are valid and use existing metrics",
  async () => {
    const [, rules] = /^```yaml\n(groups:[^]*?)^```$/m.exec(howTo)!;
    const expressions = [...rules!.matchAll(/^ +expr: (.*)$/gm)].map(([, expression]) =>
      expression!
    );
    const puppet = new Puppet();
    const text = prometheusMetrics({ web: puppet.supervisor }).text();
    for (const expression of expressions) {
      assert(text.includes(`# TYPE ${/sam_\w+/.exec(expression)![0]} `), expression);
    }
    const output = await promtool("rules", rules!);
    assertMatch(output, /SUCCESS: 3 rules found/);
    assertEquals(expressions.length, 3);
    puppet.end();
  },
  { skip },
);

/** A reader that collects on demand only. */
class Reader extends MetricReader {
  protected override onForceFlush(): Promise<void> {
    return Promise.resolve();
  }
  protected override onShutdown(): Promise<void> {
    return Promise.resolve();
  }
}

/** Returns the `# TYPE` line of a metric, by the specification "Prometheus and OpenMetrics Compatibility". */
function typeLine(metric: MetricData): string {
  const { name, unit } = metric.descriptor;
  const units = new Map([["s", "_seconds"], ["By", "_bytes"], ["1", "_ratio"]]);
  const suffix = /^\{.*\}$/.test(unit) ? "" : units.get(unit);
  const spelled = name.replaceAll(".", "_") + suffix;
  if (metric.dataPointType === DataPointType.HISTOGRAM) return `# TYPE ${spelled} histogram`;
  const isCounter = metric.dataPointType === DataPointType.SUM && metric.isMonotonic;
  return `# TYPE ${isCounter ? `${spelled}_total counter` : `${spelled} gauge`}`;
}

test("OpenTelemetry: the SDK collects the same values", async () => {
  const reader = new Reader({
    aggregationTemporalitySelector: () => AggregationTemporality.CUMULATIVE,
  });
  const provider = new MeterProvider({ readers: [reader] });
  const puppet = new Puppet();
  const programs = { web: puppet.supervisor };
  const measured = openTelemetryMetrics(provider.getMeter("@x/sam"), programs);
  const text = prometheusMetrics(programs);
  for (const left of [90, -5]) puppet.slack.add(left);
  await puppet.hang();
  const collect = async () => {
    const { resourceMetrics, errors } = await reader.collect();
    assertEquals(errors, []);
    return new Map(
      resourceMetrics.scopeMetrics.flatMap(({ metrics }) => metrics).map((metric) =>
        [metric.descriptor.name, metric] as const
      ),
    );
  };
  const metrics = await collect();
  const value = (name: string, attributes: Record<string, string> = {}) => {
    const { dataPoints } = metrics.get(name)!;
    const wanted = JSON.stringify({ program: "web", ...attributes });
    const points = dataPoints as { attributes: object; value: unknown }[];
    return points.find((point) => JSON.stringify(point.attributes) === wanted)?.value;
  };
  assertEquals(value("sam.restart.count", { reason: "timeout" }), 1);
  assertEquals(value("sam.instance.id"), 2);
  assertEquals(value("sam.program.state", { state: "started" }), 1);
  assertEquals(value("sam.heartbeat.count", { slack: "late" }), 1);
  assertEquals(value("sam.heartbeat.slack"), -0.005);
  const { sum, count } = value("sam.recovery.duration") as { sum?: number; count: number };
  assertEquals([sum, count], [0.4, 1]);
  assertEquals(metrics.get("sam.detection.duration")!.dataPointType, DataPointType.HISTOGRAM);
  assertEquals(metrics.get("sam.restart.count")!.dataPointType, DataPointType.SUM);
  assertEquals(metrics.get("sam.data.size")!.descriptor.unit, "By");
  const types = text.text().split("\n").filter((line) => line.startsWith("# TYPE "));
  assertEquals(types.sort(), [...metrics.values()].map(typeLine).sort());
  measured.close();
  puppet.setStatus({ dataSize: 9 });
  const closed = await collect();
  assertEquals(
    closed.get("sam.data.size")!.dataPoints[0]!.value,
    3,
    "the value changed after close()",
  );
  await provider.shutdown();
  puppet.end();
  const { code } = assertThrows(() => openTelemetryMetrics({} as never)) as SamError;
  assertEquals(code, "INVALID_PARAM");
});
