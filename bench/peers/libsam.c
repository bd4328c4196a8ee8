// Measures libsam in the same way as this library. It needs gcc and libsam-dev, but no running cluster.
//
//   gcc -O2 -o OUT libsam.c -lsam && OUT MODE ARGUMENTS
//
// The last line on standard output is a JSON array with one number per sample. `memory` writes an object, `version` a text. If a
// call of libsam fails, or a sample is missing, the program ends with a message on standard error and a non-zero exit code.
//
// There are three processes. The controller forks the SAM server before libsam is initialized, and collects the samples. The
// server starts the instances one after the other. Each process is killed when the one before it ends, so nothing is left
// behind.
#define _GNU_SOURCE
#include <corosync/sam.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define QUIT SAM_RECOVERY_POLICY_QUIT
#define RESTART SAM_RECOVERY_POLICY_RESTART

// Messages from the instance to the controller. Times are milliseconds of CLOCK_MONOTONIC.
enum kind { SAMPLE, SINCE, ENTERED, KILL_ME, FAILED };
struct message {
  double value;
  enum kind kind;
  pid_t pid;
};

static int report = -1; // the pipe to the controller
static pid_t server;    // the process that becomes the server in sam_register
static double entered;  // when sam_register returned
static double last_heartbeat;
static long interval;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

static void sleep_until(double ms) {
  struct timespec time = {ms / 1e3, 0};
  time.tv_nsec = (ms - time.tv_sec * 1e3) * 1e6;
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR);
}

// Sends a message. Safe in a signal handler.
static void tell(enum kind kind, double value) {
  struct message message = {value, kind, getpid()};
  if (report >= 0 && write(report, &message, sizeof message) != sizeof message) _exit(1);
}

// Tells the controller, because under the restart policy the server would only start the next instance.
static void fail(const char *what, int code) {
  fprintf(stderr, "libsam.c: %s: %d\n", what, code);
  tell(FAILED, 0);
  _exit(1);
}

static void must(cs_error_t result, const char *call) {
  if (result != CS_OK) fail(call, result);
}

static void tie_to(pid_t parent) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) fail("prctl", errno);
  if (getppid() != parent) _exit(1); // the parent had ended already
}

// Initializes and registers. Returns in the instance only.
static unsigned enter(long time_interval, sam_recovery_policy_t policy) {
  unsigned instance;
  interval = time_interval;
  server = getpid();
  must(sam_initialize(interval, policy), "sam_initialize");
  must(sam_register(&instance), "sam_register");
  entered = now();
  tie_to(server);
  return instance;
}

static void heartbeat(void) { must(sam_hc_send(), "sam_hc_send"); }

static void leave(void) {
  must(sam_stop(), "sam_stop");
  exit(0);
}

// heartbeat BATCH COUNT: the mean time of BATCH calls of sam_hc_send in a loop, in ns. The pipe is empty at the start.
// heartbeat-full BATCH COUNT: as `heartbeat`, but the pipe is full, so that each call waits for the server.
static void heartbeats(long *args, int full) {
  enter(60000, QUIT);
  must(sam_start(), "sam_start");
  if (full) for (int i = 0; i < 200000; i++) heartbeat(); // the pipe holds 65,536
  for (long sample = -1; sample < args[1]; sample++) { // the first one warms up
    // The server answers this only after it has read all heartbeats.
    if (!full) must(sam_data_store("", 1), "sam_data_store");
    double start = now();
    for (long i = 0; i < args[0]; i++) heartbeat();
    double ns = (now() - start) * 1e6 / args[0];
    if (sample >= 0) tell(SAMPLE, ns);
  }
}
static void heartbeats_empty(long *args) { heartbeats(args, 0); }
static void heartbeats_full(long *args) { heartbeats(args, 1); }

// Returns the CPU time of the server in nanoseconds.
static double server_cpu(int file) {
  char text[64];
  ssize_t length = pread(file, text, sizeof text - 1, 0);
  if (length <= 0) fail("schedstat", errno);
  text[length] = 0;
  return strtod(text, NULL);
}

static void measure_cpu(long rate, long seconds) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/schedstat", server);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) fail(path, errno);
  must(sam_start(), "sam_start");
  double start = now(), at = start, used = server_cpu(file);
  for (long second = 0; second < seconds; second++) {
    for (long i = 0; i < rate; i++) {
      sleep_until(start + second * 1e3 + i * 1e3 / rate);
      heartbeat();
    }
    sleep_until(start + (second + 1) * 1e3);
    double then = at, before = used;
    at = now();
    used = server_cpu(file);
    tell(SAMPLE, (used - before) / 1e3 / ((at - then) / 1e3));
  }
}

// cpu RATE SECONDS INTERVAL: the server's CPU time, in µs per second, for RATE heartbeats a second.
static void cpu(long *args) {
  enter(args[2], QUIT);
  measure_cpu(args[0], args[1]);
}

static int healthy(void) { return 0; }

// cpu-callback SECONDS INTERVAL: as `cpu`, but with the health check callback of libsam instead of heartbeats.
static void cpu_callback(long *args) {
  enter(args[1], QUIT);
  must(sam_hc_callback_register(healthy), "sam_hc_callback_register");
  measure_cpu(0, args[0]);
}

// Sends heartbeats for a time that differs between instances, then stops.
static void send_and_hang(void) {
  srand(getpid());
  double end = now() + 20 + rand() % 40, pause = interval < 20 ? interval / 4.0 : 5;
  while (now() < end) {
    heartbeat();
    sleep_until(now() + pause);
  }
  heartbeat();
  last_heartbeat = now();
}

static void warned(int number) {
  double at = now();
  (void)number;
  tell(SAMPLE, at - last_heartbeat - interval);
  _exit(0); // a failure, because the instance has called sam_start()
}

// hang INTERVAL COUNT: the lateness of the SIGTERM handler in ms. The time interval is counted from the return of the last
// sam_hc_send. The server reads that heartbeat at about the same time.
static void hang(long *args) {
  if (enter(args[0], RESTART) > args[1]) exit(0);
  must(sam_start(), "sam_start");
  signal(SIGTERM, SIG_IGN); // not before the last heartbeat
  send_and_hang();
  signal(SIGTERM, warned);
  for (;;) pause();
}

// hang-recovery INTERVAL COUNT: ms from the last heartbeat of an instance that ignores the warning until sam_register returns
// in the next one. This includes two time intervals.
static void hang_recovery(long *args) {
  if (enter(args[0], RESTART) > args[1]) {
    tell(ENTERED, entered);
    exit(0);
  }
  tell(ENTERED, entered);
  signal(SIGTERM, SIG_IGN);
  must(sam_start(), "sam_start");
  send_and_hang();
  tell(SINCE, last_heartbeat);
  for (;;) pause();
}

// crash COUNT RESIDENT_MIB: ms from SIGKILL until sam_register returns in the next instance. The server holds the memory too,
// because it forks itself, and the cost of a fork grows with the memory in use.
static void crash(long *args) {
  size_t size = (size_t)args[1] << 20;
  char *memory = malloc(size + 1);
  if (memory == NULL) fail("malloc", errno);
  memset(memory, 1, size + 1);
  unsigned instance = enter(60000, RESTART);
  if (memory[size] != 1) fail("memory", 0); // keeps it in use
  tell(ENTERED, entered);
  if (instance > args[0]) exit(0);
  must(sam_start(), "sam_start");
  tell(KILL_ME, 0);
  for (;;) pause();
}

// data SIZE COUNT: µs per sam_data_store of SIZE bytes. The call returns when the server has them.
static void data(long *args) {
  char *bytes = malloc(args[0]);
  if (bytes == NULL) fail("malloc", errno);
  enter(60000, QUIT);
  must(sam_start(), "sam_start");
  for (long sample = -1; sample < args[1]; sample++) { // the first one warms up
    memset(bytes, sample, args[0]);
    double start = now();
    must(sam_data_store(bytes, args[0]), "sam_data_store");
    double us = (now() - start) * 1e3;
    if (sample >= 0) tell(SAMPLE, us);
  }
}

// restore SIZE COUNT: µs per sam_data_restore of SIZE bytes. Calls of few bytes are too short to measure, so they are batched.
static void restore(long *args) {
  long batch = args[0] < 1 << 20 ? (1 << 20) / args[0] : 1;
  if (batch > 1000) batch = 1000;
  char *bytes = malloc(args[0]);
  if (bytes == NULL) fail("malloc", errno);
  memset(bytes, 1, args[0]);
  enter(60000, QUIT);
  must(sam_start(), "sam_start");
  must(sam_data_store(bytes, args[0]), "sam_data_store");
  for (long sample = -1; sample < args[1]; sample++) { // the first one warms up
    double start = now();
    for (long i = 0; i < batch; i++) must(sam_data_restore(bytes, args[0]), "sam_data_restore");
    double us = (now() - start) * 1e3 / batch;
    if (sample >= 0) tell(SAMPLE, us);
  }
}

// memory: the memory of the server. There is no controller, because it would share pages with the server.
static void memory(void) {
  char path[64], line[128];
  long rss = -1, pss = -1;
  enter(60000, QUIT);
  must(sam_start(), "sam_start");
  heartbeat();
  must(sam_data_store("", 1), "sam_data_store"); // the server has read the heartbeat
  snprintf(path, sizeof path, "/proc/%d/smaps_rollup", server);
  FILE *file = fopen(path, "r");
  if (file == NULL) fail(path, errno);
  while (fgets(line, sizeof line, file) != NULL) {
    sscanf(line, "Rss: %ld", &rss);
    sscanf(line, "Pss: %ld", &pss);
  }
  fclose(file);
  if (rss < 0 || pss < 0) fail(path, 0);
  printf("{\"rssKiB\":%ld,\"pssKiB\":%ld}\n", rss, pss);
  leave();
}

static const struct mode {
  const char *name;
  void (*run)(long *);
  int arguments; // the number of arguments
  int count;     // the index of the argument with the number of samples
  int least;     // the smallest allowed value of each argument
} modes[] = {
    {"heartbeat", heartbeats_empty, 2, 1, 1}, {"heartbeat-full", heartbeats_full, 2, 1, 1},
    {"cpu", cpu, 3, 1, 1},               {"cpu-callback", cpu_callback, 2, 0, 1},
    {"hang", hang, 2, 1, 1},             {"hang-recovery", hang_recovery, 2, 1, 1},
    {"crash", crash, 2, 0, 0},           {"data", data, 2, 1, 1},
    {"restore", restore, 2, 1, 1},
};

static int control(const struct mode *mode, long *args) {
  int ends[2], status = 0;
  long count = 0;
  double since = 0;
  struct message message;
  pid_t self = getpid();
  // The instance of a server that was killed becomes a child of this process, which waits for it.
  if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) fail("prctl", errno);
  if (pipe2(ends, O_CLOEXEC) != 0) fail("pipe2", errno);
  pid_t child = fork();
  if (child < 0) fail("fork", errno);
  if (child == 0) {
    report = ends[1];
    close(ends[0]);
    tie_to(self);
    mode->run(args);
    leave();
  }
  close(ends[1]);
  // All samples are printed at the end, so that a failure prints none.
  double *samples = malloc((args[mode->count] + 1) * sizeof *samples);
  if (samples == NULL) fail("malloc", errno);
  message.kind = SAMPLE;
  // After two minutes without a message, SIGALRM ends this process, and so all others.
  while (alarm(120), read(ends[0], &message, sizeof message) == sizeof message) {
    if (message.kind == FAILED) break;
    if (message.kind == ENTERED && since == 0) continue; // the first instance
    if (message.kind == ENTERED) message.value -= since;
    if (message.kind == ENTERED || message.kind == SAMPLE) {
      if (count == args[mode->count]) break;
      samples[count++] = message.value;
    }
    if (message.kind == SINCE) since = message.value;
    if (message.kind == KILL_ME) {
      // The server needs this time to read the start. A longer pause would let the CPU sleep deeply, and its wake-up would
      // double the figure.
      sleep_until(now() + 1);
      since = now();
      if (kill(message.pid, SIGKILL) != 0) fail("kill", errno);
    }
  }
  if (message.kind == FAILED || count != args[mode->count]) kill(child, SIGKILL);
  if (waitpid(child, &status, 0) != child) fail("waitpid", errno);
  while (waitpid(-1, NULL, 0) > 0);
  if (status != 0 || count != args[mode->count]) {
    fprintf(stderr, "libsam.c: %ld of %ld samples, wait status %d\n", count, args[mode->count], status);
    return 1;
  }
  for (long i = 0; i < count; i++) printf("%c%.7g", i == 0 ? '[' : ',', samples[i]);
  puts("]");
  return 0;
}

int main(int argc, char **argv) {
  const char *name = argc > 1 ? argv[1] : "";
  long args[3] = {0};
  tie_to(getppid());
  if (strcmp(name, "memory") == 0 && argc == 2) memory();
  if (strcmp(name, "version") == 0 && argc == 2) { // the library does not have its version
    execlp("dpkg-query", "dpkg-query", "-W", "-f", "${Version}\n", "libsam4", NULL);
    fail("dpkg-query", errno);
  }
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
    if (strcmp(name, modes[i].name) != 0 || argc != modes[i].arguments + 2) continue;
    int good = 1;
    for (int j = 0; j < modes[i].arguments; j++) {
      char *end;
      args[j] = strtol(argv[j + 2], &end, 10);
      if (*end != 0 || args[j] < modes[i].least) good = 0;
    }
    if (good && args[modes[i].count] > 0) return control(&modes[i], args);
  }
  fputs("usage: libsam MODE ARGUMENTS (see bench/peers/libsam.c)\n", stderr);
  return 2;
}
