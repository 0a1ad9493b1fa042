// What the simulated processes ask of their kernel and C++ runtime, answered from the environment:
// these definitions come before the C library's when this program is linked and loaded, so the
// product's code is the product's, without a hook for tests in it.
//
// Real are the Unix sockets and epoll: in one thread they do the same at the same calls. Outside of
// a simulation, and for what the simulator itself does, everything is passed on.
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <new>

#include "tests/sim/environment.hpp"
#include "tests/support/real_call.hpp"

namespace {

using xenlane::sim::Environment;
using xenlane::sim::environment;
using xenlane::sim::Fault;
using xenlane::tests::real_call;

/// The environment while a simulated process runs, else null.
Environment* of_process() {
  Environment* current = environment();
  return current != nullptr && current->running != nullptr ? current : nullptr;
}

/// The same message with at most `bytes` bytes of room or content.
struct Shortened {
  Shortened(const msghdr& original, std::size_t bytes) : message(original) {
    const std::size_t count = std::min<std::size_t>(original.msg_iovlen, 2);
    for (std::size_t i = 0; i < count; ++i) {
      parts[i] = original.msg_iov[i];
      parts[i].iov_len = std::min(parts[i].iov_len, bytes);
      bytes -= parts[i].iov_len;
    }
    message.msg_iov = parts;
    message.msg_iovlen = count;
  }
  iovec parts[2]{};
  msghdr message;
};

int fail_with(int error) {
  if (Environment* current = of_process()) {
    current->note("fails", static_cast<std::uint64_t>(error));
  }
  errno = error;
  return -1;
}

/// Into the trace, with the error where there is one, which stays as it is.
ssize_t noted(Environment* current, const char* what, int socket, ssize_t result) {
  if (current == nullptr) return result;
  const int error = errno;
  const auto shown = result < 0 ? -static_cast<std::int64_t>(error) : result;
  current->note(what, static_cast<std::uint64_t>(socket), static_cast<std::uint64_t>(shown));
  errno = error;
  return result;
}

// A failure that a write may meet, or zero.
int write_error(Environment& current) {
  if (current.strikes(Fault::write_would_block)) return EAGAIN;
  if (current.strikes(Fault::write_no_buffers)) return ENOBUFS;
  return current.strikes(Fault::interrupted) ? EINTR : 0;
}

}  // namespace

// For the libraries too.
#pragma GCC visibility push(default)

extern "C" {

int clock_gettime(clockid_t clock, timespec* out) noexcept {
  const Environment* current = environment();
  if (current == nullptr || clock != CLOCK_MONOTONIC) {
    return static_cast<int>(::syscall(SYS_clock_gettime, clock, out));
  }
  out->tv_sec = static_cast<time_t>(current->now_ns() / 1'000'000'000);
  out->tv_nsec = static_cast<long>(current->now_ns() % 1'000'000'000);
  return 0;
}

// Asio's reactor then looks at its timers by the clock above at every turn.
int timerfd_create(int, int) noexcept {
  return fail_with(ENOSYS);
}

int sched_yield() noexcept {
  if (Environment* current = of_process()) current->advance(500);
  return 0;
}

ssize_t getrandom(void* buffer, std::size_t size, unsigned flags) {
  Environment* current = environment();
  if (current == nullptr) return ::syscall(SYS_getrandom, buffer, size, flags);
  for (std::size_t i = 0; i < size; ++i) {
    static_cast<unsigned char*>(buffer)[i] = static_cast<unsigned char>(current->random());
  }
  return static_cast<ssize_t>(size);
}

int socket(int domain, int type, int protocol) noexcept {
  static const auto call = real_call<int (*)(int, int, int)>("socket");
  Environment* current = of_process();
  if (current != nullptr && current->strikes(Fault::socket_out_of_files)) return fail_with(EMFILE);
  return call(domain, type, protocol);
}

int connect(int socket, const sockaddr* address, socklen_t size) {
  static const auto call = real_call<int (*)(int, const sockaddr*, socklen_t)>("connect");
  Environment* current = of_process();
  if (current != nullptr && current->strikes(Fault::connect_again)) return fail_with(EAGAIN);
  return call(socket, address, size);
}

int accept4(int socket, sockaddr* address, socklen_t* size, int flags) {
  static const auto call = real_call<int (*)(int, sockaddr*, socklen_t*, int)>("accept4");
  Environment* current = of_process();
  if (current != nullptr && current->strikes(Fault::accept_out_of_files)) return fail_with(EMFILE);
  return call(socket, address, size, flags);
}

ssize_t recvmsg(int socket, msghdr* message, int flags) {
  static const auto call = real_call<ssize_t (*)(int, msghdr*, int)>("recvmsg");
  Environment* current = of_process();
  if (current != nullptr && current->strikes(Fault::interrupted)) return fail_with(EINTR);
  if (current != nullptr && current->strikes(Fault::short_read)) {
    Shortened shorter(*message, current->between(1, 100));
    return noted(current, "recvmsg", socket, call(socket, &shorter.message, flags));
  }
  return noted(current, "recvmsg", socket, call(socket, message, flags));
}

ssize_t sendmsg(int socket, const msghdr* message, int flags) {
  static const auto call = real_call<ssize_t (*)(int, const msghdr*, int)>("sendmsg");
  Environment* current = of_process();
  if (current == nullptr) return call(socket, message, flags);
  if (const int error = write_error(*current)) return fail_with(error);
  if (current->strikes(Fault::short_write)) {
    const Shortened shorter(*message, current->between(1, 100));
    return noted(current, "sendmsg", socket, call(socket, &shorter.message, flags));
  }
  return noted(current, "sendmsg", socket, call(socket, message, flags));
}

ssize_t send(int socket, const void* bytes, std::size_t size, int flags) {
  static const auto call = real_call<ssize_t (*)(int, const void*, std::size_t, int)>("send");
  Environment* current = of_process();
  if (current != nullptr) {
    if (const int error = write_error(*current)) return fail_with(error);
    if (size > 1 && current->strikes(Fault::short_write)) size = current->between(1, size - 1);
  }
  return noted(current, "send", socket, call(socket, bytes, size, flags));
}

// Asio's own allocations: coroutine frames and handlers.
void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  static const auto call = real_call<void* (*)(std::size_t, std::size_t)>("aligned_alloc");
  Environment* current = of_process();
  if (current != nullptr && current->strikes(Fault::out_of_memory)) return nullptr;
  return call(alignment, size);
}

}  // extern "C"

// Memory runs out for the process that is running; the simulator itself always has some.
void* operator new(std::size_t size) {
  Environment* current = of_process();
  if (current != nullptr && current->strikes(Fault::out_of_memory)) throw std::bad_alloc();
  if (void* memory = std::malloc(std::max<std::size_t>(size, 1))) return memory;
  throw std::bad_alloc();
}

void operator delete(void* memory) noexcept {
  std::free(memory);
}

void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

#pragma GCC visibility pop
