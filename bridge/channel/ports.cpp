// Ports: the n-th end of one side meets the n-th of the other, on the host, and what a lone end
// says is kept or not.
#include <algorithm>

#include "bridge/channel/channel_table.hpp"

namespace xenlane::bridge {

void ChannelTable::wait_for_partner(Channel& channel, LocalEnd local) {
  const ChannelConfig& config = channel.config;
  // Messages are left where they are whole.
  const auto keeps = !config.cache_buffers                    ? LoneEnd::Keeps::nothing
                     : config.socket == SocketKind::seqpacket ? LoneEnd::Keeps::all_unread
                                                              : LoneEnd::Keeps::bytes;
  const auto lone =
      std::make_shared<LoneEnd>(executor_, std::move(local), keeps, config.guest_byte_limit);
  channel.waiting_local.push_back(lone);
  pair_port(channel);
  if (std::ranges::find(channel.waiting_local, lone) == channel.waiting_local.end()) return;
  publish("waiting", channel);
  tell_peer_of_port(channel);
  lone->start([this, lone = std::weak_ptr(lone), name = config.name.text(), alive = alive_] {
    Channel* of = *alive ? find(name) : nullptr;
    if (of == nullptr) return;
    if (std::erase(of->waiting_local, lone.lock()) == 0) return;
    publish("disconnected", *of);
    tell_peer_of_port(*of);
    raise_all();
  });
}

void ChannelTable::pair_port(Channel& channel) {
  while (!channel.waiting_local.empty() && !channel.waiting_remote.empty()) {
    const auto lone = channel.waiting_local.front();
    channel.waiting_local.pop_front();
    auto [has_word, parts] = lone->take();
    if (!has_word) {
      publish("disconnected", channel);
      tell_peer_of_port(channel);
      continue;
    }
    const StreamId remote = channel.waiting_remote.front();
    channel.waiting_remote.pop_front();
    join_incoming(remote, std::move(parts.local), std::move(parts.bytes));
  }
  raise_all();
}

// The peer's bytes, before there is anybody to have them. Of a port's stream so much is kept as the
// channel says, or a window where that is more; behind that the peer has to wait.
void ChannelTable::deliver_early(StreamId id, Incoming& stream,
                                 const transport::ReadableSpans& bytes) {
  const ChannelConfig& config = stream.channel->config;
  if (config.end == EndKind::port && !config.cache_buffers) {
    stream.channel->stats.dropped_bytes += bytes.size();
    mux()->delivered(id, bytes.size());
    session_.wake();
    return;
  }
  stream.early.append(bytes.first);
  stream.early.append(bytes.second);
  if (stream.news.signal) stream.news.signal->raise();
  if (config.end != EndKind::port || mux_of(id) == nullptr) return;
  if (stream.early.size() + mux()->window(id) > config.byte_limit) return;
  const std::uint64_t more = stream.early.size() - stream.told;
  if (set_aside_ + more > set_aside_bytes_max) return;
  mux()->set_aside(id, more);
  set_aside_ += more;
  stream.told = stream.early.size();
  session_.wake();
}

}  // namespace xenlane::bridge
