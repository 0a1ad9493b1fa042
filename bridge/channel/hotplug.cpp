// Channels that come, change and go while streams of others run.
#include <poll.h>
#include <spdlog/spdlog.h>

#include <boost/asio/co_spawn.hpp>
#include <cerrno>
#include <ranges>

#include "bridge/channel/channel_table.hpp"
#include "transport/base/spawn.hpp"

namespace xenlane::bridge {

namespace asio = boost::asio;
using transport::UniqueFd;

namespace {

bool has_connection(int listener) {
  pollfd poll{listener, POLLIN, 0};
  return ::poll(&poll, 1, 0) > 0;
}

}  // namespace

void ChannelTable::add(ChannelConfig config, std::string socket_path, UniqueFd listener) {
  const auto& channel =
      channels_.emplace_back(std::make_shared<Channel>(executor_, std::move(config)));
  by_name_.emplace(channel->config.name.text(), channel.get());
  channel->socket_path = std::move(socket_path);
  publish("channel-added", *channel, {{"end", std::string(to_string(channel->config.end))}});
  tell_peer(*channel);
  if (!listener) return;
  channel->listener.assign(listener.release());
  asio::co_spawn(executor_, accept_connections(channel), transport::or_throw);
}

void ChannelTable::set(ChannelConfig config, std::string socket_path, UniqueFd listener) {
  Channel* channel = find(config.name.text());
  const bool listens = channel != nullptr && channel->listener.is_open();
  const bool stays = channel != nullptr && channel->config.end == config.end &&
                     channel->config.socket == config.socket && channel->config.error.empty() &&
                     config.error.empty() && listens == !socket_path.empty();
  if (!stays) {
    const ChannelName name = config.name;
    remove(name);
    return add(std::move(config), std::move(socket_path), std::move(listener));
  }
  channel->config = std::move(config);
  publish("channel-changed", *channel, {{"end", std::string(to_string(channel->config.end))}});
  channel->socket_path = std::move(socket_path);
  if (!listener) return;
  // Whoever is in the old socket's backlog has connected: nothing tells them to try again.
  while (has_connection(channel->listener.native_handle()) && may_accept(*channel)) {
    if (!accept_one(*channel)) break;
  }
  boost::system::error_code ignored;
  channel->listener.close(ignored);
  channel->listener.assign(listener.release());
}

bool ChannelTable::remove(const ChannelName& name) {
  const auto found = std::ranges::find_if(
      channels_, [&](const auto& channel) { return channel->config.name == name; });
  if (found == channels_.end()) return false;
  const std::shared_ptr<Channel> channel = *found;
  channels_.erase(found);
  by_name_.erase(name.text());
  channel->removed = true;
  boost::system::error_code ignored;
  channel->listener.close(ignored);
  channel->may_accept.raise();
  for (const auto& lone : channel->waiting_local) lone->close();
  channel->waiting_local.clear();
  raise_all();  // visitors may have waited for room here
  if (channel->raw) channel->raw->close();
  publish("channel-removed", *channel, {{"end", std::string(to_string(channel->config.end))}});
  tell_peer(*channel);

  const std::string why = "the channel was removed";
  std::vector<StreamId> streams;
  for (const auto& [id, joined] : connections_) {
    if (joined.channel == channel.get()) streams.push_back(id);
  }
  for (const auto& [id, stream] : incoming_) {
    if (stream.channel == channel.get()) streams.push_back(id);
  }
  for (const StreamId id : streams) {
    const auto early = incoming_.find(id);
    const bool unanswered = early != incoming_.end() && channel->config.end == EndKind::dial &&
                            !early->second.news.signal;
    if (unanswered && mux_of(id) != nullptr) {
      refuse_incoming(id, ENODEV, why);
      continue;
    }
    if (Mux* current = mux_of(id)) current->reset(id, StreamError::cancelled);
    break_stream(id, ECONNRESET, why);
  }
  session_.wake();
  return true;
}

}  // namespace xenlane::bridge
