// The console link's scanner and an open link behind it, which gets whatever lines a console may
// bring: noise, and frames well made that say anything. The link keeps within its window, says only
// what a peer would take, and ends with a reason or not at all.
#include "transport/console/scanner.hpp"

#include "tests/fuzz/input.hpp"
#include "transport/console/link.hpp"

namespace xenlane::fuzz {

void fuzz_console_scanner(Bytes input);

namespace {

using namespace transport;  // NOLINT(google-build-using-namespace): this file is about little else
using std::chrono::milliseconds;

constexpr std::uint32_t our_nonce = 0x1111;
constexpr std::uint32_t peer_nonce = 0x2222;

/// What comes out of a line goes into the same line.
void check_encodings(const LinkFrame& frame) {
  for (const auto encoding : {LinkEncoding::text, LinkEncoding::binary}) {
    if (frame.payload.size() > link_payload_bytes_max(encoding)) continue;
    LinkLine line;
    const Bytes whole = std::span(line).first(encode_link_line(frame, encoding, line));
    if (encoding == LinkEncoding::text) {
      FUZZ_CHECK(is_printable(text_of(whole.first(whole.size() - 1))));
    }
    FrameScanner scanner;
    Bytes left = whole;
    const auto again = scanner.next(left);
    FUZZ_CHECK(again && left.empty());
    FUZZ_CHECK(again->type == frame.type && again->got == frame.got && again->to == frame.to);
    FUZZ_CHECK(std::ranges::equal(again->payload, frame.payload));
  }
}

class LinkProgram {
 public:
  explicit LinkProgram(Input choices)
      : choices_(choices),
        end_(choices_.flag() ? ConsoleEnd::host : ConsoleEnd::guest),
        link_({end_, our_nonce, link_zstd, milliseconds(15000)}, now_) {
    LinkFrame hello;
    hello.type = LinkFrameType::syn;
    hello.from_host = end_ == ConsoleEnd::guest;
    hello.flags = choices_.take<std::uint8_t>() & link_own_device;
    hello.from = peer_nonce;
    hello.to = our_nonce;
    link_.handle_frame(hello, now_);
    FUZZ_CHECK(link_.is_open());
  }

  void run() {
    while (!choices_.empty()) {
      step();
      check();
    }
  }

 private:
  void step() {
    switch (choices_.below(6)) {
      case 0:
        scan(choices_.piece(choices_.take<std::uint8_t>()));
        return;
      case 1:
        scan_frame();
        return;
      case 2: {
        const auto bytes = choices_.piece(choices_.take<std::uint8_t>());
        if (bytes.size() <= link_.room()) link_.write(bytes);
        return;
      }
      case 3:
        now_ += milliseconds(choices_.take<std::uint16_t>() / 4);
        link_.handle_time(now_);
        return;
      case 4: {
        const std::size_t count = choices_.below(4097);
        link_.take(std::min(count, link_.unread().size()));
        if (choices_.flag()) {
          link_.release({link_.taken(), choices_.take<std::uint8_t>()}, choices_.flag());
        }
        return;
      }
      default:
        link_.want_release(choices_.flag(), now_);
        if (choices_.flag()) link_.probe(now_);
        poll();
    }
  }

  void scan(Bytes bytes) {
    while (const auto frame = scanner_.next(bytes)) {
      FUZZ_CHECK(frame->payload.size() <= link_binary_payload_bytes_max && frame->from != 0);
      check_encodings(*frame);
      link_.handle_frame(*frame, now_);
      check();
    }
    FUZZ_CHECK(bytes.empty());
  }

  /// Well made, and mostly of the link.
  void scan_frame() {
    LinkFrame frame;
    frame.type = static_cast<LinkFrameType>(1 + choices_.below(4));
    const auto odd = choices_.take<std::uint8_t>();
    frame.from_host = (end_ == ConsoleEnd::guest) != (odd % 16 == 1);
    frame.from = odd % 16 == 2 ? 1 + choices_.below(5) : peer_nonce;
    frame.to = odd % 16 == 3 ? choices_.below(5) : our_nonce;
    frame.flags = odd % 16 == 4 ? choices_.take<std::uint8_t>() : std::uint8_t{0};
    frame.position = static_cast<std::uint32_t>(link_.taken() + link_.unread().size());
    if (odd % 8 == 5) frame.position += choices_.take<std::uint16_t>() - 0x8000U;
    if (odd % 8 == 6) frame.position += choices_.take<std::uint8_t>();
    frame.got = sent_ - std::min(sent_, choices_.below(100));
    frame.held = static_cast<std::uint16_t>(choices_.below(odd % 16 == 7 ? 0x10000 : 3));
    frame.part = static_cast<std::uint16_t>(choices_.below(odd % 16 == 8 ? 0x10000 : 3));
    frame.hole = static_cast<std::uint16_t>(choices_.below(odd % 16 == 9 ? 0x10000 : 3));
    if (odd % 16 == 10) frame.got = choices_.take<std::uint32_t>();
    const auto payload = choices_.piece(choices_.take<std::uint8_t>());
    if (frame.type == LinkFrameType::data) frame.payload = payload;
    LinkLine line;
    const auto encoding = choices_.flag() ? LinkEncoding::binary : LinkEncoding::text;
    scan(std::span(line).first(encode_link_line(frame, encoding, line)));
  }

  void poll() {
    int frames = 0;
    while (const auto frame = link_.poll_frame(now_)) {
      FUZZ_CHECK(++frames < 100);
      FUZZ_CHECK(frame->from == our_nonce && frame->from_host == (end_ == ConsoleEnd::host));
      FUZZ_CHECK(frame->payload.size() <= link_payload_bytes_max(link_.encoding()));
      FUZZ_CHECK(frame->held <= link_window_bytes && frame->hole <= link_window_bytes);
      if (frame->payload.empty()) continue;
      const auto end = static_cast<std::uint32_t>(frame->position + frame->payload.size());
      FUZZ_CHECK(end - link_.peer_released().position <= link_window_bytes);
      if (is_after(end, sent_)) sent_ = end;
    }
  }

  void check() {
    const bool over = link_.state() > LinkState::open;
    FUZZ_CHECK(over == !link_.trouble().empty() && is_printable(link_.trouble()));
    FUZZ_CHECK(!over || !link_.deadline());
    FUZZ_CHECK(!over || !link_.poll_frame(now_));
    FUZZ_CHECK(link_.unread().size() <= link_window_bytes);
    FUZZ_CHECK(link_.room() <= link_window_bytes);
  }

  Input choices_;
  ConsoleEnd end_;
  ConsoleLink::TimePoint now_{};
  ConsoleLink link_;
  FrameScanner scanner_;
  std::uint32_t sent_ = 0;
};

}  // namespace

void fuzz_console_scanner(Bytes input) {
  LinkProgram(Input(input)).run();
}

}  // namespace xenlane::fuzz
