// The local side of the channels: accepting connections, dialling targets, pairing ports.
#include <fmt/format.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>
#include <cstring>

#include "bridge/channel/channel_table.hpp"

namespace xenlane::bridge {

namespace asio = boost::asio;
using transport::UniqueFd;

namespace {

/// How long to wait before trying again when the process is out of descriptors.
constexpr std::chrono::milliseconds descriptor_retry{100};
/// A target whose backlog is full (connect gives EAGAIN) is tried again this often.
constexpr std::chrono::milliseconds dial_retry{5};

/// A connected, non-blocking socket, or why not.
boost::system::result<UniqueFd> connect_once(const std::string& path) {
  const auto failed = [] {
    return boost::system::error_code(errno, boost::system::generic_category());
  };
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return failed();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return failed();
  }
  return socket;
}

/// An application that connected and left again without a byte has nothing to pair.
bool left_without_a_byte(int socket) {
  pollfd poll{socket, POLLIN, 0};
  ::poll(&poll, 1, 0);
  if ((poll.revents & POLLHUP) == 0) return false;
  char byte = 0;
  return ::recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
}

}  // namespace

void ChannelTable::add(ChannelConfig config, std::string socket_path, UniqueFd listener) {
  auto& channel =
      *channels_.emplace_back(std::make_unique<Channel>(executor_, std::move(config)));
  channel.socket_path = std::move(socket_path);
  channel.listener = std::move(listener);
  if (channel.listener) {
    asio::co_spawn(executor_, accept_connections(channel), asio::detached);
  }
}

bool ChannelTable::may_accept(const Channel& channel) {
  Mux* current = mux();
  if (current == nullptr) return refusing_;
  if (role_ == Role::host && channel.config.end == EndKind::port) {
    return channel.waiting_local.size() < port_waiting_max;
  }
  return current->can_open();
}

asio::awaitable<void> ChannelTable::accept_connections(Channel& channel) {
  const auto alive = alive_;
  asio::posix::stream_descriptor listener(executor_, channel.listener.release());
  asio::steady_timer pause(executor_);
  while (*alive) {
    while (*alive && !may_accept(channel)) co_await channel.may_accept.wait();
    if (!*alive) co_return;
    auto [error] = co_await listener.async_wait(asio::posix::descriptor_base::wait_read,
                                                asio::as_tuple(asio::use_awaitable));
    if (error || !*alive) co_return;
    if (!may_accept(channel)) continue;
    UniqueFd socket(
        ::accept4(listener.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket) {
      handle_local_connection(channel, std::move(socket));
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      spdlog::warn("{}: cannot accept: {}; raise the limit on open files",
                   channel.config.name.text(), std::strerror(errno));
      pause.expires_after(descriptor_retry);
      co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
    }
  }
}

void ChannelTable::refuse_local(Channel& channel, int error, std::string message) {
  ++channel.stats.refused;
  channel.stats.last_refusal = {error, std::move(message)};
}

void ChannelTable::handle_local_connection(Channel& channel, UniqueFd socket) {
  Mux* current = mux();
  if (current == nullptr) {
    refuse_local(channel, ENOTCONN, fmt::format("no session with {}: {}", peer_name_, down_reason_));
    return;  // closes the socket
  }
  if (role_ == Role::host && channel.config.end == EndKind::port) {
    channel.waiting_local.push_back(std::move(socket));
    pair_port(channel);
    return;
  }
  const EndShape shape =
      channel.config.end == EndKind::port ? EndShape::port : EndShape::service;
  const StreamId id = current->open(shape, channel.config.name.text());
  join(id, channel, std::move(socket));
}

void ChannelTable::join(StreamId id, Channel& channel, UniqueFd socket) {
  auto connection = std::make_shared<Connection>(executor_, std::move(socket), id,
                                                 static_cast<ConnectionOwner&>(*this));
  connections_.emplace(id, Joined{std::move(connection), &channel});
  ++channel.stats.open;
  ++channel.stats.opened;
  // Whoever connects mostly writes next: try to read before waiting for news.
  mux()->source_ready(id);
  driver_->wake();
}

void ChannelTable::join_incoming(StreamId id, UniqueFd socket) {
  auto node = incoming_.extract(id);
  Incoming& stream = node.mapped();
  join(id, *stream.channel, std::move(socket));
  const auto connection = connections_.at(id).connection;
  if (!stream.early.empty()) deliver(id, {stream.early.front(), {}});
  if (stream.finished && connections_.contains(id)) connection->finish_writing();
}

void ChannelTable::refuse_incoming(StreamId id, int error, const std::string& message) {
  auto node = incoming_.extract(id);
  const Incoming& stream = node.mapped();
  refuse_local(*stream.channel, error, message);
  spdlog::info("{}: refused {}: {}", peer_name_, stream.channel->config.name.text(), message);
  if (!stream.early.empty()) mux()->delivered(id, stream.early.size());
  mux()->refuse(id, static_cast<std::uint16_t>(error), message);
  driver_->wake();
}

asio::awaitable<void> ChannelTable::dial(StreamId id, Channel& channel, std::uint64_t session) {
  const auto alive = alive_;
  const std::string path = channel.config.target->path();
  const auto end = std::chrono::steady_clock::now() + dial_deadline_;
  asio::steady_timer pause(executor_);
  for (;;) {
    auto socket = connect_once(path);
    const bool wanted = *alive && session == session_count_ && incoming_.contains(id) &&
                        mux_of(id) != nullptr;
    if (!wanted) co_return;
    if (socket) {
      mux()->accept(id);
      join_incoming(id, std::move(*socket));
      co_return;
    }
    if (socket.error().value() != EAGAIN || std::chrono::steady_clock::now() >= end) {
      refuse_incoming(id, socket.error().value(),
                      fmt::format("unix:{}: {}", path, std::strerror(socket.error().value())));
      co_return;
    }
    pause.expires_after(dial_retry);
    co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
    if (!*alive) co_return;
  }
}

void ChannelTable::pair_port(Channel& channel) {
  while (!channel.waiting_local.empty() && !channel.waiting_remote.empty()) {
    UniqueFd local = std::move(channel.waiting_local.front());
    channel.waiting_local.pop_front();
    if (left_without_a_byte(local.get())) continue;
    const StreamId remote = channel.waiting_remote.front();
    channel.waiting_remote.pop_front();
    join_incoming(remote, std::move(local));
  }
  channel.may_accept.raise();
}

}  // namespace xenlane::bridge
