// The names of figures, cases and peers. They stand in docs/performance/figures.json and in the tables, and connect a row
// with its targets and charts.

/** Names of figures. */
export const figure = {
  heartbeat: "heartbeat()",
  allocated: "memory allocated by one heartbeat()",
  wakeUps: "server wake-ups caused by one second of heartbeats",
  cpu: "server CPU time at 1,000 heartbeats per second",
  hang: "hang → warning, beyond the time interval of 100 ms",
  crashWithSpare: "crash → register(), with a spare",
  crash: "crash → register(), without a spare",
  hangRecoveryWithSpare: "hang → register(), with a spare",
  hangRecovery: "hang → register(), without a spare",
  spareGain: "crash → register(), with a spare and without",
  data: "data.store()",
  startUp: "start-up",
  manyCpu: "server CPU time for many programs, 10 heartbeats per second each",
  cpuPerProgram: "server CPU time per program",
  memoryPerProgram: "server memory per further program",
  memory: "server memory with one program",
  quorum: "quorum lost → warning",
} as const;

/** Names of the figures about continuity, by the kind of the clients. */
export const continuity = {
  failed: {
    new: "failed requests on new connections",
    kept: "failed requests of 16 keep-alive clients",
  },
  wait: {
    new: "longest wait on a new connection",
    kept: "longest wait of 16 keep-alive clients",
  },
} as const;

/** Names of peers. A name with "bare runtime" is a floor. */
export const peer = {
  hcSend: "sam_hc_send()",
  dataStore: "sam_data_store()",
  libsam: "libsam",
  libsamServer: "libsam's server",
  nodeCluster: "node:cluster",
  pm2: "PM2",
  clock: "bare runtime, performance.now()",
  oneObject: "a function that allocates one object",
  bareReads: "bare runtime, reads 1 byte per ms",
  bareTimer: "bare runtime, timer",
  bareExit: "bare runtime, SIGKILL → exit event",
  bareSpawn: "bare runtime, spawn → first line",
  bareFork: "bare runtime, fork() → first line",
  withoutSpare: "without a spare",
  bareWrite: "bare runtime, one write to a file",
  bareMessage: "two bare runtimes, one message and its answer",
  bareParts: "two bare runtimes, in parts of 60 KiB",
  barePartsNodeNet: "two bare runtimes, in parts of 60 KiB, node:net",
  bare: "bare runtime",
  bareConnects: "bare runtime, connects and gets an answer",
  bareImports: "bare runtime, imports @x/sam",
  bareImportsNet: "bare runtime, imports node:net",
  bareManyReads: "bare runtime, the same number of reads",
  perProgramAt10: "per program, with 10 programs",
  bareChild: "bare runtime, per child and socket",
  bareParent: "bare runtime with one child and one socket",
  privateMemory: "private memory of this server",
  barePrivate: "private memory of the bare runtime",
  corosync: "C program notified by Corosync",
  withoutListen: "@x/sam without listen",
  pm2Workers: "PM2, 2 workers",
  clusterWorkers: "node:cluster, 2 workers",
  socketActivated: "systemd-socket-activate and a shell loop",
  shellLoop: "bare runtime in a shell loop",
  boot: "bare runtime, spawn → first answer",
  requests: "requests, answered or not",
  refused: "of the failed: refused",
  races: "not counted: races with the close of an idle connection",
  accepted: "connections of the failed instance",
  beyond: "failed, beyond the connections of the failed instance",
} as const;

/** The name of the floor for a server that looks for heartbeats every `ms` milliseconds. */
export function timerEvery(ms: number): string {
  return `bare runtime, empty timer every ${ms} ms`;
}

/** The name of this library's own figure after `count` more calls. */
export function afterStores(count: number): string {
  return `@x/sam, after ${count} stores`;
}

/** True if a peer is a bare runtime. */
export function isBare(name: string): boolean {
  return name.includes("bare runtime");
}

/** The runtimes, by the names that they have in rows, as the tables show them. */
export const runtimeNames: Readonly<Record<string, string>> = {
  node26: "Node",
  deno: "Deno",
  bun: "Bun",
};
