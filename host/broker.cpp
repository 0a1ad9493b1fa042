#include "host/broker.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>
#include <tuple>

#include "bridge/channel/connect_door.hpp"
#include "bridge/channel/text.hpp"
#include "bridge/daemon/live_channels.hpp"
#include "bridge/daemon/negotiation.hpp"
#include "bridge/daemon/program.hpp"
#include "bridge/daemon/reload.hpp"
#include "host/orders.hpp"
#include "transport/base/await_exit.hpp"
#include "transport/base/spawn.hpp"

namespace xenlane::host {

namespace asio = boost::asio;
namespace fs = std::filesystem;
namespace json = boost::json;
using namespace bridge;  // NOLINT(google-build-using-namespace)
using std::chrono::milliseconds;
using transport::Domid;

namespace {

/// After an event the domains are looked at again this often and this much later: a domain that
/// was announced as released may still have been dying at the first look.
constexpr std::array<milliseconds, 3> later_looks{milliseconds(200), milliseconds(1000),
                                                  milliseconds(3000)};

/// A worker that ran this long is restarted without further delay.
constexpr std::chrono::seconds good_run{1};

/// What stands in /local/domain/N/vm is the uuid's own folder, "/vm/UUID".
std::string uuid_of(const std::string& vm) {
  const std::string uuid = vm.substr(vm.rfind('/') + 1);
  const auto other = uuid.find_first_not_of("0123456789abcdefABCDEF-");
  return other == std::string::npos ? uuid : std::string();
}

boost::system::error_code last_error() {
  return {errno, boost::system::generic_category()};
}

/// A file of its own for each worker: whoever reads one moves nothing of another's.
transport::UniqueFd file_in_memory(const std::string& text) {
  transport::UniqueFd file(::memfd_create("settings", MFD_CLOEXEC));
  if (!file || ::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return {};
  }
  return file;
}

}  // namespace

/// One guest that is served. It keeps the channels' sockets, which outlive its workers.
struct Broker::Guest final : public ChannelServer {
  Guest(Domid guest_domid, Identity guest_identity, const std::string& folder)
      : domid(guest_domid),
        identity(std::move(guest_identity)),
        run_dir(folder),
        files(std::make_unique<ListenerFiles>(folder, identity.name)),
        channels(*files, *this) {}

  // ChannelServer
  void set_channel(const ChannelConfig& channel, const std::string& path,
                   transport::UniqueFd listener) override {
    if (orders) orders->set_channel(channel, path, listener.get());
    const auto found = served.find(channel.name);
    if (found == served.end()) {
      served.emplace(channel.name, Served{channel, path, std::move(listener)});
      return;
    }
    found->second.config = channel;
    found->second.path = path;
    if (listener || path.empty()) found->second.listener = std::move(listener);
  }
  void remove_channel(const ChannelName& name) override {
    if (orders) orders->remove_channel(name);
    served.erase(name);
  }

  /// For a new worker.
  void tell_all() {
    for (const auto& [name, channel] : served) {
      orders->set_channel(channel.config, channel.path, channel.listener.get());
    }
    orders->begin();
  }

  struct Served {
    ChannelConfig config;
    std::string path;
    transport::UniqueFd listener;
  };

  Domid domid;
  Identity identity;
  std::string run_dir;
  std::string domid_link;
  std::unique_ptr<ListenerFiles> files;
  LiveChannels channels;
  std::map<ChannelName, Served> served;
  std::vector<std::pair<std::string, transport::UniqueFd>> listeners;  ///< not of channels
  std::optional<OrderSender> orders;  ///< to the worker, while there is one
  pid_t worker = -1;
  std::uint64_t worker_starts = 0;
  bool stopped = false;
};

Broker::Broker(const asio::any_io_executor& executor, transport::XenStore& store,
               BridgeConfig& config, WorkerCommand worker)
    : executor_(executor),
      store_(store),
      config_(config),
      worker_(std::move(worker)),
      domains_changed_(executor) {}

Broker::~Broker() {
  events_ = nullptr;  // may be gone already
  while (!guests_.empty()) stop_guest(guests_.begin()->first);
}

asio::awaitable<void> Broker::run() {
  co_await store_.wait_connected(milliseconds(config_.timeouts.xenstore_ms));
  if (const auto domid = co_await store_.read("domid")) {
    own_domid_ = transport::parse_domid(*domid).value_or(0);
  }
  store_.watch("@introduceDomain", domains_changed_);
  store_.watch("@releaseDomain", domains_changed_);
  std::size_t looks = 0;
  for (;;) {
    const bool complete = co_await scan();
    bool event = true;
    if (looks < later_looks.size()) {
      event = co_await domains_changed_.wait_for(later_looks[looks]);
    } else {
      co_await domains_changed_.wait();
    }
    looks = event || !complete ? 0 : looks + 1;
  }
}

asio::awaitable<boost::system::result<Broker::Identity>> Broker::identify(Domid domid) {
  const auto introduced = co_await store_.is_introduced(domid);
  if (!introduced) co_return introduced.error();
  if (!*introduced) {
    co_return boost::system::error_code(ENOENT, boost::system::generic_category());
  }
  const auto name = co_await store_.read(domain_path(domid) + "/name");
  if (!name) co_return name.error();
  const auto uuid = co_await store_.read(domain_path(domid) + "/vm");
  if (!uuid) co_return uuid.error();
  co_return Identity{*name, *uuid};
}

// Compares what lives with what is served. False when xenstore did not answer everything: then
// nothing is torn down on a guess.
asio::awaitable<bool> Broker::scan() {
  const auto domids = co_await store_.list("/local/domain");
  if (!domids) co_return false;
  std::set<Domid> living;
  bool complete = true;
  for (const auto& text : *domids) {
    const auto domid = transport::parse_domid(text);
    if (!domid || *domid == own_domid_) continue;
    const auto identity = co_await identify(*domid);
    const auto served = guests_.find(*domid);
    if (!identity) {
      const int error = identity.error().value();
      if (error != ENOENT) {
        complete = false;
        living.insert(*domid);
      }
      continue;
    }
    const bool wanted = guest_is_served(config_, identity->name);
    if (served != guests_.end() && (served->second->identity != *identity || !wanted)) {
      stop_guest(*domid);
    }
    living.insert(*domid);
    if (!guests_.contains(*domid) && wanted && name_is_usable(identity->name)) {
      co_await start_guest(*domid, *identity);
    }
  }
  std::vector<Domid> gone;
  for (const auto& [domid, guest] : guests_) {
    if (!living.contains(domid)) gone.push_back(domid);
  }
  for (const Domid domid : gone) stop_guest(domid);
  co_return complete;
}

// A guest's name becomes a folder's name beside the broker's own files and the domids' links.
bool Broker::name_is_usable(const std::string& name) const {
  const auto parsed = ChannelName::parse(name);
  const bool number = name.find_first_not_of("0123456789") == std::string::npos;
  if (!parsed || number || name == "control" || name == "events") {
    spdlog::warn("guest {}: not served: its name cannot be a folder's name",
                 escape_untrusted(name));
    return false;
  }
  for (const auto& [domid, guest] : guests_) {
    if (guest->identity.name == name) {
      spdlog::warn("guest {}: not served: domain {} has the same name", name, domid);
      return false;
    }
  }
  return true;
}

asio::awaitable<void> Broker::start_guest(Domid domid, Identity identity) {
  const std::string folder = config_.run_dir + '/' + identity.name;
  std::error_code error;
  fs::create_directories(folder, error);
  auto guest = std::make_shared<Guest>(domid, std::move(identity), folder);
  try {
    guest->listeners.emplace_back("control", guest->files->listen("control", 0600));
    guest->listeners.emplace_back("events", listen_for_events(*guest->files, config_));
    guest->listeners.emplace_back(connect_socket_name,
                                  guest->files->listen(connect_socket_name, config_.connect.mode));
  } catch (const StartFailure& failure) {
    spdlog::error("guest {}: not served: {}", guest->identity.name, failure.what);
    co_return;
  }
  guest->channels.apply(channels_for(config_, guest->identity.name));
  guest->domid_link = config_.run_dir + '/' + std::to_string(domid);
  fs::remove(guest->domid_link, error);
  fs::create_symlink(guest->identity.name, guest->domid_link, error);
  guests_[domid] = guest;

  // Owned by the host's domain, readable by the guest, and outside every folder the guest owns:
  // the guest can neither write nor remove it (docs/xenstore.md).
  const std::vector<std::string> permissions{fmt::format("n{}", own_domid_),
                                             fmt::format("r{}", domid)};
  const std::string node = fmt::format("{}/{}", domain_path(domid), host_node);
  std::vector<transport::XenStoreWrite> writes;
  writes.push_back({node, "", permissions});
  writes.push_back(
      {fmt::format("{}/{}", node, host_domid_key), std::to_string(own_domid_), permissions});
  const auto written = co_await store_.write_all(std::move(writes), domain_path(domid) + "/domid");
  if (written) {
    spdlog::warn("guest {}: xenstore: writing {}: {}", guest->identity.name, node,
                 written.message());
    stop_guest(domid);
    co_return;
  }
  spdlog::info("guest {} (domain {}): serving in {}", guest->identity.name, domid, folder);
  publish("guest-up", *guest);
  asio::co_spawn(executor_, keep_worker(guest), transport::or_throw);
}

void Broker::stop_guest(Domid domid) {
  const auto found = guests_.find(domid);
  if (found == guests_.end()) return;
  const auto guest = found->second;
  guests_.erase(found);
  guest->stopped = true;
  // At once and without asking: its mappings keep a destroyed domain from going away.
  if (guest->worker > 0) ::kill(guest->worker, SIGKILL);
  std::error_code ignored;
  fs::remove(guest->domid_link, ignored);
  guest->listeners.clear();
  guest->served.clear();
  { const ListenerFiles files = std::move(*guest->files); }
  fs::remove(guest->run_dir, ignored);
  spdlog::info("guest {} (domain {}): no longer served", guest->identity.name, domid);
  publish("guest-down", *guest);
}

boost::system::result<pid_t> Broker::spawn_worker(const Guest& guest, int orders,
                                                  int settings) const {
  std::vector<std::string> arguments{worker_.program};
  arguments.insert(arguments.end(), worker_.arguments.begin(), worker_.arguments.end());
  arguments.insert(arguments.end(),
                   {"--worker", guest.identity.name, "--domid", std::to_string(guest.domid),
                    "--uuid", uuid_of(guest.identity.uuid), "--orders", std::to_string(orders),
                    "--config", fmt::format("/proc/self/fd/{}", settings)});
  for (const auto& [name, listener] : guest.listeners) {
    arguments.insert(arguments.end(), {"--listener", fmt::format("{}={}", name, listener.get())});
  }
  std::vector<char*> pointers;
  pointers.reserve(arguments.size() + 1);
  for (auto& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);

  const pid_t child = ::fork();
  if (child < 0) return last_error();
  if (child > 0) return child;
  // Only calls that are safe between fork and exec from here on.
  ::fcntl(orders, F_SETFD, 0);
  ::fcntl(settings, F_SETFD, 0);
  for (const auto& [name, listener] : guest.listeners) ::fcntl(listener.get(), F_SETFD, 0);
  ::execv(pointers[0], pointers.data());
  ::_exit(127);
}

// Its channels' sockets go to it one by one, as they do when there are more later.
boost::system::result<pid_t> Broker::start_worker(Guest& guest) {
  transport::UniqueFd ours;
  transport::UniqueFd theirs;
  try {
    std::tie(ours, theirs) = make_order_pair();
  } catch (const std::system_error& error) {
    return boost::system::error_code(error.code());
  }
  const transport::UniqueFd settings = file_in_memory(worker_.settings);
  if (!settings) return last_error();
  auto child = spawn_worker(guest, theirs.get(), settings.get());
  if (!child) return child;
  guest.worker = *child;
  ++guest.worker_starts;
  guest.orders.emplace(executor_, std::move(ours));
  guest.tell_all();
  return child;
}

asio::awaitable<void> Broker::keep_worker(std::shared_ptr<Guest> guest) {
  Backoff backoff(milliseconds(config_.timeouts.retry_ms_min),
                  milliseconds(config_.timeouts.retry_ms_max));
  asio::steady_timer timer(executor_);
  while (!guest->stopped) {
    const auto begin = std::chrono::steady_clock::now();
    const auto child = start_worker(*guest);
    if (child) {
      const int status = co_await transport::await_exit(executor_, *child);
      guest->worker = -1;
      guest->orders.reset();
      if (guest->stopped) co_return;
      spdlog::warn("guest {}: worker {} ended ({} {}); starting another", guest->identity.name,
                   *child, WIFSIGNALED(status) ? "signal" : "exit",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    } else {
      spdlog::error("guest {}: no worker: {}", guest->identity.name, child.error().message());
    }
    if (std::chrono::steady_clock::now() - begin > good_run) backoff.reset();
    timer.expires_after(backoff.next());
    co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
  }
}

asio::awaitable<void> Broker::shut_down() {
  while (!guests_.empty()) {
    const Domid domid = guests_.begin()->first;
    stop_guest(domid);
    co_await store_.remove(fmt::format("{}/{}", domain_path(domid), host_node));
  }
}

Event Broker::event_of(std::string_view kind, const Guest& guest) {
  return {std::string(kind),
          {{"guest", guest.identity.name},
           {"domid", std::to_string(guest.domid)},
           {"run_dir", guest.run_dir}}};
}

void Broker::publish(std::string_view kind, const Guest& guest) {
  if (events_ != nullptr && events_->wants_events()) events_->publish(event_of(kind, guest));
}

std::vector<Event> Broker::events_now() const {
  std::vector<Event> events;
  for (const auto& [domid, guest] : guests_) events.push_back(event_of("guest", *guest));
  return events;
}

std::shared_ptr<Broker::Guest> Broker::find(std::string_view guest_name) const {
  for (const auto& [domid, guest] : guests_) {
    if (guest->identity.name == guest_name) return guest;
  }
  return nullptr;
}

// A worker that does not take its orders would serve what is no longer to be served.
void Broker::check_orders(const Guest& guest) {
  if (guest.worker <= 0 || !guest.orders || guest.orders->works()) return;
  spdlog::error("guest {}: worker {} does not take its orders; it is replaced", guest.identity.name,
                guest.worker);
  ::kill(guest.worker, SIGKILL);
}

Applied Broker::reload(BridgeConfig fresh) {
  config_.channels = std::move(fresh.channels);
  config_.denials = std::move(fresh.denials);
  // What a file that cannot be read says of guests is what it said before, as far as anyone knows.
  if (!fresh.guests_unknown) config_.guests = std::move(fresh.guests);
  Applied applied;
  for (const auto& [domid, guest] : guests_) {
    const std::string& name = guest->identity.name;
    if (!guest_is_served(config_, name)) continue;  // scan() ends it
    const ChannelChanges changes = guest->channels.apply(channels_for(config_, name));
    if (!changes.empty()) applied.changes[name] = describe(changes);
    applied.has_failed = applied.has_failed || !changes.failed.empty();
    check_orders(*guest);
  }
  domains_changed_.raise();
  return applied;
}

std::string Broker::add_channel(std::string_view guest_name, ChannelConfig channel) {
  const auto guest = find(guest_name);
  if (!guest) return "there is no such guest";
  std::string error = guest->channels.add(std::move(channel));
  check_orders(*guest);
  return error;
}

bool Broker::remove_channel(std::string_view guest_name, const ChannelName& name) {
  const auto guest = find(guest_name);
  if (!guest || !guest->channels.remove(name)) return false;
  check_orders(*guest);
  return true;
}

json::array Broker::status() const {
  json::array guests;
  for (const auto& [domid, guest] : guests_) {
    guests.push_back({{"name", guest->identity.name},
                      {"domid", domid},
                      {"state", guest->worker > 0 ? "serving" : "waiting"},
                      {"worker_pid", guest->worker},
                      {"worker_restarts", guest->worker_starts > 0 ? guest->worker_starts - 1 : 0},
                      {"run_dir", guest->run_dir},
                      {"control", guest->run_dir + "/control"}});
  }
  return guests;
}

}  // namespace xenlane::host
