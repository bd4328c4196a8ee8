// A configuration of Corosync, for tests and the bench: one node, alone on the loopback of its network namespace.

/** The text of a corosync.conf whose daemon has its state and log in `directory`, and a watchdog without effect. */
export function aloneIn(directory: string): string {
  const section = (name: string, values: Readonly<Record<string, string | number>>) =>
    `${name} {\n${
      Object.entries(values).map(([key, value]) => `\t${key}: ${value}\n`).join("")
    }}\n`;
  return section("totem", {
    version: 2,
    cluster_name: "alone",
    transport: "udpu",
    crypto_cipher: "none",
    crypto_hash: "none",
    token: 1000,
  }) + `nodelist {\n${section("node", { name: "n1", nodeid: 1, ring0_addr: "127.0.0.1" })}}\n` +
    section("quorum", { provider: "corosync_votequorum", expected_votes: 1 }) +
    section("system", {
      state_dir: directory,
      sched_rr: "no",
      priority: 0,
      move_to_cgroup: "no",
    }) +
    section("logging", {
      to_stderr: "no",
      to_syslog: "no",
      to_logfile: "yes",
      logfile: `${directory}/log`,
    }) +
    // A file is no watchdog, so nothing happens when it is not fed. The log shows when it is not fed.
    section("resources", { watchdog_device: `${directory}/watchdog` });
}
