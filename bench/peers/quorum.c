// For the figure of quorum: changes the votes of a Corosync node, and runs libsam on it. Both modes write one JSON object per
// line. Times are milliseconds since 1970.
//
//   gcc -O2 -o OUT quorum.c -lcmap -lquorum -lsam
//   OUT votes     sets the expected votes to the number on each line of standard input, which changes the quorum. Writes `set`
//                 with two times: `at` before the call, and `notified` when Corosync called this program back.
//   OUT libsam    in a loop: waits for quorum, writes `running`, waits for the warning, writes `warned`
#define _GNU_SOURCE
#include <corosync/cmap.h>
#include <corosync/quorum.h>
#include <corosync/sam.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

static void must(int result, const char *call) {
  if (result == CS_OK) return;
  fprintf(stderr, "quorum.c: %s: %d\n", call, result);
  exit(1);
}

static uint32_t quorate;
static double notified;

static void changed(quorum_handle_t handle, uint32_t is, uint64_t ring, uint32_t count, uint32_t *members) {
  (void)handle, (void)ring, (void)count, (void)members;
  quorate = is;
  notified = now();
}

static void votes(void) {
  quorum_callbacks_t callbacks = {changed};
  quorum_handle_t quorum;
  cmap_handle_t map;
  uint32_t type, expected;
  must(cmap_initialize(&map), "cmap_initialize");
  must(quorum_initialize(&quorum, &callbacks, &type), "quorum_initialize");
  must(quorum_trackstart(quorum, CS_TRACK_CURRENT | CS_TRACK_CHANGES), "quorum_trackstart");
  while (notified == 0) must(quorum_dispatch(quorum, CS_DISPATCH_ONE), "quorum_dispatch");
  puts("{\"event\":\"ready\"}");
  while (scanf("%u", &expected) == 1) {
    uint32_t before = quorate;
    double at = now();
    must(cmap_set_uint32(map, "quorum.expected_votes", expected), "cmap_set_uint32");
    while (quorate == before) must(quorum_dispatch(quorum, CS_DISPATCH_ONE), "quorum_dispatch");
    printf("{\"event\":\"set\",\"at\":%.4f,\"notified\":%.4f}\n", at, notified);
  }
}

static void watched(void) {
  sigset_t warning;
  unsigned instance;
  int number;
  must(sam_initialize(0, SAM_RECOVERY_POLICY_RESTART | SAM_RECOVERY_POLICY_QUORUM), "sam_initialize");
  must(sam_register(&instance), "sam_register");
  prctl(PR_SET_PDEATHSIG, SIGKILL); // it ends when its server ends, even by SIGKILL
  sigemptyset(&warning);
  sigaddset(&warning, SIGTERM);
  sigprocmask(SIG_BLOCK, &warning, NULL);
  must(sam_start(), "sam_start");
  puts("{\"event\":\"running\"}");
  sigwait(&warning, &number);
  printf("{\"event\":\"warned\",\"at\":%.4f}\n", now());
  exit(0); // a failure, because the program has called sam_start()
}

int main(int count, char **words) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (count == 2 && strcmp(words[1], "votes") == 0) votes();
  else if (count == 2 && strcmp(words[1], "libsam") == 0) watched();
  else return 2;
  return 0;
}
