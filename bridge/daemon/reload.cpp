#include "bridge/daemon/reload.hpp"

#include <spdlog/spdlog.h>

#include <boost/asio/signal_set.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <csignal>

#include "bridge/channel/text.hpp"
#include "bridge/control/protocol.hpp"
#include "bridge/daemon/channel_json.hpp"

namespace xenlane::bridge {

namespace asio = boost::asio;
namespace json = boost::json;

namespace {

json::array names(const std::vector<std::string>& texts) {
  return json::array(texts.begin(), texts.end());
}

}  // namespace

json::object describe(const ChannelChanges& changes) {
  return {{"added", names(changes.added)},
          {"changed", names(changes.changed)},
          {"removed", names(changes.removed)},
          {"failed", names(changes.failed)}};
}

json::object Reloader::reload() {
  ConfigLoad load = load_config(side_, config_path_);
  json::array faults;
  for (const Diagnostic& diagnostic : load.diagnostics) {
    const std::string line = format_diagnostic(diagnostic);
    spdlog::log(diagnostic.severity == Severity::error ? spdlog::level::err : spdlog::level::warn,
                "{}", line);
    faults.push_back(json::value(line));
  }
  json::object reply{{"applied", !load.is_fatal()},
                     {"errors", load.has_errors()},
                     {"faults", std::move(faults)},
                     {"changes", nullptr}};
  if (load.is_fatal()) {
    spdlog::error("{}: not reloaded; everything stays as it was", load.config.file);
    return reply;
  }
  const Applied applied = operations_.apply(std::move(load.config));
  reply["changes"] = applied.changes;
  if (applied.has_failed) reply["errors"] = true;
  spdlog::info("reloaded: {}", json::serialize(reply["changes"]));
  return reply;
}

std::optional<json::object> Reloader::answer(const json::object& request) {
  const std::string op = json_text(request, "op");
  if (op == "reload") return reload();
  if (op != "channel-add" && op != "channel-remove") return std::nullopt;
  const std::string guest = json_text(request, "guest");
  if (!operations_.knows_guest(guest)) {
    return control_error("unknown-guest", escape_untrusted(guest) + ": no such guest is served");
  }
  return op == "channel-add" ? add(request) : remove(request);
}

json::object Reloader::add(const json::object& request) {
  const json::object* keys = json_object(request, "channel");
  if (keys == nullptr) return control_error("bad-request", "channel is missing");
  ChannelFromJson read = channel_from_json(*keys, "added by hand", side_);
  if (!read.channel) return control_error("bad-channel", read.error);
  const ChannelName name = read.channel->name;
  const std::string guest = json_text(request, "guest");
  const std::string wrong = operations_.add(guest, std::move(*read.channel));
  if (!wrong.empty()) return control_error("not-added", wrong);
  spdlog::info("channel {} was added{}", name.text(), guest.empty() ? "" : " for guest " + guest);
  return {};
}

json::object Reloader::remove(const json::object& request) {
  const std::string text = json_text(request, "name");
  const std::string guest = json_text(request, "guest");
  const auto name = ChannelName::parse(text);
  if (!name || !operations_.remove(guest, *name)) {
    return control_error("unknown-channel", escape_untrusted(text) + ": there is no such channel");
  }
  spdlog::info("channel {} was removed{}", text, guest.empty() ? "" : " from guest " + guest);
  return {};
}

asio::awaitable<void> reload_on_signal(Reloader& reloader) {
  asio::signal_set signals(co_await asio::this_coro::executor, SIGHUP);
  for (;;) {
    co_await signals.async_wait(asio::use_awaitable);
    reloader.reload();
  }
}

}  // namespace xenlane::bridge
