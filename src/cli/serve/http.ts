/** `sam run --metrics HOST:PORT`: metrics, probes for Kubernetes, and the status page. */
import type { Fleet } from "../../supervisor/fleet.ts";
import { PrometheusText, prometheusType } from "../../metrics/prometheus_text.ts";
import { type HttpAnswer, type HttpRequest, type HttpServer, serveHttp } from "../host/http.ts";
import type { Clock, SystemFiles } from "../../runtime/runtime.ts";
import type { Address } from "../command_line/address.ts";
import { CommandError } from "../command_line/exit.ts";
import type { Journal } from "./journal.ts";
import { PageUpdates } from "./live.ts";
import { page, reportAt } from "./page.ts";
import { script, style } from "./page_files.ts";

const text = "text/plain; charset=utf-8";
const html = "text/html; charset=utf-8";

/**
 * The paths that answer under any host name, because Prometheus and Kubernetes may use any. They show no stack traces, notes or
 * output.
 */
const publicPaths = ["/metrics", "/livez", "/readyz"];

/** The HTTP endpoints. They answer with status 503 until `serve()` is called. */
export class Endpoints {
  readonly #server: HttpServer;
  #pages: ((path: string) => HttpAnswer | undefined) | null = null;
  /** The name of this machine. */
  #machine: string | undefined;

  private constructor(server: HttpServer) {
    this.#server = server;
  }

  /** Listens. Rejects with a `CommandError` if that fails. */
  static async open({ host, port }: Address): Promise<Endpoints> {
    let endpoints: Endpoints | undefined;
    try {
      const server = await serveHttp(host, port, (request) => endpoints!.#answer(request));
      return endpoints = new Endpoints(server);
    } catch (cause) {
      const { message, code } = cause as { message?: string; code?: string };
      throw new CommandError(
        "unavailable",
        code === "EADDRINUSE"
          ? `--metrics: cannot listen on ${host}:${port}: the port is in use by another process. ` +
            "Choose another port, or stop that process."
          : `--metrics: cannot listen on ${host}:${port}: ${message}`,
        { cause, code: "LIBRARY" },
      );
    }
  }

  /** The URL of the status page. */
  get url(): string {
    return this.#server.url;
  }

  /** Starts to answer with the state of the programs. */
  serve(runtime: Clock & SystemFiles, fleet: Fleet, journal: Journal): void {
    this.#machine = runtime.systemText("/proc/sys/kernel/hostname")?.trim().toLowerCase();
    const live = new PageUpdates(runtime, journal);
    const metrics = new PrometheusText();
    const removals = new Map<string, () => void>();
    const measure = (name: string) => {
      removals.set(name, metrics.meters.add(name, fleet.supervisor(name)));
    };
    fleet.names.forEach(measure);
    fleet.watchMembers((name, isMember) => {
      if (isMember) return measure(name);
      removals.get(name)?.();
      removals.delete(name);
      metrics.forget(name);
    });
    const pages: Readonly<Record<string, () => HttpAnswer>> = {
      "/metrics": () => ({ status: 200, type: prometheusType, body: metrics.text }),
      "/livez": () => ({ status: 200, type: text, body: "ok\n" }),
      "/readyz": () => readiness(fleet, journal),
      "/": () => ({ status: 200, type: html, body: page(journal.status, journal.entries) }),
      "/page.js": () => ({ status: 200, type: "text/javascript; charset=utf-8", body: script }),
      "/page.css": () => ({ status: 200, type: "text/css; charset=utf-8", body: style }),
      "/live": () => ({
        status: 200,
        type: "text/event-stream",
        body: (stream) => live.add(stream),
      }),
    };
    this.#pages = (path) => {
      if (Object.hasOwn(pages, path)) return pages[path]!();
      const body = reportAt(path, journal.status, journal.entries);
      return body === undefined ? undefined : { status: 200, type: text, body };
    };
  }

  #answer({ path, foreignName }: HttpRequest): HttpAnswer {
    if (this.#pages === null) return { status: 503, type: text, body: "starting\n" };
    if (foreignName !== undefined && foreignName !== this.#machine && !publicPaths.includes(path)) {
      const body =
        `sam does not accept the host name "${foreignName}". Use the IP address of this machine or ` +
        `localhost. If this name is yours, start sam with --metrics NAME:PORT.\n`;
      return { status: 421, type: text, body };
    }
    return this.#pages(path) ?? { status: 404, type: text, body: "not found\n" };
  }

  close(): void {
    this.#server.close();
  }
}

/** Answers with 200 if every program is ready, has finished or was stopped by name, else with 503. The body lists the programs. */
function readiness(fleet: Fleet, journal: Journal): HttpAnswer {
  const lines = journal.status.programs.map(({ name, state, waitsFor }) => {
    const word = fleet.isStopped(name) ? "stopped" : fleet.isReady(name) ? "ready" : "not ready";
    return `${word}: ${name} (${state}${waitsFor ? `, waits for ${waitsFor.join(", ")}` : ""})\n`;
  });
  return { status: fleet.allReady ? 200 : 503, type: text, body: lines.join("") };
}
