// The session's side of the channels: what the peer asks, sends and ends. The local side, accepting
// and dialling, is in local_ends.cpp.
#include "bridge/channel/channel_table.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <boost/asio/co_spawn.hpp>
#include <cerrno>
#include <cstring>

#include "bridge/channel/text.hpp"
#include "transport/base/spawn.hpp"

namespace xenlane::bridge {

ChannelTable::ChannelTable(const boost::asio::any_io_executor& executor, Session& session,
                           std::string peer_name, std::chrono::milliseconds dial_deadline,
                           std::chrono::milliseconds answer_wait)
    : executor_(executor),
      session_(session),
      peer_name_(std::move(peer_name)),
      dialer_(executor, dial_deadline),
      forwards_(executor, [this](StreamId id) { reset_forward(id); }),
      dial_deadline_(dial_deadline),
      answer_wait_limit_(answer_wait),
      raw_wait_(executor),
      session_wait_(executor),
      answer_wait_(executor) {
  limit_session_wait();
  limit_raw_wait();
}

ChannelTable::~ChannelTable() {
  *alive_ = false;
  for (const auto& channel : channels_) {
    if (channel->raw) channel->raw->close();
  }
  for (auto& [id, joined] : connections_) break_off(joined);
}

Channel* ChannelTable::find(const std::string& name) {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

Mux* ChannelTable::mux_of(StreamId id) {
  Mux* current = mux();
  return current != nullptr && current->has_stream(id) ? current : nullptr;
}

void ChannelTable::raise_all() {
  if (accepts_held_ == 0) return;
  for (const auto& channel : channels_) channel->may_accept.raise();
  for (transport::Signal* const visitor : visitors_) visitor->raise();
}

void ChannelTable::handle_session_up() {
  refusing_ = false;
  was_up_ = true;
  raw_due_ = false;
  session_wait_.cancel();
  for (const auto& channel : channels_) tell_peer(*channel);
  spdlog::info("{}: session {} up", peer_name_, to_hex(session_.id()));
  raise_all();
}

void ChannelTable::handle_session_ended(int error, const std::string& reason) {
  ++session_count_;
  down_reason_ = reason;
  incoming_.clear();
  answers_due_.clear();
  auto broken = std::move(connections_);
  connections_.clear();
  eager_ = 0;
  set_aside_ = 0;
  forwards_.handle_session_ended();
  for (auto& [id, joined] : broken) {
    --joined.channel->stats.open;
    end_badly(*joined.channel, {false, joined.pid, error, reason});
    publish("disconnected", *joined.channel, {{"reason", reason}});
    break_off(joined);
  }
  for (const auto& channel : channels_) {
    channel->waiting_remote.clear();
    channel->peer.reset();
  }
  limit_session_wait();
}

void ChannelTable::limit_session_wait() {
  session_wait_.expires_after(session_wait_max);
  session_wait_.async_wait([this, alive = alive_](const auto& error) {
    if (error || !*alive) return;
    refusing_ = true;
    raise_all();
  });
}

void ChannelTable::handle_event(const InputEvent& event) {
  if (const auto* open = std::get_if<OpenRequested>(&event)) {
    handle_open(*open);
  } else if (const auto* accepted = std::get_if<Accepted>(&event)) {
    if (const auto found = connections_.find(accepted->id); found != connections_.end()) {
      found->second.answered = true;
      greet(accepted->id);
    }
  } else if (const auto* refused = std::get_if<Refused>(&event)) {
    if (!connections_.contains(refused->id)) return;
    const Joined joined = part(refused->id);
    end_badly(*joined.channel,
              {true, joined.pid, refused->error, escape_untrusted(refused->untrusted_reason)});
    joined.connection->close();
  } else if (const auto* finished = std::get_if<PeerFinished>(&event)) {
    if (const auto found = connections_.find(finished->id); found != connections_.end()) {
      const auto connection = found->second.connection;
      connection->finish_writing();
    } else if (const auto early = incoming_.find(finished->id); early != incoming_.end()) {
      early->second.finished = true;
      if (early->second.news.signal) early->second.news.signal->raise();
    }
  } else if (const auto* stopped = std::get_if<StopRequested>(&event)) {
    if (const auto found = connections_.find(stopped->id); found != connections_.end()) {
      const auto connection = found->second.connection;
      connection->stop_reading();
    } else if (const auto early = incoming_.find(stopped->id); early != incoming_.end()) {
      early->second.stopped = true;
    }
  } else if (const auto* reset = std::get_if<PeerReset>(&event)) {
    break_stream(reset->id, ECONNRESET,
                 "reset by the other side: " + std::string(to_string(reset->error)));
  } else if (const auto* notice = std::get_if<PeerNotices>(&event)) {
    handle_notice(*notice);
  } else if (const auto* away = std::get_if<PeerGoesAway>(&event)) {
    if (peer_lines_.allows()) {
      spdlog::info("{}: goes away: {}{}", peer_name_, escape_untrusted(away->untrusted_reason),
                   peer_lines_.note());
    }
  }
}

void ChannelTable::end_badly(Channel& channel, BadEnding ending) {
  ++(ending.refused ? channel.stats.refused : channel.stats.broken);
  if (ending.refused) {
    publish("refused", channel, {{"pid", std::to_string(ending.pid)}, {"reason", ending.message}});
  }
  auto& endings = channel.stats.bad_endings;
  if (endings.size() == bad_endings_max) endings.pop_front();
  endings.push_back(std::move(ending));
}

void ChannelTable::break_stream(StreamId id, int error, const std::string& message) {
  if (const auto early = incoming_.find(id); early != incoming_.end()) {
    const std::uint64_t held = early->second.early.size() - early->second.told;
    set_aside_ -= early->second.told;
    if (held > 0) mux()->delivered(id, held);
    std::erase(early->second.channel->waiting_remote, id);
    incoming_.erase(early);
    return;
  }
  if (!connections_.contains(id)) return;
  forwards_.handle_end(id, true);
  Joined joined = part(id);
  end_badly(*joined.channel, {false, joined.pid, error, message});
  const std::uint64_t held = untold_bytes(joined, joined.connection->held_bytes());
  if (held > 0) mux()->delivered(id, held);
  break_off(joined);
}

// What is local must not take it for a good end, as far as it can be told.
void ChannelTable::break_off(const Joined& joined) {
  joined.connection->abort();
  if (joined.program) joined.program->hang_up();
}

SourceBytes ChannelTable::read_source(StreamId id, const transport::WritableSpans& to) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return {0, true};
  const Joined joined = found->second;
  const auto result = joined.connection->read_into(to);
  switch (result.status) {
    case Connection::ReadStatus::bytes:
      joined.channel->stats.bytes_out += result.bytes;
      if (result.drained) joined.connection->wait_readable();
      return {result.bytes, result.drained};
    case Connection::ReadStatus::nothing_now:
      joined.connection->wait_readable();
      return {0, true};
    case Connection::ReadStatus::ended:
      mux()->finish(id);
      joined.connection->close_if_done();
      return {0, true};
    case Connection::ReadStatus::broken:
      mux()->reset(id, StreamError::broken);
      break_stream(id, result.error,
                   result.error == EMSGSIZE
                       ? fmt::format("the local program sent a message of more than {} bytes",
                                     message_bytes_max)
                       : "the local program reset the connection");
      return {0, true};
  }
  return {0, true};
}

void ChannelTable::deliver(StreamId id, const transport::ReadableSpans& untrusted_payload) {
  if (const auto found = connections_.find(id); found != connections_.end()) {
    const Joined joined = found->second;
    joined.channel->stats.bytes_in += untrusted_payload.size();
    joined.connection->deliver(untrusted_payload);
  } else if (const auto early = incoming_.find(id); early != incoming_.end()) {
    deliver_early(id, early->second, untrusted_payload);
  } else {
    mux()->delivered(id, untrusted_payload.size());
  }
}

// An ended stream counts until its last frame has gone and its last byte was read, so there may be
// room for another long after the connection was closed.
void ChannelTable::handle_pass_over() {
  const Mux* current = mux();
  if (accepts_held_ > 0 && current != nullptr && current->can_open()) raise_all();
}

void ChannelTable::handle_readable(StreamId id) {
  if (Mux* current = mux_of(id)) {
    current->source_ready(id);
    session_.wake();
  }
}

// Of what has gone out now, how much the peer has not been told before.
std::uint64_t ChannelTable::untold_bytes(Joined& joined, std::uint64_t bytes) {
  const std::uint64_t told = std::min(joined.told, bytes);
  joined.told -= told;
  set_aside_ -= told;
  return bytes - told;
}

void ChannelTable::handle_delivered(StreamId id, std::size_t bytes) {
  Mux* current = mux();
  if (current == nullptr) return;
  if (const auto found = connections_.find(id); found != connections_.end()) {
    bytes = untold_bytes(found->second, bytes);
    if (bytes == 0) return;
  }
  if (const auto window = current->delivered(id, bytes)) {
    const auto found = connections_.find(id);
    if (found != connections_.end()) found->second.connection->widen_send_buffer(*window);
  }
  if (current->has_output()) session_.wake();
  handle_pass_over();
}

void ChannelTable::handle_reader_gone(StreamId id) {
  if (Mux* current = mux_of(id)) {
    current->stop_sending(id, StreamError::cancelled);
    session_.wake();
  }
}

void ChannelTable::handle_broken(StreamId id, int error) {
  if (Mux* current = mux_of(id)) current->reset(id, StreamError::broken);
  break_stream(id, error,
               error == EBADMSG
                   ? "what came from the other side is no whole message"
                   : fmt::format("writing to the local program: {}", std::strerror(error)));
  session_.wake();
}

void ChannelTable::handle_closed(StreamId id) {
  if (!connections_.contains(id)) return;
  part(id);
  raise_all();
}

// Takes a connection out of the books.
ChannelTable::Joined ChannelTable::part(StreamId id) {
  Joined joined = std::move(connections_.extract(id).mapped());
  --joined.channel->stats.open;
  if (joined.eager) --eager_;
  forwards_.handle_end(id, false);
  if (!joined.silent) publish("disconnected", *joined.channel);
  tell_peer_of_port(*joined.channel);
  return joined;
}

void ChannelTable::log_refusal(std::string_view untrusted_name, const std::string& why) {
  if (!peer_lines_.allows()) return;
  spdlog::info("{}: refused {}: {}{}", peer_name_, escape_untrusted(untrusted_name), why,
               peer_lines_.note());
}

void ChannelTable::handle_open(const OpenRequested& open) {
  const auto name = ChannelName::parse(open.untrusted_name);
  Channel* channel = name ? find(name->text()) : nullptr;
  const auto refuse = [&](int error, const std::string& why) {
    log_refusal(open.untrusted_name, why);
    mux()->refuse(open.id, static_cast<std::uint16_t>(error), why);
    if (channel != nullptr) end_badly(*channel, {true, 0, error, why});
  };
  if (!name) return refuse(EINVAL, "not a channel name");
  if (channel == nullptr) {
    if (events_ != nullptr && events_->wants_events() && peer_events_.allows()) {
      events_->publish({"refused",
                        {{"channel", open.untrusted_name},
                         {"by", peer_name_},
                         {"reason", "no such channel here"}}});
    }
    return refuse(ENOENT, "no such channel here");
  }
  if (!channel->config.error.empty()) return refuse(ENODEV, "the channel is disabled here");
  const bool wants_port = open.shape == EndShape::port;
  if (wants_port != (channel->config.end == EndKind::port) ||
      (!wants_port && channel->config.end != EndKind::dial)) {
    return refuse(EPROTOTYPE, "the channel's end here is of kind " +
                                  std::string(to_string(channel->config.end)));
  }
  if (open.kind != channel->config.socket) {
    return refuse(EPROTOTYPE, fmt::format("the channel's sockets are of kind {} here",
                                          to_string(channel->config.socket)));
  }
  // The peer may use an id again when both directions have ended; here its old stream may have
  // bytes that nobody has read.
  if (incoming_.contains(open.id) || connections_.contains(open.id)) {
    return refuse(EAGAIN, "the stream of that number is not read to its end");
  }
  if (wants_port && channel->waiting_remote.size() >= port_waiting_max) {
    return refuse(EAGAIN, "too many unpaired connections");
  }
  if (channel->config.target && channel->config.target->kind() == TargetKind::forward) {
    return start_forward(open.id, *channel);
  }
  incoming_.emplace(open.id, Incoming{channel, open.untrusted_uid, {}, false, false});
  if (wants_port) {
    mux()->accept(open.id);
    channel->waiting_remote.push_back(open.id);
    pair_port(*channel);
  } else {
    boost::asio::co_spawn(executor_, dial(open.id, *channel, session_count_), transport::or_throw);
  }
}

}  // namespace xenlane::bridge
