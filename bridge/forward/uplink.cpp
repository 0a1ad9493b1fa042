#include "bridge/forward/uplink.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <cstring>

#include "bridge/channel/target.hpp"
#include "transport/base/spawn.hpp"

namespace xenlane::bridge {

namespace asio = boost::asio;
using asio::posix::descriptor_base;
using std::chrono::milliseconds;
using transport::UniqueFd;

namespace {

using Descriptor = std::shared_ptr<asio::posix::stream_descriptor>;

/// A bridge whose backlog is full (connect gives EAGAIN) is tried again this often.
constexpr milliseconds busy_retry{5};

/// An errno value when it fails.
int connect_to(const std::string& path, UniqueFd& socket) {
  socket.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return errno;
  if (path.size() > unix_path_bytes_max) return ENAMETOOLONG;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    return 0;
  }
  return errno;
}

/// Waits until there is something to read; false when that took too long or it was closed.
asio::awaitable<bool> await_readable(asio::any_io_executor executor, Descriptor socket,
                                     std::chrono::steady_clock::duration longest) {
  asio::steady_timer timer(executor, longest);
  timer.async_wait([weak = std::weak_ptr(socket)](const auto& error) {
    if (const auto waiting = weak.lock(); waiting && !error) waiting->cancel();
  });
  auto [error] =
      co_await socket->async_wait(descriptor_base::wait_read, asio::as_tuple(asio::use_awaitable));
  co_return !error;
}

}  // namespace

Uplink::Uplink(const asio::any_io_executor& executor, std::string name, std::string socket_path,
               std::function<void(const std::string&)> changed)
    : executor_(executor),
      name_(std::move(name)),
      path_(std::move(socket_path)),
      changed_(std::move(changed)),
      pause_(executor) {}

void Uplink::start() {
  asio::co_spawn(
      executor_, [self = shared_from_this()] { return self->run(); }, transport::or_throw);
}

void Uplink::close() {
  closed_ = true;
  pause_.cancel();
  boost::system::error_code ignored;
  if (control_) control_->close(ignored);
  for (auto& [number, wanted] : listeners_) wanted.timer->cancel();
  for (const auto& signal : waiting_) signal->raise();
}

void Uplink::set_state(bool up, const std::string& reason) {
  up_ = up;
  reason_ = reason;
  const std::string line = up ? name_ + ": up" : fmt::format("{}: down: {}", name_, reason);
  if (std::exchange(last_told_, line) != line && !closed_) changed_(line);
  if (up) {
    for (const auto& signal : waiting_) signal->raise();
  }
}

asio::awaitable<void> Uplink::run() {
  const auto self = shared_from_this();
  milliseconds retry = uplink_retry_min;
  while (!closed_) {
    const std::string why = co_await hold_control();
    if (up_) retry = uplink_retry_min;
    control_.reset();
    set_state(false, why);
    // Whoever asked is told that nobody knows.
    auto asked = std::move(asked_);
    asked_.clear();
    for (auto& [token, told] : asked) told(true);
    if (closed_) break;
    pause_.expires_after(retry);
    retry = std::min(retry * 2, uplink_retry_max);
    co_await pause_.async_wait(asio::as_tuple(asio::use_awaitable));
  }
}

// Until the control stream ends; why it did.
asio::awaitable<std::string> Uplink::hold_control() {
  OpenedForward opened = co_await attempt(ForwardControl{});
  if (opened.error) co_return opened.error->text;
  if (closed_) co_return "closed";
  const auto control =
      std::make_shared<asio::posix::stream_descriptor>(executor_, opened.socket.release());
  control_ = control;
  unsaid_.clear();
  writing_ = false;
  set_state(true, {});
  for (const auto& [number, wanted] : listeners_) ask_to_listen(number);
  LineQueue lines;
  bool good = lines.add(opened.rest);
  std::array<char, 4096> bytes;
  while (good && !closed_) {
    while (const auto line = lines.next()) {
      const auto news = parse_forward_news(*line);
      if (!news) co_return "the far side says what is not understood: " + news.error().text;
      handle(*news);
    }
    auto [error] = co_await control->async_wait(descriptor_base::wait_read,
                                                asio::as_tuple(asio::use_awaitable));
    if (error) break;
    const ssize_t got = ::recv(control->native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got <= 0) break;
    good = lines.add({bytes.data(), static_cast<std::size_t>(got)});
  }
  co_return "the session ended, or the channel changed";
}

// One stream, one request. Failures that may pass have no errno value of the far side's (0).
asio::awaitable<OpenedForward> Uplink::attempt(ForwardRequest request) {
  const auto failed = [](int error, std::string text) {
    return OpenedForward{{}, {}, {}, ForwardError{error, std::move(text)}};
  };
  const auto end = Clock::now() + uplink_answer_wait;
  UniqueFd socket;
  int error = connect_to(path_, socket);
  asio::steady_timer pause(executor_);
  while (error == EAGAIN && Clock::now() < end && !closed_) {
    pause.expires_after(busy_retry);
    co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
    error = connect_to(path_, socket);
  }
  if (error != 0) co_return failed(0, fmt::format("{}: {}", path_, std::strerror(error)));
  const auto stream = std::make_shared<asio::posix::stream_descriptor>(executor_, socket.release());
  const std::string line = format_forward(request);
  // The new socket's empty buffer takes it whole.
  const ssize_t sent =
      ::send(stream->native_handle(), line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent != static_cast<ssize_t>(line.size())) {
    co_return failed(0, path_ + ": the bridge closed the connection");
  }
  LineQueue lines;
  std::array<char, 4096> bytes;
  for (;;) {
    if (!co_await await_readable(executor_, stream, end - Clock::now())) {
      co_return failed(0, "no answer from the far side");
    }
    const ssize_t got = ::recv(stream->native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got <= 0) {
      co_return failed(0, "no session, or the far side has no such channel; see 'xenlane status'");
    }
    // Behind the answer may come more than a line's worth of the connection.
    const bool has_line = lines.add({bytes.data(), static_cast<std::size_t>(got)});
    const auto answer_line = lines.next();
    if (!answer_line && has_line) continue;
    const auto answer =
        answer_line
            ? parse_forward_answer(*answer_line)
            : boost::system::result<ForwardAnswer, ParseError>(ParseError{"an answer without end"});
    if (!answer) co_return failed(EPROTO, "the far side is no xenlane forward");
    if (answer->error) co_return failed(answer->error->error, answer->error->text);
    co_return OpenedForward{UniqueFd(stream->release()), answer->token, lines.take_rest(), {}};
  }
}

asio::awaitable<OpenedForward> Uplink::open(ForwardRequest request, Clock::time_point deadline,
                                            bool refuse) {
  const auto self = shared_from_this();
  milliseconds retry = uplink_retry_min;
  OpenedForward opened;
  for (;;) {
    if (up_) {
      opened = co_await attempt(request);
      if (!opened.error || opened.error->error != 0) co_return opened;
    } else {
      opened.error = ForwardError{0, reason_};
    }
    // It is not there, or not any more.
    opened.error->error = ENOTCONN;
    if (refuse || closed_ || Clock::now() >= deadline) co_return opened;
    const auto turn = std::make_shared<transport::Signal>(executor_);
    const auto place = waiting_.insert(waiting_.end(), turn);
    const Clock::duration left = deadline - Clock::now();
    const Clock::duration longest = up_ ? std::min<Clock::duration>(retry, left) : left;
    retry = std::min(retry * 2, uplink_retry_max);
    co_await turn->wait_for(longest);
    waiting_.erase(place);
  }
}

bool Uplink::say(const ForwardOrder& order) {
  if (!up_ || !control_) return false;
  unsaid_ += format_forward(order);
  if (!writing_) flush();
  return true;
}

void Uplink::flush() {
  boost::system::error_code ignored;
  const auto control = control_;
  const ssize_t sent =
      ::send(control->native_handle(), unsaid_.data(), unsaid_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent > 0) unsaid_.erase(0, static_cast<std::size_t>(sent));
  if (unsaid_.empty()) return;
  const bool is_over = sent < 0 && errno != EAGAIN && errno != EINTR;
  if (is_over || unsaid_.size() > uplink_unsaid_bytes_max) {
    control->cancel(ignored);  // whoever reads it notices
    return;
  }
  writing_ = true;
  control->async_wait(descriptor_base::wait_write,
                      [self = shared_from_this(), control](const auto& error) {
                        if (self->control_ != control) return;
                        self->writing_ = false;
                        if (!error) self->flush();
                      });
}

bool Uplink::reset(const std::string& token) {
  return say(ForwardReset{token});
}

void Uplink::ask_how_ended(const std::string& token, std::function<void(bool)> told) {
  if (!say(ForwardHowEnded{token})) return told(true);
  asked_[token] = std::move(told);
}

void Uplink::handle(const ForwardNews& news) {
  if (const auto* ended = std::get_if<ForwardEnded>(&news)) {
    auto node = asked_.extract(ended->token);
    if (!node.empty()) node.mapped()(ended->reset);
  } else if (const auto* accepted = std::get_if<ForwardAccepted>(&news)) {
    const auto found = listeners_.find(accepted->number);
    if (found != listeners_.end()) found->second.listener.accepted(accepted->token);
  } else {
    handle_listening(std::get<ForwardListening>(news));
  }
}

void Uplink::handle_listening(const ForwardListening& news) {
  const auto found = listeners_.find(news.number);
  if (found == listeners_.end()) return;
  Wanted& wanted = found->second;
  wanted.listener.changed(news.error);
  if (!news.error) {
    wanted.retry = uplink_retry_min;
    return;
  }
  wanted.timer->expires_after(wanted.retry);
  wanted.retry = std::min(wanted.retry * 2, uplink_retry_max);
  wanted.timer->async_wait([self = shared_from_this(), number = news.number](const auto& error) {
    if (!error && self->listeners_.contains(number)) self->ask_to_listen(number);
  });
}

void Uplink::ask_to_listen(std::uint32_t number) {
  say(ForwardListen{number, listeners_.at(number).listener.address});
}

std::uint32_t Uplink::add_listener(Listener listener) {
  const std::uint32_t number = next_number_++;
  listeners_.emplace(number, Wanted{std::move(listener), uplink_retry_min,
                                    std::make_shared<asio::steady_timer>(executor_)});
  if (up_) ask_to_listen(number);
  return number;
}

void Uplink::remove_listener(std::uint32_t number) {
  const auto found = listeners_.find(number);
  if (found == listeners_.end()) return;
  found->second.timer->cancel();
  listeners_.erase(found);
  say(ForwardUnlisten{number});
}

}  // namespace xenlane::bridge
