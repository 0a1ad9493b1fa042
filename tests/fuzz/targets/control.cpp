// The control protocol (docs/control.md): a request line as the daemon takes it, a reply line as
// the tool takes it, and the server with a client that sends any bytes in any pieces, each whole
// line of which must be answered by one line.
#include <sys/socket.h>
#include <sys/un.h>

#include <boost/asio/io_context.hpp>
#include <boost/json.hpp>

#include "bridge/control/client.hpp"
#include "bridge/control/protocol.hpp"
#include "bridge/control/server.hpp"
#include "tests/fuzz/input.hpp"

namespace xenlane::fuzz {

void fuzz_control(Bytes input);

namespace {

namespace json = boost::json;
using namespace bridge;  // NOLINT(google-build-using-namespace): this file is about little else

/// A reply as the tool gets it: one line, an object of this version that says whether it is well.
json::object parse_reply_line(std::string_view line) {
  FUZZ_CHECK(line.size() <= control_reply_bytes_max && line.ends_with('\n'));
  line.remove_suffix(1);
  FUZZ_CHECK(line.find('\n') == std::string_view::npos);
  boost::system::error_code error;
  const json::value value = json::parse(line, error);
  FUZZ_CHECK(!error && value.is_object());
  FUZZ_CHECK(json_number(value.get_object(), "v") == control_version);
  FUZZ_CHECK(value.get_object().contains("ok"));
  return value.get_object();
}

void check_request(std::string_view line) {
  const auto request = parse_control_request(line);
  if (!request) {
    const std::string& code = request.error().code;
    FUZZ_CHECK(code == "bad-request" || code == "bad-version");
    FUZZ_CHECK(!request.error().message.empty() && is_printable(request.error().message));
    parse_reply_line(format_control_reply(control_error(code, request.error().message)));
    return;
  }
  FUZZ_CHECK(json_number(*request, "v") == control_version && !json_text(*request, "op").empty());
  for (const auto& [key, value] : *request) {
    FUZZ_CHECK((json_object(*request, key) != nullptr) == value.is_object());
    FUZZ_CHECK((json_array(*request, key) != nullptr) == value.is_array());
    FUZZ_CHECK(value.is_string() || json_text(*request, key, "none") == "none");
  }
  // A handler that says back what it was asked.
  parse_reply_line(format_control_reply(*request));
}

void check_reply(std::string_view line) {
  const auto reply = parse_control_reply(line);
  if (!reply) {
    FUZZ_CHECK(!reply.error().text.empty() && is_printable(reply.error().text));
    FUZZ_CHECK(reply.error().kind == ControlError::Kind::failed);
    return;
  }
  FUZZ_CHECK(json_number(*reply, "v") == control_version && reply->at("ok").as_bool());
  parse_reply_line(format_control_reply(*reply));
}

/// A server and one client, joined by a socket and moved by hand.
class Exchange {
 public:
  Exchange() {
    // An abstract address: nothing appears in the file system.
    transport::UniqueFd listening(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    // Bound with no name at all, the kernel finds one that is free.
    FUZZ_CHECK(::bind(listening.get(), reinterpret_cast<const sockaddr*>(&address),
                      sizeof address.sun_family) == 0);
    socklen_t size = sizeof address;
    FUZZ_CHECK(::getsockname(listening.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    FUZZ_CHECK(::listen(listening.get(), 1) == 0);
    client_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    FUZZ_CHECK(::connect(client_.get(), reinterpret_cast<const sockaddr*>(&address), size) == 0);
    server_.emplace(io_.get_executor(), std::move(listening), [this](const json::object& request) {
      ++handled_;
      FUZZ_CHECK(!json_text(request, "op").empty());
      return json::object{{"handled", handled_}};
    });
    run();
  }

  /// False when the server has hung up.
  bool send(Bytes bytes) {
    const ssize_t sent = ::send(client_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0) return false;
    FUZZ_CHECK(static_cast<std::size_t>(sent) == bytes.size());
    run();
    return true;
  }
  const std::string& received() const { return received_; }
  std::uint64_t handled() const { return handled_; }

 private:
  /// A client that takes its replies as they come, or the server would stop to wait for it.
  void run() {
    std::size_t before = 0;
    do {
      before = received_.size();
      io_.restart();
      io_.poll();
      receive();
    } while (received_.size() > before);
  }
  void receive() {
    std::array<char, 4096> buffer;
    for (;;) {
      const ssize_t got = ::recv(client_.get(), buffer.data(), buffer.size(), 0);
      if (got <= 0) return;
      received_.append(buffer.data(), static_cast<std::size_t>(got));
    }
  }

  boost::asio::io_context io_{1};
  transport::UniqueFd client_;
  std::optional<ControlServer> server_;
  std::uint64_t handled_ = 0;
  std::string received_;
};

/// What of the bytes is answered: every whole line until one is too long.
struct Expected {
  std::uint64_t lines = 0;
  std::uint64_t requests = 0;
  bool too_long = false;
};

Expected expected_of(std::string_view sent) {
  Expected expected;
  while (!sent.empty() && !expected.too_long) {
    const std::size_t end = sent.find('\n');
    if (std::min(end, sent.size()) >= control_request_bytes_max) {
      expected.too_long = true;
    } else if (end == std::string_view::npos) {
      return expected;
    } else if (parse_control_request(sent.substr(0, end))) {
      ++expected.requests;
    }
    ++expected.lines;
    if (end != std::string_view::npos) sent.remove_prefix(end + 1);
  }
  return expected;
}

void serve(Input& choices) {
  Exchange exchange;
  std::string sent;
  const auto bytes_max = 1 + choices.below(6000);
  while (!choices.empty()) {
    const auto piece = choices.piece(1 + choices.below(bytes_max));
    if (piece.empty() || !exchange.send(piece)) break;
    sent += text_of(piece);
  }
  const Expected expected = expected_of(sent);
  FUZZ_CHECK(exchange.handled() == expected.requests);
  std::string_view replies = exchange.received();
  std::uint64_t lines = 0;
  for (std::size_t end = replies.find('\n'); end != replies.npos; end = replies.find('\n')) {
    parse_reply_line(replies.substr(0, end + 1));
    replies.remove_prefix(end + 1);
    ++lines;
  }
  FUZZ_CHECK(replies.empty() && lines == expected.lines);
}

}  // namespace

void fuzz_control(Bytes input) {
  Input choices(input);
  switch (choices.below(3)) {
    case 0:
      return check_request(text_of(choices.rest()));
    case 1:
      return check_reply(text_of(choices.rest()));
    default:
      return serve(choices);
  }
}

}  // namespace xenlane::fuzz
