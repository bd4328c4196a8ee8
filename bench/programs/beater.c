// The smallest application there is, so that a thousand fit on one machine: it registers, starts, and sends ten heartbeats a
// second over the link it was given (docs/transports.md, src/core/frame.ts) until that link ends. Not a peer: the server is
// what is measured.
//
// With a path and a number as its arguments, it writes a byte to the socket there every so many milliseconds; with 0 it
// writes none, and ends when the socket does.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { period_ns = 100 * 1000 * 1000, nonce_bytes = 16, page_bytes = 4096 };

static void fail(const char *what) {
  perror(what);
  exit(1);
}

// A byte that is no heartbeat, the length, the frame.
static void send_frame(int link, const void *frame, uint32_t length) {
  unsigned char bytes[64] = {1};
  uint32_t big_endian = htonl(length);
  memcpy(bytes + 1, &big_endian, 4);
  memcpy(bytes + 5, frame, length);
  if (write(link, bytes, 5 + length) != (ssize_t)(5 + length)) fail("write");
}

static int connect_to(const char *path) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  strncpy(at.sun_path, path, sizeof at.sun_path - 1);
  int link = socket(AF_UNIX, SOCK_STREAM, 0);
  if (link < 0 || connect(link, (struct sockaddr *)&at, sizeof at) < 0) fail(path);
  return link;
}

// The page "p" lies beside the socket "s"; both names are gone once the nonce has been said.
static uint32_t *map_beside(const char *socket_path) {
  char path[128];
  snprintf(path, sizeof path, "%.*sp", (int)strlen(socket_path) - 1, socket_path);
  int file = open(path, O_RDWR);
  if (file < 0) fail(path);
  void *page = mmap(NULL, page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (page == MAP_FAILED) fail("mmap");
  close(file);
  return page;
}

static void say_nonce(int link, const char *hex) {
  unsigned char nonce[nonce_bytes];
  for (int at = 0; at < nonce_bytes; at++) sscanf(hex + 2 * at, "%2hhx", &nonce[at]);
  send_frame(link, nonce, nonce_bytes);
}

static void register_and_start(int link) {
  uint32_t pid = htonl(getpid());
  unsigned char hello[] = {0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}; // version 1, request 1, pid, no notice
  memcpy(hello + 6, &pid, 4);
  send_frame(link, hello, sizeof hello);
  const unsigned char start[] = {1, 0, 0, 0, 2}; // request 2
  send_frame(link, start, sizeof start);
}

// Reads, and forgets, what the server says; false when it is gone.
static int is_alive(int link) {
  char bytes[512];
  for (;;) {
    ssize_t count = recv(link, bytes, sizeof bytes, MSG_DONTWAIT);
    if (count == 0) return 0;
    if (count < 0) return errno == EAGAIN || errno == EINTR;
  }
}

static void step(struct timespec *time, long ns) {
  time->tv_nsec += ns;
  if (time->tv_nsec >= 1000000000) {
    time->tv_nsec -= 1000000000;
    time->tv_sec++;
  }
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, time, NULL);
}

static int write_bytes(const char *path, long ms) {
  int link = connect_to(path);
  char byte;
  if (ms == 0) return recv(link, &byte, 1, 0) < 0;
  struct timespec next;
  clock_gettime(CLOCK_MONOTONIC, &next);
  while (send(link, "", 1, MSG_NOSIGNAL) == 1) step(&next, ms * 1000 * 1000);
  return 0;
}

int main(int argc, char **argv) {
  if (argc > 2) return write_bytes(argv[1], atol(argv[2]));
  char *address = getenv("SAM_LINK");
  char *rest = address ? strchr(address, ':') : NULL;
  if (!rest) {
    fputs("this program is to be run by supervise()\n", stderr);
    return 1;
  }
  *rest++ = '\0';
  int link;
  uint32_t *page = NULL;
  if (strcmp(address, "pipe") == 0) {
    link = atoi(rest);
  } else {
    const char *path = rest + 2 * nonce_bytes;
    if (strcmp(address, "shm") == 0) page = map_beside(path);
    link = connect_to(path);
    say_nonce(link, rest);
  }
  register_and_start(link);

  // The process ids of many are a row, so each beats at another moment of the period.
  struct timespec next;
  clock_gettime(CLOCK_MONOTONIC, &next);
  next.tv_nsec = getpid() % 1000 * (period_ns / 1000);
  next.tv_sec += 1;
  while (is_alive(link)) {
    if (page) __atomic_fetch_add(page, 1, __ATOMIC_SEQ_CST);
    else if (send(link, "", 1, MSG_NOSIGNAL) < 0) break;
    step(&next, period_ns);
  }
  return 0;
}
