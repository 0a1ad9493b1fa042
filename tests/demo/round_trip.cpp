// Measures round trips over a named socket: one process answers, the other asks.
//
//   demo_round_trip echo PATH          sends back whatever it gets until the end
//   demo_round_trip ask PATH COUNT     sends 64 bytes and waits for them, COUNT times
//
// It knows nothing of xenlane: a path is all it is given. `ask` prints the median and the 99th
// percentile in microseconds and fails when what comes back is not what was sent.
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "tests/support/unix_sockets.hpp"

namespace {

using xenlane::tests::send_all;

constexpr std::size_t message_bytes = 64;
/// A partner that takes longer than this for one answer has gone.
constexpr int answer_ms = 10000;
using Message = std::array<char, message_bytes>;

bool receive_all(int fd, Message& message) {
  std::size_t have = 0;
  while (have < message.size()) {
    pollfd poll{fd, POLLIN, 0};
    if (::poll(&poll, 1, answer_ms) <= 0) return false;
    const ssize_t got = ::recv(fd, message.data() + have, message.size() - have, 0);
    if (got <= 0) return false;
    have += static_cast<std::size_t>(got);
  }
  return true;
}

int echo(int fd) {
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t got = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (got <= 0) return got == 0 ? 0 : 1;
    send_all(fd, buffer.data(), static_cast<std::size_t>(got));
  }
}

int ask(int fd, unsigned long count) {
  std::vector<double> times;
  times.reserve(count);
  Message question{};
  Message answer{};
  for (unsigned long i = 0; i < count; ++i) {
    std::memcpy(question.data(), &i, sizeof i);
    const auto begin = std::chrono::steady_clock::now();
    send_all(fd, question.data(), question.size());
    if (!receive_all(fd, answer)) {
      std::fprintf(stderr, "demo_round_trip: no answer to message %lu\n", i);
      return 1;
    }
    const auto end = std::chrono::steady_clock::now();
    if (question != answer) {
      std::fprintf(stderr, "demo_round_trip: message %lu came back altered\n", i);
      return 1;
    }
    times.push_back(std::chrono::duration<double, std::micro>(end - begin).count());
  }
  std::sort(times.begin(), times.end());
  std::printf("%.0f us median, %.0f us for 99 of 100\n", times[times.size() / 2],
              times[times.size() * 99 / 100]);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view verb = argc > 1 ? argv[1] : "";
  const unsigned long count = argc == 4 ? std::strtoul(argv[3], nullptr, 10) : 0;
  if (!(verb == "echo" && argc == 3) && !(verb == "ask" && count > 0)) {
    std::fprintf(stderr, "usage: demo_round_trip echo PATH | ask PATH COUNT\n");
    return 2;
  }
  try {
    const auto fd = xenlane::tests::connect_to(argv[2]);
    return verb == "echo" ? echo(fd.get()) : ask(fd.get(), count);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "demo_round_trip: %s\n", error.what());
    return 1;
  }
}
