#include "bridge/bench/service.hpp"

#include <fmt/format.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <span>
#include <vector>

#include "bridge/bench/arrival_meter.hpp"
#include "bridge/bench/request.hpp"
#include "bridge/cli/exit_codes.hpp"

namespace xenlane::bridge {
namespace {

using Clock = std::chrono::steady_clock;

/// Longer than any request may take, with a client that is slow.
constexpr unsigned life_seconds = 300;
constexpr std::chrono::milliseconds ask_interval{1};
/// nobody's, on Linux (/proc/sys/kernel/overflowuid).
constexpr uid_t no_user = 65534;

/// Whoever is at the other end is not trusted; nothing that a request asks for takes privileges.
bool give_up_privileges() {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (::geteuid() != 0) return true;
  return ::setgroups(0, nullptr) == 0 && ::setgid(no_user) == 0 && ::setuid(no_user) == 0;
}

/// How many bytes have come; 0 at the end.
std::size_t receive(int fd, std::span<char> into) {
  ssize_t got = -1;
  do {
    got = ::recv(fd, into.data(), into.size(), 0);
  } while (got < 0 && errno == EINTR);
  return got > 0 ? static_cast<std::size_t>(got) : 0;
}

/// False when the reader is gone.
bool send_all(int fd, std::span<const char> bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) bytes = bytes.subspan(static_cast<std::size_t>(sent));
    if (sent < 0 && errno != EINTR) return false;
  }
  return true;
}

/// Whoever reads has said by an end of its own that it wants no more.
bool is_unwanted(int fd) {
  char byte = 0;
  return ::recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

/// A byte at a time: what comes behind the line is not the line's.
std::string receive_line(int fd) {
  std::string line;
  char byte = 0;
  while (line.size() < bench_request_bytes_max && receive(fd, {&byte, 1}) == 1) {
    if (byte == '\n') return line;
    line += byte;
  }
  return {};
}

void echo(int fd) {
  std::vector<char> chunk(bench_read_bytes);
  while (const std::size_t got = receive(fd, chunk)) {
    if (!send_all(fd, std::span(chunk).first(got))) return;
  }
}

void sink(int fd, const BenchRequest& request) {
  std::vector<char> chunk(bench_read_bytes);
  ArrivalMeter meter(request.warm, request.time);
  std::size_t got = 0;
  do {
    got = receive(fd, chunk);
  } while (got > 0 && meter.add(got, Clock::now()));
  send_all(fd, fmt::format("{{\"bytes\":{},\"us\":{}}}\n", meter.bytes(), meter.took().count()));
  while (receive(fd, chunk) > 0) {
  }
}

void source(int fd, const BenchRequest& request) {
  std::vector<char> data(request.data_bytes);
  for (std::size_t have = 0; have < data.size();) {
    const std::size_t got = receive(fd, std::span(data).subspan(have));
    if (got == 0) return;
    have += got;
  }
  if (data.empty()) {
    data.resize(bench_random_bytes);
    for (std::size_t have = 0; have < data.size();) {
      const ssize_t got = ::getrandom(data.data() + have, data.size() - have, 0);
      if (got > 0) have += static_cast<std::size_t>(got);
    }
  }
  // So long that a whole message begins anywhere in the data.
  const std::size_t period = data.size();
  while (data.size() < period + request.message_bytes) {
    data.push_back(data[data.size() - period]);
  }
  // To ask costs a call, which plain writers do not make; the reader takes what comes until then.
  auto ask_at = Clock::now();
  for (std::size_t at = 0;; at = (at + request.message_bytes) % period) {
    if (!send_all(fd, std::span(data).subspan(at, request.message_bytes))) return;
    if (const auto now = Clock::now(); now >= ask_at) {
      if (is_unwanted(fd)) return;
      ask_at = now + ask_interval;
    }
  }
}

}  // namespace

int serve_bench(int fd, const std::string& usage) {
  if (!give_up_privileges()) return exit_not_permitted;
  ::alarm(life_seconds);
  const auto request = parse_bench_request(receive_line(fd));
  if (!request) return exit_usage;
  switch (request->kind) {
    case BenchRequest::Kind::echo:
      echo(fd);
      break;
    case BenchRequest::Kind::sink:
      sink(fd, *request);
      break;
    case BenchRequest::Kind::source:
      source(fd, *request);
      break;
    case BenchRequest::Kind::usage:
      send_all(fd, usage + "\n");
      break;
  }
  return exit_ok;
}

}  // namespace xenlane::bridge
