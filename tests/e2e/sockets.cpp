#include "tests/e2e/sockets.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <sstream>

namespace xenlane::tests {

namespace {

using Clock = std::chrono::steady_clock;

/// What a flood may have on its way: more than all buffers between its ends hold.
constexpr std::uint64_t flood_bytes_max = std::uint64_t{16} * 1024 * 1024;

std::uint64_t mix(std::uint64_t value) {  // splitmix64's finisher
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(),
              std::min(path.size() + 1, sizeof address.sun_path - 1));
  return address;
}

int milliseconds_until(Clock::time_point end) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
  return static_cast<int>(std::max<std::int64_t>(0, left.count() + 1));
}

Clock::time_point after(Seconds time) {
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(time);
}

}  // namespace

void Pattern::fill(std::span<char> out) {
  for (std::size_t i = 0; i < out.size();) {
    const std::uint64_t word = mix(seed_ * 0x2545f4914f6cdd1d + position_ / 8);
    const std::size_t offset = position_ % 8;
    const std::size_t count = std::min<std::size_t>(8 - offset, out.size() - i);
    std::memcpy(out.data() + i, reinterpret_cast<const char*>(&word) + offset, count);
    i += count;
    position_ += count;
  }
}

bool Pattern::matches(std::span<const char> bytes) {
  std::array<char, 4096> expected{};
  while (!bytes.empty()) {
    const std::size_t count = std::min(bytes.size(), expected.size());
    fill(std::span(expected).first(count));
    if (std::memcmp(expected.data(), bytes.data(), count) != 0) return false;
    bytes = bytes.subspan(count);
  }
  return true;
}

void Digest::add(std::string_view bytes) {  // FNV-1a: the order of bytes counts
  count_ += bytes.size();
  for (const char byte : bytes) {
    hash_ = (hash_ ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  }
}

std::string Digest::text() const {
  std::ostringstream text;
  text << count_ << ' ' << std::hex << hash_ << '\n';
  return text.str();
}

std::string digest_of(std::string_view bytes) {
  Digest digest;
  digest.add(bytes);
  return digest.text();
}

Client::Client(const std::string& path) {
  socket_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = address_of(path);
  if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    error_ = errno;
    socket_.reset();
    return;
  }
  ::fcntl(socket_.get(), F_SETFL, O_NONBLOCK);
}

bool Client::wait(short events, Seconds within) {
  pollfd poll{socket_.get(), events, 0};
  return ::poll(&poll, 1, milliseconds_until(after(within))) > 0;
}

bool Client::send(std::string_view bytes, Seconds within) {
  const auto end = after(within);
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno != EAGAIN || !wait(POLLOUT, end - Clock::now())) {
      return false;
    }
  }
  return true;
}

bool Client::send_pattern(Pattern& pattern, std::uint64_t count, Digest* digest) {
  std::vector<char> chunk(chunk_bytes);
  while (count > 0) {
    const std::size_t now = std::min<std::uint64_t>(count, chunk.size());
    pattern.fill(std::span(chunk).first(now));
    const std::string_view bytes(chunk.data(), now);
    if (digest != nullptr) digest->add(bytes);
    if (!send(bytes)) return false;
    count -= now;
  }
  return true;
}

void Client::finish() {
  ::shutdown(fd(), SHUT_WR);
}

std::string Client::receive(std::size_t count, Seconds within) {
  std::string all;
  std::vector<char> chunk(std::min(count, chunk_bytes));
  const auto end = after(within);
  while (ending_ == Ending::open && all.size() < count) {
    const ssize_t got = ::recv(fd(), chunk.data(), std::min(chunk.size(), count - all.size()), 0);
    if (got > 0) {
      all.append(chunk.data(), static_cast<std::size_t>(got));
    } else if (got == 0) {
      ending_ = Ending::closed;
    } else if (errno != EAGAIN) {
      ending_ = Ending::failed;
      error_ = errno;
    } else if (!wait(POLLIN, end - Clock::now())) {
      break;
    }
  }
  return all;
}

std::string Client::receive_to_end(Seconds within) {
  return receive(static_cast<std::size_t>(-1), within);
}

std::int64_t Client::receive_pattern_to_end(Pattern pattern) {
  std::int64_t count = 0;
  while (ending_ == Ending::open) {
    const std::string bytes = receive(chunk_bytes);
    if (bytes.empty()) break;
    if (!pattern.matches(bytes)) return -1;
    count += static_cast<std::int64_t>(bytes.size());
  }
  return count;
}

namespace {

/// One client's way through an echo, driven by poll().
struct EchoRun {
  EchoRun(Client& run_client, std::uint64_t seed, std::uint64_t run_count)
      : client(&run_client), to_send(seed), to_receive(seed), count(run_count) {}

  Client* client;
  Pattern to_send;
  Pattern to_receive;
  std::uint64_t count;
  std::uint64_t made = 0;
  std::uint64_t received = 0;
  std::string unsent;
  bool over = false;
  bool right = false;

  void write() {
    if (unsent.empty()) {
      unsent.resize(std::min<std::uint64_t>(chunk_bytes, count - made));
      to_send.fill(unsent);
      made += unsent.size();
    }
    const ssize_t sent = ::send(client->fd(), unsent.data(), unsent.size(), MSG_NOSIGNAL);
    if (sent > 0) unsent.erase(0, static_cast<std::size_t>(sent));
    if (sent < 0 && errno != EAGAIN) over = true;
    if (made == count && unsent.empty()) client->finish();
  }

  void read(std::span<char> buffer) {
    const ssize_t got = ::recv(client->fd(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EAGAIN) return;
    over = got <= 0;
    right = got == 0 && received == count;
    if (got <= 0) return;
    received += static_cast<std::uint64_t>(got);
    over = !to_receive.matches(buffer.first(static_cast<std::size_t>(got)));
  }
};

}  // namespace

bool exchange_with_echo(std::span<Client> clients, std::uint64_t count) {
  static std::atomic<std::uint64_t> seeds{1000};
  std::vector<EchoRun> runs;
  for (Client& client : clients) runs.emplace_back(client, ++seeds, count);
  std::vector<char> buffer(chunk_bytes);
  std::vector<pollfd> polls(runs.size());
  const auto end = after(long_enough);
  for (;;) {
    bool more = false;
    for (std::size_t i = 0; i < runs.size(); ++i) {
      const bool writes = runs[i].made < count || !runs[i].unsent.empty();
      const auto events = static_cast<short>(POLLIN | (writes ? POLLOUT : 0));
      polls[i] = {runs[i].over ? -1 : runs[i].client->fd(), events, 0};
      more = more || !runs[i].over;
    }
    if (!more) break;
    if (::poll(polls.data(), polls.size(), milliseconds_until(end)) <= 0) return false;
    for (std::size_t i = 0; i < runs.size(); ++i) {
      if ((polls[i].revents & POLLOUT) != 0) runs[i].write();
      if ((polls[i].revents & ~POLLOUT) != 0) runs[i].read(buffer);
    }
  }
  return std::all_of(runs.begin(), runs.end(), [](const EchoRun& run) { return run.right; });
}

Flood::Flood(const std::string& path, std::uint64_t seed, std::uint64_t rate)
    : client_(path), seed_(seed), rate_(rate) {
  if (!client_.ok()) ADD_FAILURE() << path << ": " << std::strerror(client_.error());
  thread_ = std::thread([this] { run(); });
}

Flood::~Flood() {
  aborting_ = true;
  thread_.join();
}

void Flood::run() {
  Pattern to_send(seed_);
  Pattern to_receive(seed_);
  std::vector<char> buffer(chunk_bytes);
  std::string unsent;
  bool writing = client_.ok();
  bool reading = client_.ok();
  const auto start = Clock::now();
  while (reading && !aborting_) {
    if (finishing_ && writing && unsent.empty()) {
      client_.finish();
      writing = false;
    }
    const double due = Seconds(Clock::now() - start).count() * static_cast<double>(rate_);
    const bool may_send =
        writing && sent_ - received_ < flood_bytes_max && static_cast<double>(sent_) <= due;
    pollfd poll{client_.fd(), static_cast<short>(POLLIN | (may_send ? POLLOUT : 0)), 0};
    ::poll(&poll, 1, 10);
    if ((poll.revents & POLLOUT) != 0) {
      if (unsent.empty()) {
        unsent.resize(chunk_bytes);
        to_send.fill(unsent);
      }
      const ssize_t sent = ::send(client_.fd(), unsent.data(), unsent.size(), MSG_NOSIGNAL);
      if (sent > 0) {
        unsent.erase(0, static_cast<std::size_t>(sent));
        sent_ += static_cast<std::uint64_t>(sent);
      } else if (errno != EAGAIN) {
        writing = false;
      }
    }
    if ((poll.revents & ~POLLOUT) != 0) {
      const ssize_t got = ::recv(client_.fd(), buffer.data(), buffer.size(), 0);
      if (got > 0) {
        if (!to_receive.matches(std::span(buffer).first(static_cast<std::size_t>(got)))) {
          intact_ = false;
        }
        received_ += static_cast<std::uint64_t>(got);
      } else if (got == 0 || errno != EAGAIN) {
        reading = false;
      }
    }
  }
  ended_ = true;
}

bool Flood::wait_received(std::uint64_t count) {
  return eventually([&] { return received_ >= count || ended_; }) && received_ >= count;
}

bool Flood::wait_end(Seconds within) {
  return eventually([&] { return ended_.load(); }, within);
}

bool Flood::finish() {
  finishing_ = true;
  return wait_end(long_enough) && intact_ && received_ == sent_;
}

}  // namespace xenlane::tests
