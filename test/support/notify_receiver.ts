// systemd's side of its notification protocol, with the sender of each message. Written in Python, because no runtime
// receives datagrams.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { eventually } from "./processes.ts";

const program = `
import array, json, os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
s.bind(sys.argv[1])
print(json.dumps({"pid": 0, "lines": ["listens"]}), flush=True)
while True:
    data, ancillary, _, _ = s.recvmsg(4096, 256)
    pid = 0
    for _, kind, content in ancillary:
        if kind == socket.SCM_CREDENTIALS:
            pid = array.array("i", content[:4])[0]
        if kind == socket.SCM_RIGHTS:
            for descriptor in array.array("i", content):
                os.close(descriptor)
    print(json.dumps({"pid": pid, "lines": data.decode().split("\\n")}), flush=True)
`;

/** False if the receiver can run here, else the reason why not. */
export const noReceiver: string | false = spawnSync("python3", ["--version"]).status === 0
  ? false
  : "python3, which receives datagrams for this test, is not installed";

/** One line of a message, and the pid of its sender. */
export interface Notice {
  readonly pid: number;
  readonly line: string;
}

/** A receiver that listens at a path. */
export class NotifyReceiver {
  readonly notices: Notice[] = [];
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;

  private constructor(path: string) {
    this.#child = spawn("python3", ["-c", program, path], { stdio: ["ignore", "pipe", "inherit"] });
    this.#ended = new Promise((resolve) => this.#child.on("close", resolve));
    let rest = "";
    this.#child.stdout!.setEncoding("utf8").on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop()!;
      for (const each of lines) {
        const { pid, lines } = JSON.parse(each) as { pid: number; lines: string[] };
        this.notices.push(...lines.map((line) => ({ pid, line })));
      }
    });
  }

  static async listen(path: string): Promise<NotifyReceiver> {
    const receiver = new NotifyReceiver(path);
    await receiver.notice(/^listens$/);
    return receiver;
  }

  /** Waits for the `nth` line that matches a pattern. */
  notice(pattern: RegExp, nth = 1): Promise<Notice> {
    return eventually(
      `${pattern}, number ${nth}, among ${JSON.stringify(this.notices)}`,
      () => this.notices.filter(({ line }) => pattern.test(line))[nth - 1],
    );
  }

  /** All lines so far, without watchdog messages. */
  get lines(): readonly string[] {
    return this.notices.map(({ line }) => line).filter((line) =>
      !/^(listens|WATCHDOG=1)$/.test(line)
    );
  }

  async close(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
  }
}
