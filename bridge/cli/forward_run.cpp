#include "bridge/cli/forward_run.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <csignal>

#include "bridge/channel/text.hpp"

namespace xenlane::bridge::cli {

namespace json = boost::json;

namespace {

/// A configured forward whose port somebody else has is tried again this often.
constexpr std::chrono::seconds bind_retry{3};

}  // namespace

ForwardRun::ForwardRun(std::string run_dir, std::function<void(const std::string&)> told)
    : run_dir_(std::move(run_dir)), told_(std::move(told)) {}

std::shared_ptr<Uplink> ForwardRun::uplink_to(const ForwardSpec& spec) {
  auto& uplink = uplinks_[{spec.guest, spec.channel}];
  if (!uplink) {
    const bool is_host = spec.guest == forward_host_name;
    const std::string folder = is_host ? run_dir_ : run_dir_ + "/" + spec.guest;
    uplink = std::make_shared<Uplink>(context_.get_executor(), escape_untrusted(spec.guest),
                                      folder + "/" + spec.channel, told_);
    uplink->start();
  }
  return uplink;
}

void ForwardRun::add(BoundForward forward) {
  if (forward.spec.kind != ForwardKind::remote) {
    told_(fmt::format("{}: listening on {}", forward.spec.text, forward.spec.listen.uri()));
  }
  const auto uplink = uplink_to(forward.spec);
  forwards_.push_back(std::make_shared<NearForward>(context_.get_executor(), forward.spec, uplink,
                                                    std::move(forward.sockets), told_));
  forwards_.back()->start();
}

void ForwardRun::set(const std::vector<ForwardSpec>& specs) {
  const auto is_wanted = [&](const ForwardSpec& spec) {
    return std::ranges::find(specs, spec) != specs.end();
  };
  std::erase_if(forwards_, [&](const auto& forward) {
    if (is_wanted(forward->spec())) return false;
    told_(forward->spec().text + ": stopped");
    forward->stop();
    return true;
  });
  unbound_.clear();
  for (const ForwardSpec& spec : specs) {
    const bool runs = std::ranges::any_of(
        forwards_, [&](const auto& forward) { return forward->spec() == spec; });
    if (!runs) unbound_.push_back(spec);
  }
  retry_unbound();
}

void ForwardRun::retry_unbound() {
  retry_.cancel();
  std::vector<ForwardSpec> left;
  for (ForwardSpec& spec : unbound_) {
    BoundForward bound{spec, {}};
    if (spec.kind != ForwardKind::remote) {
      auto sockets = listen_forward(spec.listen);
      if (!sockets) {
        told_(fmt::format("{}: {}; tried again in {} s", spec.text, sockets.error().text,
                          bind_retry.count()));
        left.push_back(spec);
        continue;
      }
      bound.sockets = std::move(*sockets);
    }
    add(std::move(bound));
  }
  unbound_ = std::move(left);
  if (unbound_.empty()) return;
  retry_.expires_after(bind_retry);
  retry_.async_wait([this](const auto& error) {
    if (!error) retry_unbound();
  });
}

void ForwardRun::await_signal() {
  signals_.async_wait([this](const auto& error, int signal) {
    if (error) return;
    if (signal != SIGHUP || !reload_) return stop();
    if (const auto specs = reload_()) set(*specs);
    await_signal();
  });
}

void ForwardRun::stop() {
  for (const auto& forward : forwards_) {
    forward->stop();
    forward->abort();
  }
  for (const auto& [of, uplink] : uplinks_) uplink->close();
  context_.stop();
}

json::object ForwardRun::answer(const json::object& request) {
  const std::string op = json_text(request, "op");
  if (op == "stop") {
    // Behind the answer, which is written meanwhile.
    auto timer =
        std::make_shared<boost::asio::steady_timer>(context_, std::chrono::milliseconds(20));
    timer->async_wait([this, timer](const auto&) { stop(); });
    return {};
  }
  if (op != "status") {
    return control_error("unknown-op", "xenlane forward answers \"status\" and \"stop\"");
  }
  json::array list;
  for (const auto& forward : forwards_) list.push_back(forward->status());
  for (const ForwardSpec& spec : unbound_) {
    list.push_back({{"kind", to_string(spec.kind)},
                    {"forward", spec.text},
                    {"guest", spec.guest},
                    {"listen", spec.listen.uri()},
                    {"state", "unbound"},
                    {"reason", "it cannot listen yet"}});
  }
  const auto age = std::chrono::steady_clock::now() - started_;
  return {{"role", "forward"},
          {"pid", ::getpid()},
          {"uptime_s", std::chrono::duration_cast<std::chrono::seconds>(age).count()},
          {"forwards", std::move(list)}};
}

void ForwardRun::run(std::optional<ListenerSocket> control) {
  std::optional<ControlServer> server;
  if (control) {
    server.emplace(context_.get_executor(), std::move(control->fd),
                   [this](const json::object& request) { return answer(request); });
  }
  await_signal();
  context_.run();
  server.reset();
  if (control) unlink_if_ours(control->path, control->device, control->inode);
}

}  // namespace xenlane::bridge::cli
