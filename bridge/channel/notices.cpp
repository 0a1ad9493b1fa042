// What is told of channels: to local listeners as events, to the peer as notices, and what the peer
// tells.
#include <limits>

#include "bridge/channel/channel_table.hpp"

namespace xenlane::bridge {

namespace {

NoticedEnd noticed(const Channel& channel) {
  if (channel.removed || !channel.config.error.empty()) return NoticedEnd::none;
  switch (channel.config.end) {
    case EndKind::listen:
      return NoticedEnd::listen;
    case EndKind::dial:
      return NoticedEnd::dial;
    case EndKind::port:
      return NoticedEnd::port;
    case EndKind::raw:
      break;
  }
  return NoticedEnd::none;
}

}  // namespace

void ChannelTable::publish(std::string_view kind, const Channel& channel,
                           std::vector<std::pair<std::string, std::string>> details) {
  if (events_ == nullptr || !events_->wants_events()) return;
  Event event{std::string(kind), {{"channel", channel.config.name.text()}}};
  std::move(details.begin(), details.end(), std::back_inserter(event.details));
  events_->publish(event);
}

std::vector<Event> ChannelTable::events_now() const {
  std::vector<Event> events;
  for (const auto& channel : channels_) {
    events.push_back({"channel",
                      {{"channel", channel->config.name.text()},
                       {"end", std::string(to_string(channel->config.end))},
                       {"state", channel->config.error.empty() ? "ready" : "disabled"},
                       {"open", std::to_string(channel->local_ends())}}});
  }
  return events;
}

void ChannelTable::tell_peer(const Channel& channel) {
  Mux* current = mux();
  if (current == nullptr) return;
  const NoticedEnd end = noticed(channel);
  const std::uint64_t open = end == NoticedEnd::port ? channel.local_ends() : 0;
  const auto shown = std::min<std::uint64_t>(open, std::numeric_limits<std::uint32_t>::max());
  current->notice({end, static_cast<std::uint32_t>(shown), channel.config.name.text()});
  session_.wake();
}

void ChannelTable::tell_peer_of_port(const Channel& channel) {
  if (channel.config.end == EndKind::port && !channel.removed) tell_peer(channel);
}

void ChannelTable::handle_notice(const PeerNotices& notice) {
  const auto name = ChannelName::parse(notice.untrusted_name);
  if (!name) return;
  Channel* channel = find(name->text());
  const PeerEnd now{notice.end, notice.open};
  const bool is_news = channel != nullptr ? channel->peer != now : peer_events_.allows();
  if (channel != nullptr) channel->peer = now;
  if (!is_news || events_ == nullptr || !events_->wants_events()) return;
  events_->publish({"peer-channel",
                    {{"channel", name->text()},
                     {"end", std::string(to_string(notice.end))},
                     {"open", std::to_string(notice.open)}}});
}

}  // namespace xenlane::bridge
