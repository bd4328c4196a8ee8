// libsam, the original, measured the way this library is. It needs gcc and libsam-dev, but no running cluster.
//
//   gcc -O2 -o OUT libsam.c -lsam && OUT MODE ARGUMENTS
//
// The last line on stdout is a JSON array of numbers, one per sample; `memory` writes an object, `version` a text.
// Anything that libsam refuses, and a sample that does not come, ends it with a message on stderr and a status
// other than 0.
//
// There are three processes: a controller, which forks the SAM server before libsam is initialised and collects the
// samples; the server; and the active process, of which the server makes one after the other. Each one dies with
// the one before it, however that ended, so nothing is left behind.
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

// What the active process tells the controller. Times are in milliseconds of CLOCK_MONOTONIC.
enum kind { SAMPLE, SINCE, ENTERED, KILL_ME, FAILED };
struct message {
  double value;
  enum kind kind;
  pid_t pid;
};

static int report = -1; // the pipe to the controller
static pid_t server;    // the process that sam_register makes the server
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

// Safe in a signal handler.
static void tell(enum kind kind, double value) {
  struct message message = {value, kind, getpid()};
  if (report >= 0 && write(report, &message, sizeof message) != sizeof message) _exit(1);
}

// The controller has to know: under the restart policy the server would only start the next instance.
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
  if (getppid() != parent) _exit(1); // it was gone before
}

// Returns in the active process only.
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

// heartbeat BATCH COUNT: the mean of BATCH sam_hc_send in a loop, in ns; the pipe is empty at first.
// heartbeat-full BATCH COUNT: the same when the server cannot keep up, so that the pipe is full and the call waits.
static void beats(long *args, int full) {
  enter(60000, QUIT);
  must(sam_start(), "sam_start");
  if (full) for (int i = 0; i < 200000; i++) heartbeat(); // the pipe holds 65,536
  for (long sample = -1; sample < args[1]; sample++) { // the first one warms up
    // Answered only when the server has read everything before it.
    if (!full) must(sam_data_store("", 1), "sam_data_store");
    double start = now();
    for (long i = 0; i < args[0]; i++) heartbeat();
    double ns = (now() - start) * 1e6 / args[0];
    if (sample >= 0) tell(SAMPLE, ns);
  }
}
static void beats_empty(long *args) { beats(args, 0); }
static void beats_full(long *args) { beats(args, 1); }

// Nanoseconds that the server has been on a CPU.
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

// cpu-callback SECONDS INTERVAL: the same for libsam's own way to ask for the health.
static void cpu_callback(long *args) {
  enter(args[1], QUIT);
  must(sam_hc_callback_register(healthy), "sam_hc_callback_register");
  measure_cpu(0, args[0]);
}

// Some heartbeats, and not the same time from one instance to the next; then none.
static void beat_and_hang(void) {
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
  _exit(0); // a failure, since it is started
}

// hang INTERVAL COUNT: by how many ms the SIGTERM handler runs late. It counts from the return of the last
// sam_hc_send: the server hears of it at about that time, a little sooner or later.
static void hang(long *args) {
  if (enter(args[0], RESTART) > args[1]) exit(0);
  must(sam_start(), "sam_start");
  signal(SIGTERM, SIG_IGN); // not before the last heartbeat
  beat_and_hang();
  signal(SIGTERM, warned);
  for (;;) pause();
}

// hang-recovery INTERVAL COUNT: ms from the last heartbeat of a process that does not heed the warning to the line
// after sam_register in the next. Two time intervals are part of it.
static void hang_recovery(long *args) {
  if (enter(args[0], RESTART) > args[1]) {
    tell(ENTERED, entered);
    exit(0);
  }
  tell(ENTERED, entered);
  signal(SIGTERM, SIG_IGN);
  must(sam_start(), "sam_start");
  beat_and_hang();
  tell(SINCE, last_heartbeat);
  for (;;) pause();
}

// crash COUNT RESIDENT_MIB: ms from SIGKILL to the line after sam_register in the next process. The server has the
// memory too: it forks, and what that costs grows with the memory in use.
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

// data SIZE COUNT: µs per sam_data_store of SIZE bytes, which returns when the server has them.
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

// restore SIZE COUNT: µs per sam_data_restore of SIZE bytes. It is too short to time one call of few bytes.
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

// memory: the server's. Without a controller, which would share pages with it, and make its share smaller.
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
  int arguments; // how many it takes
  int count;     // which of them says how many samples there will be
  int least;     // the smallest number that each of them may be
} modes[] = {
    {"heartbeat", beats_empty, 2, 1, 1}, {"heartbeat-full", beats_full, 2, 1, 1},
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
  // The active process of a server that was killed comes here, and is waited for.
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
  // Room for all: what is printed on the way would be there after a failure too.
  double *samples = malloc((args[mode->count] + 1) * sizeof *samples);
  if (samples == NULL) fail("malloc", errno);
  message.kind = SAMPLE;
  // No message for two minutes: SIGALRM ends this process, and with it the others.
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
      // Long enough for the server to have read the start, and short enough to keep the CPU from deep sleep: waking
      // it up would double the figure, and says nothing of libsam.
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
  if (strcmp(name, "version") == 0 && argc == 2) { // the library does not know it
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
  fputs("usage: libsam MODE ARGUMENTS, see the source\n", stderr);
  return 2;
}
