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
      // A raw channel waits for its own last connection only, which says so.
      const std::size_t held = is_raw_now(*channel) ? 0 : 1;
      accepts_held_ += held;
      co_await channel->may_accept.wait();
      if (!*alive) co_return;
      accepts_held_ -= held;
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
    connect(channel, LocalEnd::of(std::move(socket)));
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

void ChannelTable::connect(Channel& channel, LocalEnd local) {
  if (refuse_stranger(channel, local.socket.get())) return;
  if (is_raw_now(channel)) return start_raw(channel, std::move(local));
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
    return wait_for_partner(channel, std::move(local));
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
                        std::shared_ptr<Program> program, bool silent) {
  auto connection =
      std::make_shared<Connection>(executor_, std::move(local.socket), id,
                                   static_cast<ConnectionOwner&>(*this), channel.config.socket);
  const bool eager = channel.config.lane == LanePreference::vchan;
  connections_.emplace(id, Joined{std::move(connection), &channel, local.pid, eager, 0, true,
                                  std::move(local.greeting), std::move(program), silent});
  ++channel.stats.open;
  if (eager) ++eager_;
  if (!silent) {
    ++channel.stats.opened;
    publish("connected", channel, {{"pid", std::to_string(local.pid)}});
  }
  tell_peer_of_port(channel);
  // One of a port's may have ended while it waited, and is only there to be read.
  if (channel.config.lane == LanePreference::console && mux_of(id) != nullptr) {
    mux()->set_weightless(id);
  }
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

void ChannelTable::join_incoming(StreamId id, LocalEnd local, ByteQueue first,
                                 std::shared_ptr<Program> program) {
  auto node = incoming_.extract(id);
  Incoming& stream = node.mapped();
  join(id, *stream.channel, std::move(local), std::move(program), stream.silent);
  const auto connection = connections_.at(id).connection;
  connection->put_first(std::move(first));
  if (!greet(id)) {
    set_aside_ -= stream.told;
    if (stream.early.size() > stream.told) {
      mux()->delivered(id, stream.early.size() - stream.told);
    }
    return;
  }
  connections_.at(id).told = stream.told;
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
  set_aside_ -= stream.told;
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
    join_incoming(id, LocalEnd{std::move(dialled->socket)}, {}, std::move(dialled->program));
  } else {
    refuse_incoming(id, dialled.error().error, dialled.error().text);
  }
}

}  // namespace xenlane::bridge
