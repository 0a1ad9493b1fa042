// Channels whose other end is a plain program on the PV channel itself.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>

#include "bridge/channel/channel_table.hpp"
#include "transport/base/spawn.hpp"
#include "transport/console/raw_opener.hpp"

namespace xenlane::bridge {

namespace asio = boost::asio;

void ChannelTable::limit_raw_wait() {
  raw_wait_.expires_after(raw_after);
  raw_wait_.async_wait([this, alive = alive_](const auto& error) {
    if (error || !*alive || was_up_) return;
    raw_due_ = true;
    raise_all();
  });
}

// A channel that is made for bridges does without only where none has ever answered: one that was
// there and is not now is waited for, as its programs are behind it and not at the PV channel.
bool ChannelTable::is_raw_now(const Channel& channel) const {
  if (channel.config.end == EndKind::raw) return true;
  return raw_due_ && !channel.config.console.empty();
}

// Until then it is not known which of the two its connections are for.
bool ChannelTable::may_become_raw(const Channel& channel) const {
  return !channel.config.console.empty() && !was_up_ && !raw_due_;
}

void ChannelTable::start_raw(Channel& channel, LocalEnd local) {
  const auto owned =
      std::ranges::find_if(channels_, [&](const auto& other) { return other.get() == &channel; });
  const pid_t pid = local.pid;
  channel.raw = std::make_shared<RawLink>(executor_, std::move(local.socket), local.greeting);
  asio::co_spawn(executor_, run_raw(*owned, pid), transport::or_throw);
}

asio::awaitable<void> ChannelTable::run_raw(std::shared_ptr<Channel> channel, pid_t pid) {
  const auto alive = alive_;
  const auto link = channel->raw;
  const std::string path = path_for_guest(channel->config.console, peer_name_);
  const bool on_host = session_.role() == Role::host;
  ++channel->stats.open;
  ++channel->stats.opened;
  publish("connected", *channel, {{"pid", std::to_string(pid)}, {"lane", "raw"}});
  RawLink::Open open = [path, on_host] {
    return on_host ? transport::connect_raw_socket(path) : transport::open_raw_tty(path);
  };
  const RawLink::Ending ending = co_await link->run(std::move(open), dial_deadline_);
  if (!*alive) co_return;
  channel->raw.reset();
  --channel->stats.open;
  channel->stats.bytes_in += link->bytes_in();
  channel->stats.bytes_out += link->bytes_out();
  if (!ending.text.empty()) {
    const std::string why = fmt::format("{}: {}", path, ending.text);
    spdlog::info("{}: {}", channel->config.name.text(), why);
    end_badly(*channel, {!ending.opened, pid, ending.error, why});
  }
  publish("disconnected", *channel, {{"lane", "raw"}});
  channel->may_accept.raise();
  raise_all();  // who comes by another door may have waited too
}

}  // namespace xenlane::bridge
