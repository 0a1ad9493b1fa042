/* One way to move bytes by a Unix socket, as plain as can be: what `xenlane bench` says is held
 * against `time` around this (tests/bench/lanes.sh --by-hand).
 *
 *   plain serve SOCKET
 *   plain to|from|echo SOCKET BYTES COUNT     COUNT messages of BYTES each, to the server, from it,
 *                                             or there and back one after the other
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct request {
  char what; /* the first letter of the word */
  uint64_t bytes;
  uint64_t count;
};

enum { message_bytes_max = 1 << 20, read_bytes = 1 << 16 };
/* Aligned, as large buffers are that programs allocate: copies are slower otherwise. */
_Alignas(4096) static char message[message_bytes_max];

static void die(const char* what) {
  fprintf(stderr, "plain: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void put(int fd, const void* from, size_t bytes) {
  for (const char* at = from; bytes > 0;) {
    const ssize_t done = write(fd, at, bytes);
    if (done <= 0) die("write");
    at += done;
    bytes -= (size_t)done;
  }
}

static void get(int fd, void* to, size_t bytes) {
  for (char* at = to; bytes > 0;) {
    const ssize_t done = read(fd, at, bytes);
    if (done <= 0) die("read");
    at += done;
    bytes -= (size_t)done;
  }
}

/* As cat would. */
static void discard(int fd, uint64_t bytes) {
  while (bytes > 0) {
    const ssize_t done = read(fd, message, bytes < read_bytes ? bytes : read_bytes);
    if (done <= 0) die("read");
    bytes -= (uint64_t)done;
  }
}

static void send_all(int fd, const struct request* request) {
  for (uint64_t i = 0; i < request->count; ++i) put(fd, message, request->bytes);
}

static int open_socket(const char* path, struct sockaddr_un* name) {
  name->sun_family = AF_UNIX;
  if (strlen(path) >= sizeof name->sun_path) die(path);
  strcpy(name->sun_path, path);
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0) die("socket");
  return fd;
}

/* Nothing that packs. */
static void fill_message(uint64_t bytes) {
  if (bytes > sizeof message) die("BYTES");
  for (uint64_t i = 0; i < bytes; ++i) message[i] = (char)rand();
}

static void answer(int fd) {
  struct request request;
  get(fd, &request, sizeof request);
  fill_message(request.bytes);
  if (request.what == 't') discard(fd, request.bytes * request.count);
  if (request.what == 'f') send_all(fd, &request);
  for (uint64_t i = 0; request.what == 'e' && i < request.count; ++i) {
    get(fd, message, request.bytes);
    put(fd, message, request.bytes);
  }
  put(fd, "", 1); /* all of it has come */
}

static void serve(const char* path) {
  struct sockaddr_un name = {0};
  const int listener = open_socket(path, &name);
  if (bind(listener, (struct sockaddr*)&name, sizeof name) != 0 || listen(listener, 8) != 0) {
    die(path);
  }
  signal(SIGCHLD, SIG_IGN);
  for (;;) {
    const int fd = accept(listener, NULL, NULL);
    if (fd < 0) die("accept");
    if (fork() == 0) {
      answer(fd);
      exit(0);
    }
    close(fd);
  }
}

int main(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], "serve") == 0) serve(argv[2]);
  if (argc != 5) {
    fprintf(stderr, "plain serve SOCKET\nplain to|from|echo SOCKET BYTES COUNT\n");
    return 2;
  }
  struct request request = {argv[1][0], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10)};
  fill_message(request.bytes);
  struct sockaddr_un name = {0};
  const int fd = open_socket(argv[2], &name);
  if (connect(fd, (struct sockaddr*)&name, sizeof name) != 0) die(argv[2]);
  put(fd, &request, sizeof request);
  if (request.what == 't') send_all(fd, &request);
  if (request.what == 'f') discard(fd, request.bytes * request.count);
  for (uint64_t i = 0; request.what == 'e' && i < request.count; ++i) {
    put(fd, message, request.bytes);
    get(fd, message, request.bytes);
  }
  get(fd, message, 1);
  return 0;
}
