#include "bridge/daemon/live_channels.hpp"

#include <fmt/format.h>

#include <set>

namespace xenlane::bridge {

namespace {

/// Whether the socket of `before` will do for `after` as it is.
bool same_socket(const ChannelConfig& before, const ChannelConfig& after) {
  return before.end == after.end && before.socket_mode == after.socket_mode &&
         before.uid == after.uid && before.gid == after.gid && before.socket == after.socket &&
         before.link == after.link;
}

}  // namespace

// Serves it anew or as changed; returns why it is disabled, if it is.
std::string LiveChannels::serve(ChannelConfig channel, bool by_hand) {
  const std::string name = channel.name.text();
  const auto found = entries_.find(name);
  const ChannelConfig wanted = channel;
  const bool keeps = found != entries_.end() && found->second.has_socket && has_listener(channel) &&
                     same_socket(found->second.wanted, channel);
  transport::UniqueFd listener;
  if (!keeps) {
    if (!has_listener(channel)) files_.remove(name);
    listener = listen(files_, channel);
  }
  const bool has_socket = keeps || listener;
  entries_.insert_or_assign(name, Entry{wanted, by_hand, has_socket});
  server_.set_channel(channel, has_socket ? files_.path_of(name) : std::string(),
                      std::move(listener));
  return channel.error;
}

ChannelChanges LiveChannels::apply(const std::vector<const ChannelConfig*>& configured) {
  ChannelChanges changes;
  std::set<std::string> names;
  for (const ChannelConfig* channel : configured) {
    const std::string& name = channel->name.text();
    names.insert(name);
    const auto found = entries_.find(name);
    if (found == entries_.end()) {
      changes.added.push_back(name);
    } else if (found->second.by_hand) {
      continue;
    } else {
      ChannelConfig before = found->second.wanted;
      before.where = channel->where;  // moving a section changes nothing
      // One that could not have its socket may have it now.
      const bool is_whole = found->second.has_socket == has_listener(*channel);
      if (before == *channel && is_whole) continue;
      changes.changed.push_back(name);
    }
    const std::string error = serve(*channel, false);
    if (!error.empty() && channel->error.empty()) changes.failed.push_back(name + ": " + error);
  }
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const auto here = entry++;
    if (here->second.by_hand || names.contains(here->first)) continue;
    changes.removed.push_back(here->first);
    remove(here->second.wanted.name);
  }
  return changes;
}

std::string LiveChannels::add(ChannelConfig channel) {
  const ChannelName name = channel.name;
  if (entries_.contains(name.text())) {
    return fmt::format(
        "{}: there is such a channel already; remove it first, or change it in the "
        "configuration and reload",
        name.text());
  }
  if (entries_.size() >= channels_max) return fmt::format("there are {} channels", channels_max);
  std::string error = serve(std::move(channel), true);
  if (!error.empty()) remove(name);
  return error;
}

bool LiveChannels::remove(const ChannelName& name) {
  const auto found = entries_.find(name.text());
  if (found == entries_.end()) return false;
  // The caller's may be the entry's own.
  const ChannelName gone = name;
  entries_.erase(found);
  files_.remove(gone.text());
  server_.remove_channel(gone);
  return true;
}

}  // namespace xenlane::bridge
