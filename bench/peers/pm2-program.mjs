const time = performance.timeOrigin + performance.now();

// The program that PM2 runs for bench/peers/pm2.mjs. It sends the time of its first line to the socket in its first argument and
// keeps running. PM2's daemon would outlive the benchmark: if the connection ends, the program kills the daemon.
const { rmSync } = await import("node:fs");
const { connect } = await import("node:net");

const daemon = process.ppid;
const connection = connect(process.argv[2], () => {
  connection.write(JSON.stringify({ pid: process.pid, time }));
});
connection.on("error", () => {}); // the 'close' event follows
connection.on("close", () => {
  if (process.ppid === daemon && daemon > 1) process.kill(daemon, "SIGKILL");
  rmSync(process.env.PM2_HOME, { recursive: true, force: true });
  process.exit();
});
connection.resume();
