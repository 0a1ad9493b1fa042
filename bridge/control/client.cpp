#include "bridge/control/client.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include "bridge/channel/target.hpp"
#include "bridge/control/protocol.hpp"

namespace xenlane::bridge {
namespace {

using Clock = std::chrono::steady_clock;
using Kind = ControlError::Kind;

ControlError failed(std::string text) {
  return {Kind::failed, std::move(text)};
}

ControlError from_errno(int error) {
  const std::string text = std::generic_category().message(error);
  switch (error) {
    case ENOENT:
    case ECONNREFUSED:
      return {Kind::no_daemon, text};
    case EACCES:
    case EPERM:
      return {Kind::not_permitted, text};
    default:
      return failed(text);
  }
}

/// Waits for `events` until `end`; false at the deadline.
bool wait_for(int fd, short events, Clock::time_point end) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
    if (left <= 0) return false;
    pollfd waiting = {fd, events, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(left));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

boost::system::result<void, ControlError> send_all(int fd, std::string_view bytes,
                                                   Clock::time_point end) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN) {
      if (!wait_for(fd, POLLOUT, end)) return failed("no answer in time");
    } else if (errno != EINTR) {
      return failed(std::generic_category().message(errno));
    }
  }
  return {};
}

boost::system::result<std::string, ControlError> receive_line(int fd, Clock::time_point end) {
  std::string line;
  std::array<char, 16384> chunk;
  for (;;) {
    if (!wait_for(fd, POLLIN, end)) return failed("no answer in time");
    const ssize_t got = ::recv(fd, chunk.data(), chunk.size(), MSG_DONTWAIT);
    if (got == 0) return failed("the connection was closed before the reply was complete");
    if (got < 0) {
      if (errno == EAGAIN || errno == EINTR) continue;
      return failed(std::generic_category().message(errno));
    }
    const std::string_view bytes(chunk.data(), static_cast<std::size_t>(got));
    const std::size_t newline = bytes.find('\n');
    line += bytes.substr(0, newline);
    if (newline != std::string_view::npos) return line;
    if (line.size() >= control_reply_bytes_max) return failed("the reply is too long");
  }
}

}  // namespace

void throw_exception_from_error(const ControlError& error,
                                const boost::source_location& /*where*/) {
  throw std::runtime_error(error.text);
}

boost::system::result<transport::UniqueFd, ControlError> connect_unix(
    const std::string& path, std::chrono::milliseconds deadline) {
  if (path.size() > unix_path_bytes_max) return from_errno(ENAMETOOLONG);
  transport::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return from_errno(errno);
  // A Unix socket's connect() waits, when the listener's backlog is full, for as long as a send
  // may take: that timeout is the only way to bound it.
  const auto seconds = std::chrono::floor<std::chrono::seconds>(deadline);
  const auto rest = std::chrono::microseconds(deadline - seconds);
  const timeval timeout = {seconds.count(), rest.count()};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(static_cast<char*>(address.sun_path), path.data(), path.size());
  int result = 0;
  do {
    result = ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  } while (result < 0 && errno == EINTR);
  if (result < 0) {
    if (errno == EAGAIN) return failed("no answer in time");
    return from_errno(errno);
  }
  const timeval none = {0, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
  return fd;
}

boost::system::result<boost::json::object, ControlError> control_request(
    const std::string& path, const std::string& op, std::chrono::milliseconds deadline) {
  return control_request(path, boost::json::object{{"op", op}}, deadline);
}

boost::system::result<boost::json::object, ControlError> control_request(
    const std::string& path, boost::json::object request, std::chrono::milliseconds deadline) {
  auto answered = control_converse(path, std::move(request), deadline);
  if (!answered) return answered.error();
  return std::move(answered->reply);
}

boost::system::result<ControlConversation, ControlError> control_converse(
    const std::string& path, boost::json::object request, std::chrono::milliseconds deadline) {
  const Clock::time_point end = Clock::now() + deadline;
  auto fd = connect_unix(path, deadline);
  if (!fd) return fd.error();
  request["v"] = control_version;
  auto sent = send_all(fd->get(), boost::json::serialize(request) + '\n', end);
  if (!sent) return sent.error();
  auto line = receive_line(fd->get(), end);
  if (!line) return line.error();
  auto reply = parse_control_reply(*line);
  if (!reply) return reply.error();
  return ControlConversation{std::move(*reply), std::move(*fd)};
}

boost::system::result<boost::json::object, ControlError> parse_control_reply(
    std::string_view untrusted_line) {
  boost::system::error_code error;
  boost::json::value reply = boost::json::parse(untrusted_line, error);
  if (error || !reply.is_object()) return failed("the reply is not a JSON object");
  boost::json::object& object = reply.get_object();
  if (json_number(object, "v") != control_version) return failed("the reply has another version");
  const boost::json::value* ok = object.if_contains("ok");
  if (ok == nullptr || !ok->is_bool() || !ok->get_bool()) {
    const boost::json::object* reported = json_object(object, "error");
    const std::string message = reported == nullptr ? "" : json_text(*reported, "message");
    ControlError refusal =
        failed(message.empty() ? "the request failed"
                               : escape_untrusted(message, control_error_bytes_max));
    if (reported != nullptr) refusal.code = json_text(*reported, "code");
    return refusal;
  }
  return std::move(object);
}

}  // namespace xenlane::bridge
