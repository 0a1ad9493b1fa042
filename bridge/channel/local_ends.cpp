// The local side of the channels: accepting connections, dialling targets, pairing ports.
#include <fmt/format.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>
#include <cstring>

#include "bridge/channel/channel_table.hpp"
#include "transport/base/spawn.hpp"

namespace xenlane::bridge {

namespace asio = boost::asio;
using transport::UniqueFd;

namespace {

/// How long to wait before trying again when the process is out of descriptors.
constexpr std::chrono::milliseconds descriptor_retry{100};
/// An application that connected and left again without a byte has nothing to pair.
bool left_without_a_byte(int socket) {
  pollfd poll{socket, POLLIN, 0};
  ::poll(&poll, 1, 0);
  if ((poll.revents & POLLHUP) == 0) return false;
  char byte = 0;
  return ::recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
}

}  // namespace

// Of the program at the other end as it was when it connected.
LocalEnd LocalEnd::of(UniqueFd socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  LocalEnd local{std::move(socket)};
  if (::getsockopt(local.socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return local;
  }
  local.pid = credentials.pid;
  local.uid = credentials.uid;
  return local;
}

void ChannelTable::add(ChannelConfig config, std::string socket_path, UniqueFd listener) {
  auto& channel = *channels_.emplace_back(std::make_unique<Channel>(executor_, std::move(config)));
  by_name_.emplace(channel.config.name.text(), &channel);
  channel.socket_path = std::move(socket_path);
  channel.listener = std::move(listener);
  if (channel.listener) {
    asio::co_spawn(executor_, accept_connections(channel), transport::or_throw);
  }
}

bool ChannelTable::may_accept(const Channel& channel) {
  Mux* current = mux();
  if (current == nullptr) return refusing_;
  if (session_.role() == Role::host && channel.config.end == EndKind::port) {
    return channel.waiting_local.size() < port_waiting_max;
  }
  return current->can_open();
}

asio::awaitable<void> ChannelTable::accept_connections(Channel& channel) {
  const auto alive = alive_;
  asio::posix::stream_descriptor listener(executor_, channel.listener.release());
  asio::steady_timer pause(executor_);
  while (*alive) {
    while (*alive && !may_accept(channel)) {
      ++accepts_held_;
      co_await channel.may_accept.wait();
      if (!*alive) co_return;
      --accepts_held_;
    }
    if (!*alive) co_return;
    auto [error] = co_await listener.async_wait(asio::posix::descriptor_base::wait_read,
                                                asio::as_tuple(asio::use_awaitable));
    if (error || !*alive) co_return;
    if (!may_accept(channel)) continue;
    UniqueFd socket(
        ::accept4(listener.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket) {
      connect(channel, LocalEnd::of(std::move(socket)));
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      spdlog::warn("{}: cannot accept: {}; raise the limit on open files",
                   channel.config.name.text(), std::strerror(errno));
      pause.expires_after(descriptor_retry);
      co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
    }
  }
}

void ChannelTable::connect(Channel& channel, LocalEnd local) {
  Mux* current = mux();
  if (current == nullptr) {
    end_badly(channel, {true, local.pid, ENOTCONN,
                        fmt::format("no session with {}: {}", peer_name_, down_reason_)});
    return;  // closes the socket
  }
  const SocketKind kind = channel.config.socket;
  if (!current->speaks(kind)) {
    end_badly(channel, {true, local.pid, EPROTONOSUPPORT,
                        fmt::format("{} speaks version {} of the protocol, in which there are no "
                                    "messages; upgrade it",
                                    peer_name_, current->version())});
    return;
  }
  if (session_.role() == Role::host && channel.config.end == EndKind::port) {
    channel.waiting_local.push_back(std::move(local));
    pair_port(channel);
    return;
  }
  const EndShape shape = channel.config.end == EndKind::port ? EndShape::port : EndShape::service;
  const StreamId id = current->open(shape, channel.config.name.text(), kind, local.uid);
  join(id, channel, std::move(local));
  expect_answer(id);
}

asio::awaitable<bool> ChannelTable::await_room(std::string name, std::chrono::milliseconds limit) {
  const auto alive = alive_;
  const auto end = std::chrono::steady_clock::now() + limit;
  for (;;) {
    Channel* const channel = find(name);
    if (channel == nullptr) co_return false;
    if (may_accept(*channel)) co_return true;
    const auto left = end - std::chrono::steady_clock::now();
    if (left <= left.zero()) co_return false;
    transport::Signal turn(executor_);
    ++accepts_held_;
    const auto place = visitors_.insert(visitors_.end(), &turn);
    co_await turn.wait_for(left);
    if (!*alive) co_return false;
    visitors_.erase(place);
    --accepts_held_;
  }
}

void ChannelTable::turn_away(Channel* channel, pid_t pid, int error, std::string message) {
  ++turned_away_;
  if (channel != nullptr) end_badly(*channel, {true, pid, error, std::move(message)});
}

bool ChannelTable::awaits_answer(StreamId id) const {
  const auto found = connections_.find(id);
  return found != connections_.end() && !found->second.answered;
}

void ChannelTable::expect_answer(StreamId id) {
  connections_.at(id).answered = false;
  while (!answers_due_.empty() && !awaits_answer(answers_due_.front().second)) {
    answers_due_.pop_front();
  }
  answers_due_.emplace_back(std::chrono::steady_clock::now() + answer_wait_limit_, id);
  limit_answer_wait();
}

// One timer for all of them: they are due in the order in which they were asked for.
void ChannelTable::limit_answer_wait() {
  if (answer_timed_ || answers_due_.empty()) return;
  answer_timed_ = true;
  answer_wait_.expires_at(answers_due_.front().first);
  answer_wait_.async_wait([this, alive = alive_](const auto& error) {
    if (error || !*alive) return;
    answer_timed_ = false;
    refuse_unanswered();
    limit_answer_wait();
  });
}

void ChannelTable::refuse_unanswered() {
  const auto now = std::chrono::steady_clock::now();
  while (!answers_due_.empty()) {
    const auto [due, id] = answers_due_.front();
    if (awaits_answer(id)) {
      if (due > now) return;
      const Joined joined = part(id);
      end_badly(*joined.channel, {true, joined.pid, ETIMEDOUT,
                                  fmt::format("{} did not answer within {} ms", peer_name_,
                                              answer_wait_limit_.count())});
      if (Mux* current = mux_of(id)) current->reset(id, StreamError::cancelled);
      joined.connection->close();
      session_.wake();
    }
    answers_due_.pop_front();
  }
}

void ChannelTable::join(StreamId id, Channel& channel, LocalEnd local,
                        std::shared_ptr<Program> program) {
  auto connection =
      std::make_shared<Connection>(executor_, std::move(local.socket), id,
                                   static_cast<ConnectionOwner&>(*this), channel.config.socket);
  connections_.emplace(id, Joined{std::move(connection), &channel, local.pid, true,
                                  std::move(local.greeting), std::move(program)});
  ++channel.stats.open;
  ++channel.stats.opened;
  if (channel.config.lane == LanePreference::vchan) ++eager_;
  if (channel.config.lane == LanePreference::console) mux()->set_weightless(id);
  // Whoever connects mostly writes next: try to read before waiting for news.
  handle_readable(id);
}

// Nothing was delivered before, so it comes first. False when the connection is gone with it.
bool ChannelTable::greet(StreamId id) {
  Joined& joined = connections_.at(id);
  const std::string greeting = std::exchange(joined.greeting, {});
  if (greeting.empty() || joined.connection->send_first(greeting)) return true;
  if (Mux* current = mux_of(id)) current->reset(id, StreamError::broken);
  break_stream(id, EPIPE, "the local program did not wait for the answer");
  return false;
}

void ChannelTable::join_incoming(StreamId id, LocalEnd local, std::shared_ptr<Program> program) {
  auto node = incoming_.extract(id);
  Incoming& stream = node.mapped();
  join(id, *stream.channel, std::move(local), std::move(program));
  const auto connection = connections_.at(id).connection;
  if (!greet(id)) {
    if (!stream.early.empty()) mux()->delivered(id, stream.early.size());
    return;
  }
  if (!stream.early.empty()) deliver(id, {stream.early.front(), {}});
  if (stream.finished && connections_.contains(id)) connection->finish_writing();
  // The peer may have ended the stream altogether while it waited for its partner.
  if (stream.stopped && connections_.contains(id)) connection->stop_reading();
}

void ChannelTable::refuse_incoming(StreamId id, int error, const std::string& message) {
  auto node = incoming_.extract(id);
  const Incoming& stream = node.mapped();
  end_badly(*stream.channel, {true, 0, error, message});
  log_refusal(stream.channel->config.name.text(), message);
  if (!stream.early.empty()) mux()->delivered(id, stream.early.size());
  mux()->refuse(id, static_cast<std::uint16_t>(error), message);
  session_.wake();
}

Caller ChannelTable::caller_of(const Channel& channel, StreamId id,
                               std::uint32_t untrusted_uid) const {
  return {channel.config.name.text(),
          peer_name_,
          identity_.domid,
          identity_.uuid,
          untrusted_uid,
          fmt::format("{}-{}", to_hex(session_.id()), id)};
}

asio::awaitable<void> ChannelTable::dial(StreamId id, Channel& channel, std::uint64_t session) {
  const auto wanted = [this, alive = alive_, id, session] {
    return *alive && session == session_count_ && incoming_.contains(id) && mux_of(id) != nullptr;
  };
  const ChannelConfig& config = channel.config;
  DialOrder order{*config.target,        config.socket,
                  config.proxy_protocol, config.run_as,
                  config.exec_max,       caller_of(channel, id, incoming_.at(id).untrusted_uid)};
  auto dialled = co_await dialer_.dial(std::move(order), wanted);
  if (!wanted()) {
    if (dialled && dialled->program) dialled->program->hang_up();
    co_return;
  }
  if (dialled) {
    mux()->accept(id);
    join_incoming(id, LocalEnd{std::move(dialled->socket)}, std::move(dialled->program));
  } else {
    refuse_incoming(id, dialled.error().error, dialled.error().text);
  }
}

void ChannelTable::pair_port(Channel& channel) {
  while (!channel.waiting_local.empty() && !channel.waiting_remote.empty()) {
    LocalEnd local = std::move(channel.waiting_local.front());
    channel.waiting_local.pop_front();
    if (left_without_a_byte(local.socket.get())) continue;
    const StreamId remote = channel.waiting_remote.front();
    channel.waiting_remote.pop_front();
    join_incoming(remote, std::move(local));
  }
  raise_all();
}

}  // namespace xenlane::bridge
