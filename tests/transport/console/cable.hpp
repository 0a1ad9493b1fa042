// Two console links and the console between them, in virtual time: bytes on their way that can be
// lost, repeated, mixed with noise or sent back, and ends that begin anew.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "transport/console/link.hpp"
#include "transport/console/scanner.hpp"

namespace xenlane::transport::test {

using namespace std::chrono_literals;
using TimePoint = ConsoleLink::TimePoint;
using ByteVector = std::vector<std::byte>;

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

inline ByteVector random_bytes(std::size_t count, std::uint32_t seed) {
  std::mt19937 random(seed);
  ByteVector out(count);
  for (std::byte& byte : out) byte = static_cast<std::byte>(random());
  return out;
}

/// What goes wrong on the way, each in percent of the frames.
struct Faults {
  unsigned lost = 0;
  unsigned cut = 0;       ///< loses its end, newline and all
  unsigned repeated = 0;  ///< comes twice
  unsigned echoed = 0;    ///< goes back to its sender, too
  unsigned noise = 0;     ///< a log line behind it
  unsigned damaged = 0;   ///< a byte of it is another
  bool crlf = false;      ///< newlines get a carriage return
};

/// One life of an end: its link, what it sends, and what it has received.
class LinkEnd {
 public:
  LinkEnd(const LinkSettings& settings, TimePoint now) : link(settings, now) {}

  void send(std::span<const std::byte> bytes) {
    to_send.insert(to_send.end(), bytes.begin(), bytes.end());
  }
  void pump() {
    while (!to_send.empty() && link.room() > 0) {
      const std::size_t count = std::min(link.room(), to_send.size());
      const ByteVector piece(to_send.begin(), to_send.begin() + static_cast<std::ptrdiff_t>(count));
      link.write(piece);
      to_send.erase(to_send.begin(), to_send.begin() + static_cast<std::ptrdiff_t>(count));
    }
    if (!reads) return;
    const auto unread = link.unread();
    received.insert(received.end(), unread.first.begin(), unread.first.end());
    received.insert(received.end(), unread.second.begin(), unread.second.end());
    link.take(unread.size());
    link.release({link.taken(), 0}, false);
  }

  ConsoleLink link;
  FrameScanner scanner;
  std::deque<std::byte> to_send;
  ByteVector received;
  bool reads = true;
};

class Cable : public testing::Test {
 protected:
  static constexpr auto delay = 5ms;

  void begin(ConsoleEnd end, std::uint32_t nonce, std::uint8_t flags = 0) {
    LinkSettings settings;
    settings.end = end;
    settings.nonce = nonce;
    settings.flags = flags;
    (end == ConsoleEnd::guest ? guest : host) = std::make_unique<LinkEnd>(settings, now);
  }
  void begin_both(std::uint8_t flags = 0) {
    begin(ConsoleEnd::guest, 0x1111, flags);
    begin(ConsoleEnd::host, 0x2222, flags);
  }

  /// Bytes both ways arrive whole and in order.
  void expect_transfer(std::size_t count, std::uint32_t seed) {
    const auto there = random_bytes(count, seed);
    const auto back = random_bytes(count, seed + 1000);
    guest->send(there);
    host->send(back);
    run([&] { return host->received.size() >= count && guest->received.size() >= count; }, 36000s);
    EXPECT_EQ(host->received.size(), count) << guest->link.trouble();
    EXPECT_EQ(guest->received.size(), count) << host->link.trouble();
    EXPECT_TRUE(host->received == there);
    EXPECT_TRUE(guest->received == back);
  }

  /// Bytes on their way arrive after the delay; time passes until nothing is left to happen, or
  /// `done`, or for too long.
  template <typename Done>
  void run(Done done, std::chrono::seconds longest = 600s) {
    const TimePoint until = now + longest;
    while (now < until) {
      transmit(*guest, to_host, to_guest);
      transmit(*host, to_guest, to_host);
      if (done()) return;
      const auto next = next_event();
      if (!next || *next > until) break;
      now = std::max(now, *next);
      arrive(*host, to_host);
      arrive(*guest, to_guest);
      guest->link.handle_time(now);
      host->link.handle_time(now);
    }
  }
  void run() {
    run([] { return false; });
  }
  void run_for(std::chrono::milliseconds time) {
    const TimePoint end = now + time;
    run([&] { return next_event().value_or(end) >= end; });
    now = std::max(now, end);
  }

  struct Packet {
    TimePoint at;
    ByteVector bytes;
  };
  using Way = std::deque<Packet>;

  void put(Way& way, const ByteVector& bytes) { way.push_back({now + delay, bytes}); }
  bool strikes(unsigned percent) { return random() % 100 < percent; }

  void transmit(LinkEnd& end, Way& way, Way& back) {
    end.pump();
    while (const auto frame = end.link.poll_frame(now)) {
      LinkLine line;
      const bool of_link =
          frame->type == LinkFrameType::data || frame->type == LinkFrameType::probe;
      const auto encoding = of_link ? end.link.encoding() : LinkEncoding::text;
      const std::size_t size = encode_link_line(*frame, encoding, line);
      ByteVector bytes(line.begin(), line.begin() + static_cast<std::ptrdiff_t>(size));
      ++frames;
      if (strikes(faults.lost)) continue;
      if (strikes(faults.cut)) bytes.resize(random() % bytes.size());
      if (strikes(faults.damaged) && !bytes.empty()) {
        bytes[random() % bytes.size()] = static_cast<std::byte>(random());
      }
      if (faults.crlf) insert_carriage_returns(bytes);
      put(way, bytes);
      if (strikes(faults.repeated)) put(way, bytes);
      if (strikes(faults.echoed)) put(back, bytes);
      if (strikes(faults.noise)) {
        const auto text = bytes_of("[  12.345] hvc: ~/oops~ {\x02} panic averted\r\n");
        put(way, {text.begin(), text.end()});
      }
    }
  }
  static void insert_carriage_returns(ByteVector& bytes) {
    ByteVector out;
    for (const std::byte byte : bytes) {
      if (byte == std::byte{'\n'}) out.push_back(std::byte{'\r'});
      out.push_back(byte);
    }
    bytes = out;
  }

  void arrive(LinkEnd& end, Way& way) {
    while (!way.empty() && way.front().at <= now) {
      std::span<const std::byte> bytes = way.front().bytes;
      while (const auto frame = end.scanner.next(bytes)) end.link.handle_frame(*frame, now);
      end.pump();
      way.pop_front();
    }
  }

  std::optional<TimePoint> next_event() const {
    std::optional<TimePoint> next;
    const auto take = [&](std::optional<TimePoint> at) {
      if (at && (!next || *at < *next)) next = at;
    };
    for (const Way* way : {&to_host, &to_guest}) {
      if (!way->empty()) take(way->front().at);
    }
    take(guest->link.deadline());
    take(host->link.deadline());
    return next;
  }

  TimePoint now{};
  Faults faults;
  std::mt19937 random{1};
  std::unique_ptr<LinkEnd> guest;
  std::unique_ptr<LinkEnd> host;
  Way to_host;
  Way to_guest;
  std::uint64_t frames = 0;
};

}  // namespace xenlane::transport::test
