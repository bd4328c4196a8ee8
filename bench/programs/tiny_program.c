// A program that is so small that a thousand of them fit on one machine. It registers and starts over the link of SAM_LINK
// (docs/transports.md, src/core/wire.ts). Then it passes the link to the sender, one process that sends the heartbeats of all
// programs, ten per second each, and sleeps until the link ends. It is no peer: the figures are those of the server.
//
//   tiny_program PATH         the program; PATH is the socket of the sender
//   tiny_program PATH sender  the sender
//   tiny_program PATH MS      writes a byte to the socket at PATH every MS milliseconds. With 0 it writes nothing. It ends when
//                             the connection ends.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { nonce_bytes = 16, page_bytes = 4096, slots = 100, slot_ns = 1000 * 1000, most_links = 4096 };

static void fail(const char *what) {
  perror(what);
  exit(1);
}

// Sends a byte that marks a frame, its length, and the frame.
static void send_frame(int link, const void *frame, uint32_t length) {
  unsigned char bytes[64] = {1};
  uint32_t big_endian = htonl(length);
  memcpy(bytes + 1, &big_endian, 4);
  memcpy(bytes + 5, frame, length);
  if (write(link, bytes, 5 + length) != (ssize_t)(5 + length)) fail("write");
}

static struct sockaddr_un name_of(const char *path) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  strncpy(at.sun_path, path, sizeof at.sun_path - 1);
  return at;
}

static int connect_to(const char *path) {
  struct sockaddr_un at = name_of(path);
  int link = socket(AF_UNIX, SOCK_STREAM, 0);
  if (link < 0 || connect(link, (struct sockaddr *)&at, sizeof at) < 0) fail(path);
  return link;
}

// Opens the page "p" beside the socket "s". The server removes both names after it has received the nonce.
static int open_beside(const char *socket_path) {
  char path[128];
  snprintf(path, sizeof path, "%.*sp", (int)strlen(socket_path) - 1, socket_path);
  int file = open(path, O_RDWR);
  if (file < 0) fail(path);
  return file;
}

static void send_nonce(int link, const char *hex) {
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

// Sends or receives one message with a file descriptor: 'p' for a page, 's' for a socket.
static ssize_t pass(int by, char kind, int *descriptor, int sends) {
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control = {0};
  struct iovec text = {&kind, 1};
  struct msghdr message = {.msg_iov = &text, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  if (sends) {
    control.header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), descriptor, sizeof(int));
    return sendmsg(by, &message, 0);
  }
  ssize_t count = recvmsg(by, &message, MSG_DONTWAIT);
  if (count == 1) {
    memcpy(descriptor, CMSG_DATA(&control.header), sizeof(int));
    return kind;
  }
  return count;
}

static void hand_over(const char *sender, char kind, int descriptor) {
  struct sockaddr_un at = name_of(sender);
  int by = socket(AF_UNIX, SOCK_DGRAM, 0);
  if (by < 0 || connect(by, (struct sockaddr *)&at, sizeof at) < 0) fail(sender);
  if (pass(by, kind, &descriptor, 1) != 1) fail("sendmsg");
  close(by);
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

// Sends ten heartbeats per second over each link, evenly spread over the second.
static int sender(const char *path) {
  static struct { char kind; int socket; uint32_t *page; } links[most_links];
  int count = 0;
  struct sockaddr_un at = name_of(path);
  int from = socket(AF_UNIX, SOCK_DGRAM, 0);
  if (from < 0 || bind(from, (struct sockaddr *)&at, sizeof at) < 0) fail(path);
  puts("{\"event\":\"ready\"}");
  fflush(stdout);
  struct timespec next;
  clock_gettime(CLOCK_MONOTONIC, &next);
  for (int slot = 0;; slot = (slot + 1) % slots) {
    int given = -1;
    ssize_t kind;
    while ((kind = pass(from, 0, &given, 0)) > 0) {
      if (count == most_links) return 1;
      links[count].kind = kind;
      links[count].socket = given;
      if (kind == 'p') {
        links[count].page = mmap(NULL, page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, given, 0);
        if (links[count].page == MAP_FAILED) fail("mmap");
        close(given);
      }
      count++;
    }
    for (int nth = slot; nth < count; nth += slots) {
      if (links[nth].kind == 'p') __atomic_fetch_add(links[nth].page, 1, __ATOMIC_SEQ_CST);
      else send(links[nth].socket, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    step(&next, slot_ns);
  }
}

int main(int argc, char **argv) {
  if (argc > 2) return strcmp(argv[2], "sender") == 0 ? sender(argv[1]) : write_bytes(argv[1], atol(argv[2]));
  char *address = getenv("SAM_LINK");
  char *rest = address ? strchr(address, ':') : NULL;
  if (!rest || argc != 2) {
    fputs("run this program by supervise(), with the path of a sender\n", stderr);
    return 1;
  }
  *rest++ = '\0';
  int link;
  int page = -1;
  if (strcmp(address, "pipe") == 0) {
    link = atoi(rest);
  } else {
    const char *path = rest + 2 * nonce_bytes;
    if (strcmp(address, "shm") == 0) page = open_beside(path);
    link = connect_to(path);
    send_nonce(link, rest);
  }
  register_and_start(link);
  if (page >= 0) hand_over(argv[1], 'p', page);
  else hand_over(argv[1], 's', link);
  struct pollfd end = {.fd = link, .events = 0};
  while (poll(&end, 1, -1) < 0) {}
  return 0;
}
