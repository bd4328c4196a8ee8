const time = performance.timeOrigin + performance.now();

// The program that bench/peers/pm2.mjs has PM2 run: tells the socket in its first argument when it came to its first
// line, and stays. PM2's daemon outlives everything: if the one who measures has gone without ending it, the program
// does so.
const { rmSync } = await import("node:fs");
const { connect } = await import("node:net");

const daemon = process.ppid;
const connection = connect(process.argv[2], () => {
  connection.write(JSON.stringify({ pid: process.pid, time }));
});
connection.on("error", () => {}); // 'close' follows
connection.on("close", () => {
  if (process.ppid === daemon && daemon > 1) process.kill(daemon, "SIGKILL");
  rmSync(process.env.PM2_HOME, { recursive: true, force: true });
  process.exit();
});
connection.resume();
