#include "bridge/forward/request.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <iterator>

namespace xenlane::bridge {

namespace {

constexpr std::string_view request_prefix = "forward/";
constexpr std::string_view version_prefix = "forward/1 ";

/// Of an error's words, so that its line is none too long.
constexpr std::size_t error_text_bytes_max = 300;
constexpr std::uint32_t errno_max = 4095;  ///< Linux has none above

/// The text before the first blank, which goes with it; everything if there is none.
std::string_view take_word(std::string_view& line) {
  const std::size_t blank = line.find(' ');
  const std::string_view word = line.substr(0, blank);
  line.remove_prefix(blank == std::string_view::npos ? line.size() : blank + 1);
  return word;
}

bool is_token(std::string_view text) {
  return text.size() == forward_token_bytes && std::ranges::all_of(text, [](char byte) {
           return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f');
         });
}

std::optional<std::uint32_t> read_number(std::string_view word, std::uint32_t max) {
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  const bool good = error == std::errc() && end == word.data() + word.size() && number <= max;
  return good ? std::optional(number) : std::nullopt;
}

ParseError not_understood(std::string_view line) {
  return ParseError{
      fmt::format("'{}' is not understood", escape_untrusted(line, forward_line_bytes_max))};
}

std::string format_error(const ForwardError& error) {
  std::string text = escape_untrusted(error.text, error_text_bytes_max);
  if (text.size() > error_text_bytes_max) text.resize(error_text_bytes_max);
  return fmt::format("error {} {}\n", error.error, text);
}

/// What follows "error ".
std::optional<ForwardError> read_error(std::string_view rest) {
  const auto number = read_number(take_word(rest), errno_max);
  if (!number || *number == 0) return std::nullopt;
  return ForwardError{static_cast<int>(*number), escape_untrusted(rest, error_text_bytes_max)};
}

}  // namespace

std::string format_forward(const ForwardRequest& request) {
  std::string line(version_prefix);
  if (const auto* connect = std::get_if<ForwardConnect>(&request)) {
    line += "connect " + connect->address.uri();
  } else if (const auto* take = std::get_if<ForwardTake>(&request)) {
    line += "take " + take->token;
  } else {
    line += "control";
  }
  return line + "\n";
}

std::string format_forward(const ForwardAnswer& answer) {
  if (answer.error) return format_error(*answer.error);
  return answer.token.empty() ? "ok\n" : "ok " + answer.token + "\n";
}

std::string format_forward(const ForwardOrder& order) {
  if (const auto* listen = std::get_if<ForwardListen>(&order)) {
    return fmt::format("listen {} {}\n", listen->number, listen->address.uri());
  }
  if (const auto* unlisten = std::get_if<ForwardUnlisten>(&order)) {
    return fmt::format("unlisten {}\n", unlisten->number);
  }
  if (const auto* reset = std::get_if<ForwardReset>(&order)) return "reset " + reset->token + "\n";
  return "ended " + std::get<ForwardHowEnded>(order).token + "\n";
}

std::string format_forward(const ForwardNews& news) {
  if (const auto* listening = std::get_if<ForwardListening>(&news)) {
    return fmt::format("listening {} {}", listening->number,
                       listening->error ? format_error(*listening->error) : "ok\n");
  }
  if (const auto* accepted = std::get_if<ForwardAccepted>(&news)) {
    return fmt::format("accepted {} {}\n", accepted->number, accepted->token);
  }
  const auto& ended = std::get<ForwardEnded>(news);
  return fmt::format("ended {} {}\n", ended.token, ended.reset ? "reset" : "clean");
}

boost::system::result<ForwardRequest, ForwardError> parse_forward_request(
    std::string_view untrusted_line) {
  if (!untrusted_line.starts_with(request_prefix)) {
    return ForwardError{EPROTO,
                        "this channel is for xenlane forward, and this is no request of it"};
  }
  if (!untrusted_line.starts_with(version_prefix)) {
    return ForwardError{EPROTONOSUPPORT, "this side speaks version 1 of forward only"};
  }
  std::string_view rest = untrusted_line.substr(version_prefix.size());
  const std::string_view verb = take_word(rest);
  if (verb == "control" && rest.empty()) return ForwardRequest(ForwardControl{});
  if (verb == "take" && is_token(rest)) return ForwardRequest(ForwardTake{std::string(rest)});
  if (verb == "connect") {
    auto address = ForwardAddress::parse(rest);
    if (!address) return ForwardError{EINVAL, address.error().text};
    return ForwardRequest(ForwardConnect{std::move(*address)});
  }
  return ForwardError{EPROTO, not_understood(untrusted_line).text};
}

boost::system::result<ForwardAnswer, ParseError> parse_forward_answer(
    std::string_view untrusted_line) {
  std::string_view rest = untrusted_line;
  const std::string_view verb = take_word(rest);
  if (verb == "ok" && (rest.empty() || is_token(rest))) return ForwardAnswer{std::string(rest), {}};
  if (verb == "error") {
    if (auto error = read_error(rest)) return ForwardAnswer{{}, std::move(error)};
  }
  return not_understood(untrusted_line);
}

boost::system::result<ForwardOrder, ParseError> parse_forward_order(
    std::string_view untrusted_line) {
  std::string_view rest = untrusted_line;
  const std::string_view verb = take_word(rest);
  if (verb == "reset" && is_token(rest)) return ForwardOrder(ForwardReset{std::string(rest)});
  if (verb == "ended" && is_token(rest)) return ForwardOrder(ForwardHowEnded{std::string(rest)});
  if (verb == "unlisten") {
    const auto number = read_number(rest, forward_listener_number_max);
    if (number) return ForwardOrder(ForwardUnlisten{*number});
  }
  if (verb == "listen") {
    const auto number = read_number(take_word(rest), forward_listener_number_max);
    auto address = ForwardAddress::parse(rest, true);
    if (number && address) return ForwardOrder(ForwardListen{*number, std::move(*address)});
  }
  return not_understood(untrusted_line);
}

boost::system::result<ForwardNews, ParseError> parse_forward_news(std::string_view untrusted_line) {
  std::string_view rest = untrusted_line;
  const std::string_view verb = take_word(rest);
  if (verb == "ended") {
    const std::string_view token = take_word(rest);
    if (is_token(token) && (rest == "clean" || rest == "reset")) {
      return ForwardNews(ForwardEnded{std::string(token), rest == "reset"});
    }
    return not_understood(untrusted_line);
  }
  const auto number = read_number(take_word(rest), forward_listener_number_max);
  if (!number) return not_understood(untrusted_line);
  if (verb == "accepted" && is_token(rest)) {
    return ForwardNews(ForwardAccepted{*number, std::string(rest)});
  }
  if (verb == "listening" && rest == "ok") return ForwardNews(ForwardListening{*number, {}});
  if (verb == "listening" && take_word(rest) == "error") {
    if (auto error = read_error(rest)) return ForwardNews(ForwardListening{*number, error});
  }
  return not_understood(untrusted_line);
}

bool LineQueue::too_long() const {
  const std::string_view rest = std::string_view(bytes_).substr(begin_);
  return std::min(rest.find('\n'), rest.size()) >= forward_line_bytes_max;
}

bool LineQueue::add(std::string_view untrusted_bytes) {
  bytes_.erase(0, begin_);
  begin_ = 0;
  bytes_ += untrusted_bytes;
  return !too_long();
}

std::optional<std::string> LineQueue::next() {
  if (too_long()) return std::nullopt;
  const std::size_t end = bytes_.find('\n', begin_);
  if (end == std::string::npos) return std::nullopt;
  std::string line = bytes_.substr(begin_, end - begin_);
  begin_ = end + 1;
  return line;
}

std::string LineQueue::take_rest() {
  std::string rest = bytes_.substr(begin_);
  bytes_.clear();
  begin_ = 0;
  return rest;
}

}  // namespace xenlane::bridge
