// Runs command lines as a reader of the docs types them, and finds the programs that they start.

import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { run } from "./setup.mjs";

const limitMs = 120_000;

export function must(what, message) {
  if (!what) throw new Error(message);
}

/** Runs a command, which must end with exit status 0. Resolves to its output. */
export async function good(command, args, options) {
  const { code, output } = await run(command, args, options);
  must(code === 0, `${command} ${args.join(" ")} ended with ${code}:\n${output}`);
  return output;
}

/** A command line that was given to a shell, perhaps in a pseudo-terminal, which script(1) makes. */
class Running {
  /** The output so far, of both streams. */
  output = "";
  /** The standard error output so far. */
  errors = "";
  #line;
  #child;
  #exited;
  #inTerminal;

  constructor(line, { cwd, env, inTerminal = false }) {
    this.#line = line;
    this.#inTerminal = inTerminal;
    const [file, words] = inTerminal
      ? ["script", ["-qec", `stty -echo; ${line}`, "/dev/null"]]
      : ["sh", ["-c", line]];
    this.#child = spawn(file, words, {
      cwd,
      env: inTerminal ? { ...env, SHELL: "/bin/sh", TERM: "xterm" } : env,
      detached: true,
      stdio: [inTerminal ? "pipe" : "ignore", "pipe", "pipe"],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => this.output += text);
    }
    this.#child.stderr.on("data", (text) => this.errors += text);
    this.#exited = new Promise((resolve) =>
      this.#child.on("close", (code, signal) => resolve(code ?? signal))
    );
  }

  /** Calls `ask` until it gives an answer, while the command runs. Resolves to the first answer. */
  async until(what, ask) {
    for (const end = Date.now() + limitMs;; await sleep(50)) {
      const answer = await ask();
      if (answer) return answer;
      const ended = this.#child.exitCode ?? this.#child.signalCode;
      must(ended === null, `"${this.#line}" ended with ${ended}, no ${what}:\n${this.output}`);
      must(Date.now() < end, `"${this.#line}": no ${what}:\n${this.output}`);
    }
  }

  said(pattern) {
    return this.until(String(pattern), () => pattern.exec(this.output));
  }

  /** The events that `sam run --json` has printed so far. */
  get events() {
    const text = this.#inTerminal ? this.output.replaceAll("\r\n", "\n") : this.errors;
    return text.split("\n").slice(0, -1).filter((line) => line.startsWith('{"'))
      .map((line) => JSON.parse(line));
  }

  /** The pid of the watched process: the innermost one whose command line contains `text`. */
  async activeProcess(text) {
    const { output } = await run("ps", ["-eo", "pid=,ppid=,args="]);
    const rows = output.split("\n").map((row) => /(\d+) +(\d+) (.*)/.exec(row)?.slice(1) ?? []);
    const family = new Set([String(this.#child.pid)]);
    for (let size = 0; size < family.size;) {
      size = family.size;
      for (const [pid, parent] of rows) if (family.has(parent)) family.add(pid);
    }
    const named = rows.filter(([pid, , args]) => family.has(pid) && args.includes(text));
    const [pid] = named.find(([pid]) => !named.some(([, parent]) => parent === pid));
    return Number(pid);
  }

  #signal(signal) {
    try {
      process.kill(-this.#child.pid, signal);
    } catch { /* it has ended */ }
  }

  /** Waits for the end of the command, and resolves to its exit status. */
  async ended(limit = limitMs) {
    const late = setTimeout(() => this.kill(), limit);
    const status = await this.#exited;
    clearTimeout(late);
    return status;
  }

  /** Presses Ctrl-C in the terminal. */
  async interrupt() {
    this.#signal("SIGINT");
    const status = await this.ended();
    must(
      [0, 130, 143, "SIGINT"].includes(status),
      `"${this.#line}" ended with ${status}:\n${this.output}`,
    );
  }

  /** Presses keys in the pseudo-terminal. */
  keys(text) {
    this.#child.stdin.write(text);
  }

  /** Sends SIGTERM to the command alone. The line must begin with `exec`. */
  terminate() {
    this.#child.kill("SIGTERM");
  }

  kill() {
    this.#signal("SIGKILL");
  }
}

/** A shell with an environment. */
export class Shell {
  #env;

  constructor(env) {
    this.#env = env;
  }

  /** Runs a line that must end with exit status 0. Resolves to its output. */
  async done(line, cwd, limit = limitMs) {
    const running = new Running(line, { cwd, env: this.#env });
    const status = await running.ended(limit);
    must(status === 0, `"${line}" ended with ${status}:\n${running.output}`);
    return running.output;
  }

  /** Runs a line that must end with another exit status than 0. */
  async fails(line, cwd) {
    const running = new Running(line, { cwd, env: this.#env });
    const status = await running.ended();
    must(status !== 0, `"${line}" succeeded:\n${running.output}`);
  }

  /** Runs a line until Ctrl-C, and calls `action` meanwhile. */
  during(line, cwd, action) {
    return this.running(line, cwd, async (running) => {
      await action(running);
      await running.interrupt();
    });
  }

  /** Runs a line, calls `action` meanwhile, and kills the rest of it afterwards. Resolves to its output. */
  async running(line, cwd, action, options = {}) {
    const running = new Running(line, { ...options, cwd, env: this.#env });
    try {
      await action(running);
    } finally {
      running.kill();
      await running.ended();
    }
    return running.output;
  }

  /** Runs the README's program: its first instance is killed, and the second one works. */
  heals(line, cwd) {
    return this.during(line, cwd, async (running) => {
      await running.said(/instance 1 works/);
      process.kill(await running.activeProcess("app."), "SIGKILL");
      await running.said(/instance 2 works/);
    });
  }
}
