#include "bridge/cli/bench/measure.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <string_view>
#include <thread>

#include "bridge/bench/arrival_meter.hpp"
#include "bridge/bench/request.hpp"
#include "bridge/channel/text.hpp"
#include "bridge/control/protocol.hpp"

namespace xenlane::bridge::cli {
namespace {

using Clock = std::chrono::steady_clock;
using transport::UniqueFd;

/// A path on which nothing moves for so long is given up.
constexpr std::chrono::milliseconds stall_limit{20'000};
/// So long the other end may take to be done.
constexpr std::chrono::seconds finish_limit{10};
constexpr std::size_t line_bytes_max = 4096;

/// A conversation with a service, which ends with it.
class Conversation {
 public:
  Conversation(const BenchPath& path, const BenchRequest& request, std::span<const char> data)
      : path_(path.name), socket_(path.connect()), chunk_(bench_read_bytes) {
    const timeval limit{std::chrono::duration_cast<std::chrono::seconds>(stall_limit).count(), 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (!send_all(format_bench_request(request)) || !send_all(data)) {
      fail("the service did not take the request");
    }
  }

  [[noreturn]] void fail(std::string_view what) const {
    throw BenchFailure(fmt::format("{}: {}", path_, what));
  }

  /// What can be done now of `events`; 0 after a stall.
  short wait(short events) {
    pollfd waiting{socket_.get(), events, 0};
    int ready = -1;
    do {
      ready = ::poll(&waiting, 1, static_cast<int>(stall_limit.count()));
    } while (ready < 0 && errno == EINTR);
    return ready > 0 ? waiting.revents : short{0};
  }

  /// Waits for bytes; 0 at the end, or after a stall.
  std::size_t receive() {
    ssize_t got = -1;
    do {
      got = ::recv(socket_.get(), chunk_.data(), chunk_.size(), 0);
    } while (got < 0 && errno == EINTR);
    return got > 0 ? static_cast<std::size_t>(got) : 0;
  }

  /// Bytes that were there; -1 when there are none now, 0 at the end.
  ssize_t receive_now() {
    const ssize_t got = ::recv(socket_.get(), chunk_.data(), chunk_.size(), MSG_DONTWAIT);
    return got < 0 && errno != EAGAIN && errno != EINTR ? 0 : got;
  }

  /// Bytes that were taken; -1 when none could be now, 0 when the reader is gone.
  ssize_t send(std::span<const char> bytes) {
    const ssize_t sent =
        ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent < 0 && errno != EAGAIN && errno != EINTR ? 0 : sent;
  }

  /// As plain writers do it; false after a stall, or when the reader is gone.
  bool send_all(std::span<const char> bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno != EINTR) return false;
      if (sent > 0) bytes = bytes.subspan(static_cast<std::size_t>(sent));
    }
    return true;
  }

  /// Says that no more will come, and waits for the other end to be done: what is under way would
  /// be in the way of the next measurement. Not for ever: some relays do not pass on an end.
  void finish() {
    ::shutdown(socket_.get(), SHUT_WR);
    const auto until = Clock::now() + finish_limit;
    while (receive() > 0 && Clock::now() < until) {
    }
  }

  std::string receive_line() {
    std::string line;
    while (line.size() < line_bytes_max) {
      const std::size_t got = receive();
      if (got == 0) fail("no answer");
      line.append(chunk_.data(), got);
      if (line.ends_with('\n')) return line.substr(0, line.size() - 1);
    }
    fail("the answer is too long");
  }

 private:
  std::string path_;
  UniqueFd socket_;
  std::vector<char> chunk_;
};

/// Messages of one size, one after another, out of data that repeats itself.
class Messages {
 public:
  Messages(std::span<const char> data, std::size_t size)
      : data_(data.begin(), data.end()), period_(data.size()), size_(size) {
    data_.reserve(period_ + size);
    while (data_.size() < period_ + size) data_.push_back(data_[data_.size() - period_]);
  }
  std::span<const char> current() const { return std::span(data_).subspan(at_, size_); }
  void next() { at_ = (at_ + size_) % period_; }

 private:
  std::vector<char> data_;
  std::size_t period_;
  std::size_t size_;
  std::size_t at_ = 0;
};

Arrived checked(const Conversation& conversation, const Arrived& arrived) {
  if (arrived.bytes == 0) conversation.fail("nothing came within the time; measure for longer");
  return arrived;
}

Arrived parse_arrived(const Conversation& conversation, std::string_view untrusted_line) {
  boost::system::error_code error;
  const auto value = boost::json::parse(untrusted_line, error);
  if (error || !value.is_object()) conversation.fail("the answer is no JSON object");
  const auto us = json_number(value.get_object(), "us");
  const auto bytes = json_number(value.get_object(), "bytes");
  return checked(conversation, {us == 0 ? 0 : bytes, static_cast<double>(us) / 1e6});
}

/// A message there and back.
void exchange(Conversation& conversation, std::span<const char> message) {
  auto left = message;
  for (std::size_t to_come = message.size(); to_come > 0;) {
    // A message may be longer than all buffers on its way: it comes back while it is sent.
    if (const ssize_t sent = left.empty() ? -1 : conversation.send(left); sent > 0) {
      left = left.subspan(static_cast<std::size_t>(sent));
    }
    if (!left.empty() && conversation.wait(POLLIN | POLLOUT) == 0) {
      conversation.fail("nothing moves");
    }
    const ssize_t got =
        left.empty() ? static_cast<ssize_t>(conversation.receive()) : conversation.receive_now();
    if (got == 0) conversation.fail("nothing comes back");
    if (got > 0) to_come -= std::min(to_come, static_cast<std::size_t>(got));
  }
}

}  // namespace

Arrived measure_to(const BenchPath& path, std::size_t size, const BenchTimes& times,
                   std::span<const char> data) {
  BenchRequest request;
  request.kind = BenchRequest::Kind::sink;
  request.warm = times.warm;
  request.time = times.time;
  Conversation conversation(path, request, {});
  Messages messages(data, size);
  // To look costs a call, which plain writers do not make: only once an answer may be there.
  const auto over = Clock::now() + times.warm + times.time;
  while (Clock::now() < over) {
    if (!conversation.send_all(messages.current())) conversation.fail("nothing moves");
    messages.next();
  }
  for (auto left = messages.current();;) {
    const short ready = conversation.wait(POLLIN | POLLOUT);
    if (ready == 0) conversation.fail("nothing moves");
    if ((ready & ~POLLOUT) != 0) break;
    if (const ssize_t sent = conversation.send(left); sent > 0) {
      left = left.subspan(static_cast<std::size_t>(sent));
    }
    if (!left.empty()) continue;
    messages.next();
    left = messages.current();
  }
  const Arrived arrived = parse_arrived(conversation, conversation.receive_line());
  conversation.finish();
  return arrived;
}

Arrived measure_from(const BenchPath& path, std::size_t size, const BenchTimes& times,
                     std::span<const char> data) {
  BenchRequest request;
  request.kind = BenchRequest::Kind::source;
  request.message_bytes = size;
  request.data_bytes = data.size();
  Conversation conversation(path, request, data);
  ArrivalMeter meter(times.warm, times.time);
  for (;;) {
    const std::size_t got = conversation.receive();
    if (got == 0) conversation.fail("nothing comes");
    if (!meter.add(got, Clock::now())) break;
  }
  conversation.finish();
  return checked(conversation, {meter.bytes(), meter.seconds()});
}

double measure_both(const BenchPath& path, std::size_t size, const BenchTimes& times,
                    std::span<const char> data, std::span<const char> data_back) {
  Arrived from;
  std::exception_ptr trouble;
  std::thread other([&] {
    try {
      from = measure_from(path, size, times, data_back);
    } catch (const BenchFailure&) {
      trouble = std::current_exception();
    }
  });
  Arrived to;
  std::exception_ptr other_trouble;
  try {
    to = measure_to(path, size, times, data);
  } catch (const BenchFailure&) {
    other_trouble = std::current_exception();
  }
  other.join();
  if (trouble) std::rethrow_exception(trouble);
  if (other_trouble) std::rethrow_exception(other_trouble);
  return to.per_second() + from.per_second();
}

std::vector<std::uint64_t> measure_round_trips(const BenchPath& path, std::size_t size,
                                               const BenchTimes& times,
                                               std::span<const char> data) {
  Conversation conversation(path, BenchRequest{}, {});
  // Programs at the far end and on the way may be starting still.
  exchange(conversation, data.first(1));
  Messages messages(data, size);
  std::vector<std::uint64_t> round_trips;
  const auto from = Clock::now() + times.warm;
  const auto until = from + times.time;
  for (auto begin = Clock::now(); begin < until || round_trips.empty();) {
    exchange(conversation, messages.current());
    const auto end = Clock::now();
    // One that began within the warm-up counts when there is time for no other.
    if (begin >= from || end >= until) {
      round_trips.push_back(static_cast<std::uint64_t>((end - begin).count()));
    }
    begin = end;
    messages.next();
  }
  conversation.finish();
  return round_trips;
}

std::string ask_usage(const BenchPath& path) {
  BenchRequest request;
  request.kind = BenchRequest::Kind::usage;
  Conversation conversation(path, request, {});
  return conversation.receive_line();
}

}  // namespace xenlane::bridge::cli
