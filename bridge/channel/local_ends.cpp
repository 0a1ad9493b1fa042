// The local side of the channels: accepting connections, dialling targets, pairing ports.
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>
#include <cstring>

#include "bridge/channel/access.hpp"
#include "bridge/channel/channel_table.hpp"
#include "transport/base/spawn.hpp"

namespace xenlane::bridge {

namespace asio = boost::asio;
using transport::UniqueFd;

namespace {

/// How long to wait before trying again when the process is out of descriptors.
constexpr std::chrono::milliseconds descriptor_retry{100};
}  // namespace

bool ChannelTable::may_accept(const Channel& channel) {
  Mux* current = mux();
  if (is_raw_now(channel)) return !channel.raw;
  if (current == nullptr) return refusing_ && !may_become_raw(channel);
  if (session_.role() == Role::host && channel.config.end == EndKind::port) {
    return channel.waiting_local.size() < port_waiting_max;
  }
  return current->can_open();
}

asio::awaitable<void> ChannelTable::accept_connections(std::shared_ptr<Channel> channel) {
  const auto alive = alive_;
  asio::steady_timer pause(executor_);
  const auto goes_on = [&] { return *alive && channel->listener.is_open(); };
  while (goes_on()) {
    while (goes_on() && !may_accept(*channel)) {
      ++accepts_held_;
      co_await channel->may_accept.wait();
      if (!*alive) co_return;
      --accepts_held_;
    }
    if (!goes_on()) co_return;
    // The listener may be exchanged for another meanwhile: then the wait ends in an error.
    auto [error] = co_await channel->listener.async_wait(asio::posix::descriptor_base::wait_read,
                                                         asio::as_tuple(asio::use_awaitable));
    if (!goes_on()) co_return;
    if (error || !may_accept(*channel) || accept_one(*channel)) continue;
    pause.expires_after(descriptor_retry);
    co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
  }
}

// False when the process is out of descriptors, and it must be tried again later.
bool ChannelTable::accept_one(Channel& channel) {
  UniqueFd socket(
      ::accept4(channel.listener.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (socket) {
    handle_local_connection(channel, std::move(socket));
  } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
    spdlog::warn("{}: cannot accept: {}; raise the limit on open files", channel.config.name.text(),
                 std::strerror(errno));
    return false;
  }
  return true;
}

// Whoever is not on the channel's list is turned away, before anything of theirs is read.
bool ChannelTable::refuse_stranger(Channel& channel, int socket) {
  if (channel.config.users.empty() && channel.config.groups.empty()) return false;
  const LocalUser user = user_of(socket);
  if (is_listed(channel.config, user)) return false;
  const SourceLocation& where = channel.config.where;
  const std::string why = fmt::format("user {} is not among those at {}:{}", user.uid,
                                      escape_untrusted(where.file, 256), where.line);
  if (local_lines_.allows()) {
    spdlog::info("{}: refused: {}{}", channel.config.name.text(), why, local_lines_.note());
  }
  end_badly(channel, {true, user.pid, EACCES, why});
  return true;
}

void ChannelTable::handle_local_connection(Channel& channel, UniqueFd socket) {
  if (refuse_stranger(channel, socket.get())) return;
  if (is_raw_now(channel)) return start_raw(channel, std::move(socket));
  Mux* current = mux();
  if (current == nullptr) {
    end_badly(channel, {true, pid_of_user(socket.get()), ENOTCONN,
                        fmt::format("no session with {}: {}", peer_name_, down_reason_)});
    return;  // closes the socket
  }
  if (session_.role() == Role::host && channel.config.end == EndKind::port) {
    return wait_for_partner(channel, std::move(socket));
  }
  const EndShape shape = channel.config.end == EndKind::port ? EndShape::port : EndShape::service;
  const StreamId id = current->open(shape, channel.config.name.text());
  const pid_t pid = pid_of_user(socket.get());
  join(id, channel, std::move(socket), pid);
  expect_answer(id);
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

void ChannelTable::join(StreamId id, Channel& channel, UniqueFd socket, pid_t pid) {
  auto connection = std::make_shared<Connection>(executor_, std::move(socket), id,
                                                 static_cast<ConnectionOwner&>(*this));
  const bool eager = channel.config.lane == LanePreference::vchan;
  connections_.emplace(id, Joined{std::move(connection), &channel, pid, eager});
  ++channel.stats.open;
  ++channel.stats.opened;
  if (eager) ++eager_;
  publish("connected", channel, {{"pid", std::to_string(pid)}});
  tell_peer_of_port(channel);
  if (channel.config.lane == LanePreference::console) mux()->set_weightless(id);
  // Whoever connects mostly writes next: try to read before waiting for news.
  handle_readable(id);
}

void ChannelTable::join_incoming(StreamId id, UniqueFd socket, pid_t pid, ByteQueue first) {
  auto node = incoming_.extract(id);
  Incoming& stream = node.mapped();
  join(id, *stream.channel, std::move(socket), pid);
  const auto connection = connections_.at(id).connection;
  connections_.at(id).told = stream.told;
  connection->put_first(std::move(first));
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
  if (stream.early.size() > stream.told) mux()->delivered(id, stream.early.size() - stream.told);
  mux()->refuse(id, static_cast<std::uint16_t>(error), message);
  session_.wake();
}

asio::awaitable<void> ChannelTable::dial(StreamId id, Channel& channel, std::uint64_t session) {
  const Target target = *channel.config.target;
  const auto wanted = [this, alive = alive_, id, session] {
    return *alive && session == session_count_ && incoming_.contains(id) && mux_of(id) != nullptr;
  };
  auto socket = co_await dialer_.dial(target, wanted);
  if (!wanted()) co_return;
  if (socket) {
    mux()->accept(id);
    join_incoming(id, std::move(*socket), 0);
  } else {
    refuse_incoming(id, socket.error().value(),
                    fmt::format("{}: {}", target.uri(), std::strerror(socket.error().value())));
  }
}

}  // namespace xenlane::bridge
