#include "bridge/channel/connect_door.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <cstring>
#include <optional>

#include "bridge/channel/access.hpp"
#include "transport/base/spawn.hpp"

namespace xenlane::bridge {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using transport::UniqueFd;

namespace {

using asio::posix::descriptor_base;

constexpr auto as_result = asio::as_tuple(asio::use_awaitable);

/// How long to wait before trying again when the process is out of descriptors.
constexpr milliseconds accept_retry{100};

/// A client that has said its line, or not.
struct Visitor {
  UniqueFd socket;
  std::string untrusted_line;  ///< without its newline
  std::string wrong = {};      ///< why there is no line; empty when there is
};

/// Takes what is there of the line and nothing behind it. True when the line is whole, or cannot
/// become one.
bool take_line(int socket, Visitor& visitor) {
  std::array<char, connect_line_bytes_max> bytes;
  const std::size_t room = bytes.size() - visitor.untrusted_line.size();
  // What is behind the newline is the channel's. It is looked at here, but stays where it is.
  const ssize_t seen = ::recv(socket, bytes.data(), room, MSG_PEEK | MSG_DONTWAIT);
  if (seen < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (seen <= 0) {
    visitor.wrong = "the client left before it had said where to";
    return true;
  }
  const std::string_view untrusted(bytes.data(), static_cast<std::size_t>(seen));
  const std::size_t newline = untrusted.find('\n');
  const bool whole = newline != std::string_view::npos;
  const std::size_t taken = whole ? newline + 1 : untrusted.size();
  ::recv(socket, bytes.data(), taken, MSG_DONTWAIT);
  visitor.untrusted_line.append(untrusted.substr(0, whole ? newline : taken));
  if (!whole && visitor.untrusted_line.size() == connect_line_bytes_max) {
    visitor.wrong = fmt::format("the line is longer than {} bytes", connect_line_bytes_max);
    return true;
  }
  return whole;
}

asio::awaitable<Visitor> await_line(asio::any_io_executor executor, UniqueFd socket,
                                    milliseconds deadline) {
  auto client = std::make_shared<asio::posix::stream_descriptor>(executor, socket.release());
  asio::steady_timer timer(executor, deadline);
  timer.async_wait([weak = std::weak_ptr(client)](const auto& error) {
    if (const auto waiting = weak.lock(); waiting && !error) waiting->cancel();
  });
  Visitor visitor;
  while (!take_line(client->native_handle(), visitor)) {
    auto [error] = co_await client->async_wait(descriptor_base::wait_read, as_result);
    if (error) {
      visitor.wrong = fmt::format("the client said no line within {} ms", deadline.count());
      break;
    }
  }
  visitor.socket.reset(client->release());
  co_return visitor;
}

/// Why a client is not let in, as it is counted and logged.
struct TurnedAway {
  int error;
  std::string why;
};

/// Whether these channels' own socket would take this client.
std::optional<TurnedAway> objection(const Channel* channel, const LocalUser& who) {
  if (channel == nullptr) return TurnedAway{ENOENT, "no such channel here"};
  if (!channel->config.error.empty()) return TurnedAway{ENODEV, "the channel is disabled here"};
  struct stat file {};
  if (channel->socket_path.empty() || ::lstat(channel->socket_path.c_str(), &file) != 0) {
    return TurnedAway{ENOENT, "the channel has no socket on this side"};
  }
  if (!may_write(who, file.st_mode, file.st_uid, file.st_gid)) {
    return TurnedAway{EACCES,
                      fmt::format("user {} may not write to {}", who.uid, channel->socket_path)};
  }
  if (channel->config.socket != SocketKind::stream) {
    return TurnedAway{EPROTOTYPE, "the channel carries messages, and this socket streams"};
  }
  return std::nullopt;
}

}  // namespace

struct ConnectDoor::State {
  State(const asio::any_io_executor& on, UniqueFd socket, ChannelTable& of, ConnectNumbers mapped,
        milliseconds within)
      : executor(on),
        listener(on, socket.release()),
        table(of),
        numbers(std::move(mapped)),
        line_deadline(within),
        room(on) {}

  void turn_away(Channel* channel, const LocalUser& who, const std::string& asked,
                 const TurnedAway& reason);

  static asio::awaitable<void> accept(std::shared_ptr<State> self);
  static asio::awaitable<void> serve(std::shared_ptr<State> self, UniqueFd socket);

  asio::any_io_executor executor;
  asio::posix::stream_descriptor listener;
  ChannelTable& table;  ///< gone when not open
  ConnectNumbers numbers;
  milliseconds line_deadline;
  transport::Signal room;  ///< raised when there may be some again
  std::size_t visitors = 0;
  LogBudget lines;  ///< how many, is for local programs to decide
  bool open = true;
};

ConnectDoor::ConnectDoor(const asio::any_io_executor& executor, UniqueFd listener,
                         ChannelTable& table, ConnectNumbers numbers, milliseconds line_deadline)
    : state_(std::make_shared<State>(executor, std::move(listener), table, std::move(numbers),
                                     line_deadline)) {
  asio::co_spawn(executor, State::accept(state_), transport::or_throw);
}

ConnectDoor::~ConnectDoor() {
  state_->open = false;
  boost::system::error_code ignored;
  state_->listener.close(ignored);
  state_->room.raise();
}

asio::awaitable<void> ConnectDoor::State::accept(std::shared_ptr<State> self) {
  asio::steady_timer pause(self->executor);
  while (self->open) {
    if (self->visitors >= connect_visitors_max) {
      co_await self->room.wait();
      continue;
    }
    auto [error] = co_await self->listener.async_wait(descriptor_base::wait_read, as_result);
    if (error || !self->open) co_return;
    UniqueFd socket(
        ::accept4(self->listener.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket) {
      ++self->visitors;
      asio::co_spawn(self->executor, serve(self, std::move(socket)), transport::or_throw);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      spdlog::warn("{}: cannot accept: {}; raise the limit on open files", connect_socket_name,
                   std::strerror(errno));
      pause.expires_after(accept_retry);
      co_await pause.async_wait(as_result);
    }
  }
}

asio::awaitable<void> ConnectDoor::State::serve(std::shared_ptr<State> self, UniqueFd socket) {
  const LocalUser who = user_of(socket.get());
  Visitor visitor = co_await await_line(self->executor, std::move(socket), self->line_deadline);
  const auto leave = [&self] {
    --self->visitors;
    self->room.raise();
  };
  if (!self->open) co_return;
  if (!visitor.wrong.empty()) {
    self->turn_away(nullptr, who, "", {EPROTO, visitor.wrong});
    co_return leave();
  }
  const auto request = parse_connect_request(visitor.untrusted_line, self->numbers);
  if (!request) {
    self->turn_away(nullptr, who, "", {EINVAL, request.error().text});
    co_return leave();
  }
  const std::string name = request->channel.text();
  if (const auto reason = objection(self->table.find(name), who)) {
    self->turn_away(self->table.find(name), who, name, *reason);
    co_return leave();
  }
  const bool has_room = co_await self->table.await_room(name, connect_line_deadline);
  if (!self->open) co_return;
  leave();
  Channel* const channel = self->table.find(name);
  if (channel == nullptr || !has_room) {
    self->turn_away(channel, who, name, {EAGAIN, "too many connections"});
    co_return;
  }
  // It may have changed meanwhile.
  if (const auto reason = objection(channel, who)) {
    self->turn_away(channel, who, name, *reason);
    co_return;
  }
  LocalEnd local{std::move(visitor.socket), who.pid, who.uid,
                 fmt::format("OK {}\n", request->asked)};
  self->table.connect(*channel, std::move(local));
}

void ConnectDoor::State::turn_away(Channel* channel, const LocalUser& who, const std::string& asked,
                                   const TurnedAway& reason) {
  if (lines.allows()) {
    spdlog::info("{}: turned away process {} of user {}{}{}: {}{}", connect_socket_name, who.pid,
                 who.uid, asked.empty() ? "" : " from ", asked, reason.why, lines.note());
  }
  table.turn_away(channel, who.pid, reason.error, reason.why);
}

}  // namespace xenlane::bridge
