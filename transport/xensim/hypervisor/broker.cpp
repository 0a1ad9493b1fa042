#include "transport/xensim/hypervisor/broker.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>
#include <charconv>
#include <filesystem>
#include <stdexcept>

#include "transport/xensim/hypervisor/console_nodes.hpp"
#include "transport/xensim/hypervisor/console_server.hpp"
#include "transport/xensim/hypervisor/control.hpp"
#include "transport/xensim/hypervisor/hypervisor_server.hpp"
#include "transport/xensim/hypervisor/processes.hpp"
#include "transport/xensim/store/server.hpp"

namespace xensim::hv {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using boost::system::error_code;

/// How long the processes of a domain may take to die of SIGKILL.
constexpr std::chrono::seconds kill_patience{10};
constexpr std::size_t max_name_bytes = 64;
constexpr std::uint64_t guest_memory_kib = std::uint64_t{512} << 10;

std::string random_hex(std::size_t bytes) {
  std::vector<unsigned char> random(bytes);
  if (::getrandom(random.data(), bytes, 0) < 0) throw std::runtime_error("no random numbers");
  std::string text;
  for (const unsigned char byte : random) text += fmt::format("{:02x}", byte);
  return text;
}

std::string random_uuid() {
  const std::string hex = random_hex(16);
  return fmt::format("{}-{}-{}-{}-{}", hex.substr(0, 8), hex.substr(8, 4), hex.substr(12, 4),
                     hex.substr(16, 4), hex.substr(20));
}

void log(const std::string& line) {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  fmt::print(stderr, "{}.{:03} {}\n", now.tv_sec, now.tv_nsec / 1'000'000, line);
  std::fflush(stderr);
}

bool is_number(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

std::optional<std::uint32_t> to_number(const std::string& text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool can_be_folder(const std::string& name) {
  return name != "." && name != "..";
}

class Broker {
 public:
  explicit Broker(const BrokerOptions& options)
      : options_(options),
        layout_(options.layout),
        nonce_(random_hex(8)),
        server_(io_, machine_, [this] { machine_.bury_the_dead(); }),
        store_(io_, Quotas{}),
        consoles_(io_),
        signals_(io_, SIGTERM, SIGINT) {}

  void start();
  void run() { io_.run(); }

 private:
  json::object answer(const json::object& request, pid_t peer, std::function<void()>& after);
  json::object list() const;
  json::array list_channels(Domid domid) const;
  void set(const json::object& request);
  std::shared_ptr<Domain> create(const GuestSpec& spec);
  void check_channels(const GuestSpec& spec) const;
  void add_domain(Domid domid, const std::string& name);
  void add_channels(Domid domid, const GuestSpec& spec);
  void destroy(const std::shared_ptr<Domain>& domain, pid_t spare);
  void down(pid_t spare);
  std::shared_ptr<Domain> named(const json::object& request) const;

  BrokerOptions options_;
  Layout layout_;
  std::string nonce_;
  asio::io_context io_;
  Machine machine_;
  HypervisorServer server_;
  StoreServer store_;
  ConsoleServer consoles_;
  asio::signal_set signals_;
  std::optional<ControlServer> control_;
  std::optional<asio::posix::stream_descriptor> lifetime_;
  std::array<char, 1> lifetime_byte_{};  ///< never comes
};

void Broker::start() {
  std::filesystem::create_directories(layout_.domains());
  add_domain(0, "Domain-0");
  for (const GuestSpec& guest : options_.guests) create(guest);
  control_.emplace(io_, layout_.control(),
                   [this](const json::object& request, pid_t peer, std::function<void()>& after) {
                     return answer(request, peer, after);
                   });
  signals_.async_wait([this](error_code error, int) {
    if (!error) down(0);
    io_.stop();
  });
  if (options_.lifetime_fd >= 0) {
    lifetime_.emplace(io_, options_.lifetime_fd);
    lifetime_->async_read_some(asio::buffer(lifetime_byte_), [this](error_code error, std::size_t) {
      if (error == asio::error::operation_aborted) return;
      log("the launcher is gone: going down");
      down(0);
      io_.stop();
    });
  }
}

void Broker::add_domain(Domid domid, const std::string& name) {
  const auto domain = machine_.create_domain(domid, name);
  domain->gntalloc_limit = options_.gntalloc_limit;
  std::filesystem::create_directories(layout_.run_folder(domid));
  std::filesystem::create_directories(layout_.device_folder(domid));
  server_.listen(domain, layout_.hypervisor_socket(domid));
  store_.listen(domid, layout_.store_socket(domid));
  DomainSpec spec;
  spec.domid = domid;
  spec.name = name;
  spec.uuid = domid == 0 ? "00000000-0000-0000-0000-000000000000" : random_uuid();
  spec.memory_kib = guest_memory_kib;
  store_.introduce(spec);
  log(fmt::format("domain {} is {}", domid, name));
}

void Broker::check_channels(const GuestSpec& spec) const {
  if (spec.channels.size() > channels_max) {
    throw std::runtime_error(fmt::format("{} has {} channels: a guest has hvc1 to hvc{}, no more",
                                         spec.name, spec.channels.size(), channels_max));
  }
  if (!spec.channels.empty() && !can_be_folder(spec.name)) {
    throw std::runtime_error(
        fmt::format("'{}' cannot be the folder of its channels: name it otherwise", spec.name));
  }
  for (auto name = spec.channels.begin(); name != spec.channels.end(); ++name) {
    check_channel_name(*name);
    if (std::find(spec.channels.begin(), name, *name) != name) {
      throw std::runtime_error(
          fmt::format("{} has a channel {} already: choose another name", spec.name, *name));
    }
    const std::string path = layout_.channel_socket(spec.name, *name);
    if (path.size() > max_socket_path) {
      throw std::runtime_error(fmt::format(
          "the socket {} has a path of {} bytes, at most {} fit into a socket address: choose a "
          "shorter --dir, guest or channel name",
          path, path.size(), max_socket_path));
    }
  }
}

void Broker::add_channels(Domid domid, const GuestSpec& spec) {
  if (spec.channels.empty()) return;
  std::filesystem::create_directories(layout_.channel_folder(spec.name));
  std::size_t index = 0;
  for (const std::string& name : spec.channels) {
    const ChannelPlace place{name, layout_.channel_socket(spec.name, name),
                             layout_.device(domid, ++index)};
    consoles_.add(domid, place);
    write_console_nodes(store_, domid, index, name, place.socket);
  }
}

std::shared_ptr<Domain> Broker::create(const GuestSpec& spec) {
  check_channels(spec);
  for (const auto& [domid, domain] : machine_.domains()) {
    if (!domain->dying && domain->name == spec.name) {
      throw std::runtime_error(fmt::format(
          "a domain named {} is running (domid {}): choose another name", spec.name, domid));
    }
  }
  const std::optional<Domid> next = machine_.unused_domid();
  if (spec.domid < 0 && !next) throw std::runtime_error("all domids have been used: start afresh");
  const auto domid = spec.domid < 0 ? *next : static_cast<Domid>(spec.domid);
  if (const auto other = machine_.find(domid)) {
    throw std::runtime_error(
        fmt::format("domid {} is taken by {}: choose another or none", domid,
                    other->dying ? "a dying domain whose pages are mapped" : other->name));
  }
  add_domain(domid, spec.name);
  const auto domain = machine_.find(domid);
  try {
    add_channels(domid, spec);
  } catch (...) {
    destroy(domain, 0);
    throw;
  }
  return domain;
}

void Broker::destroy(const std::shared_ptr<Domain>& domain, pid_t spare) {
  machine_.freeze(*domain);
  if (!kill_tagged(layout_.tag(domain->domid, nonce_), spare, kill_patience)) {
    log(fmt::format("processes of domain {} outlived SIGKILL for {} s", domain->domid,
                    kill_patience.count()));
  }
  server_.remove(domain->domid);
  machine_.tear_down(*domain);
  erase_console_nodes(store_, domain->domid);
  store_.remove(domain->domid);
  machine_.bury_the_dead();
  error_code ignored;
  consoles_.remove(domain->domid);
  if (can_be_folder(domain->name)) {
    std::filesystem::remove_all(layout_.channel_folder(domain->name), ignored);
  }
  std::filesystem::remove_all(layout_.domain(domain->domid), ignored);
  log(fmt::format("domain {} ({}) destroyed", domain->domid, domain->name));
}

void Broker::down(pid_t spare) {
  const auto domains = machine_.domains();
  for (auto last = domains.rbegin(); last != domains.rend(); ++last) {
    if (!last->second->dying) destroy(last->second, spare);
  }
  log("down");
  error_code ignored;
  control_.reset();
  std::filesystem::remove_all(layout_.domains(), ignored);
  std::filesystem::remove_all(layout_.channels(), ignored);
  std::filesystem::remove(layout_.control(), ignored);
  std::filesystem::remove(layout_.pid_file(), ignored);
  if (options_.remove_dir) std::filesystem::remove_all(layout_.dir, ignored);
}

std::shared_ptr<Domain> Broker::named(const json::object& request) const {
  const std::string text(request.at("domain").as_string());
  if (is_number(text)) {
    const std::optional<std::uint32_t> domid = to_number(text);
    auto domain = domid ? machine_.find(*domid) : nullptr;
    if (domain != nullptr && !domain->dying) return domain;
  } else {
    for (const auto& [domid, domain] : machine_.domains()) {
      if (!domain->dying && domain->name == text) return domain;
    }
  }
  throw std::runtime_error(
      fmt::format("no domain {} is running: `xensim list` shows those that are", text));
}

json::array Broker::list_channels(Domid domid) const {
  json::array channels;
  for (const ChannelState& state : consoles_.list(domid)) {
    channels.push_back(json::object{{"name", state.place.name},
                                    {"device", state.place.device},
                                    {"path", state.place.socket},
                                    {"client", state.has_client},
                                    {"guest_open", state.is_open_in_guest},
                                    {"bytes_to_guest", state.counts.to_guest},
                                    {"bytes_to_host", state.counts.to_host},
                                    {"backlog", state.backlog},
                                    {"dropped", state.counts.dropped}});
  }
  return channels;
}

json::object Broker::list() const {
  json::array domains;
  for (const auto& [domid, domain] : machine_.domains()) {
    const Usage usage = domain->dying ? Usage{} : store_.usage(domid);
    domains.push_back(json::object{{"domid", domid},
                                   {"name", domain->dying ? "(null)" : domain->name},
                                   {"state", domain->dying ? "dying" : "running"},
                                   {"grants", domain->grants.size()},
                                   {"grants_limit", domain->gntalloc_limit},
                                   {"mapped", domain->mapped_pages},
                                   {"ports", domain->ports.size()},
                                   {"nodes", usage.nodes},
                                   {"watches", usage.watches},
                                   {"channels", list_channels(domid)}});
  }
  return {{"ok", true}, {"domains", std::move(domains)}};
}

void Broker::set(const json::object& request) {
  const auto domain = named(request);
  const std::string key(request.at("key").as_string());
  const std::string text(request.at("value").as_string());
  if (is_console_setting(key)) {
    if (consoles_.list(domain->domid).empty()) {
      throw std::runtime_error(fmt::format(
          "{} has no channels: give it some with --channel when it is made", domain->name));
    }
    consoles_.set(domain->domid, key, text);
    return;
  }
  if (key == "event-channels") {
    if (text != "cut") throw std::runtime_error("event-channels can only be cut");
    machine_.cut_event_channels(*domain);
    return;
  }
  if (key != "gntalloc-limit") {
    throw std::runtime_error(
        fmt::format("no setting {}: there are gntalloc-limit, event-channels and console...", key));
  }
  const std::optional<std::uint32_t> value = to_number(text);
  if (!value) throw std::runtime_error(fmt::format("{} is not a number of pages", text));
  domain->gntalloc_limit = *value;
}

json::object Broker::answer(const json::object& request, pid_t peer, std::function<void()>& after) {
  try {
    const std::string verb(request.at("verb").as_string());
    if (verb == "list") return list();
    if (verb == "set") {
      set(request);
      return {{"ok", true}};
    }
    if (verb == "find") {
      const auto domain = named(request);
      return {{"ok", true}, {"domid", domain->domid}, {"name", domain->name}, {"nonce", nonce_}};
    }
    if (verb == "create") {
      GuestSpec spec = parse_guest(std::string(request.at("guest").as_string()));
      if (const json::value* channels = request.if_contains("channels")) {
        spec.channels = json::value_to<std::vector<std::string>>(*channels);
      }
      const auto domain = create(spec);
      return {{"ok", true}, {"domid", domain->domid}};
    }
    if (verb == "destroy") {
      const auto domain = named(request);
      if (domain->domid == 0) throw std::runtime_error("Domain-0 ends with `xensim down` only");
      destroy(domain, peer);
      return {{"ok", true}};
    }
    if (verb == "down") {
      down(peer);
      after = [this] { io_.stop(); };
      return {{"ok", true}};
    }
    throw std::runtime_error(fmt::format("no verb {}", verb));
  } catch (const std::exception& error) {
    return {{"ok", false}, {"error", error.what()}};
  }
}

/// Takes the folder for this process. Returns the locked pid file, to be held open.
UniqueFd lock_folder(const Layout& layout) {
  std::filesystem::create_directories(layout.dir);
  if (::chmod(layout.dir.c_str(), 0700) != 0) {
    throw std::runtime_error(fmt::format("{} is not ours: choose another --dir", layout.dir));
  }
  UniqueFd file(::open(layout.pid_file().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file) throw std::runtime_error(fmt::format("cannot write in {}", layout.dir));
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    throw std::runtime_error(
        fmt::format("{} is in use by another xensim: choose another --dir, or `xensim down` first",
                    layout.dir));
  }
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(file.get(), 0) != 0 || ::write(file.get(), pid.data(), pid.size()) < 0) {
    throw std::runtime_error(fmt::format("cannot write {}", layout.pid_file()));
  }
  return file;
}

void allow_all_descriptors() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

void say_ready(int fd, const std::string& line) {
  if (fd < 0) return;
  [[maybe_unused]] const ssize_t written = ::write(fd, line.data(), line.size());
  ::close(fd);
}

}  // namespace

GuestSpec parse_guest(const std::string& text) {
  GuestSpec spec;
  const std::size_t colon = text.find(':');
  spec.name = text.substr(0, colon);
  const bool good_characters = spec.name.find_first_not_of(
                                   "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                   "0123456789._-") == std::string::npos;
  if (spec.name.empty() || spec.name.size() > max_name_bytes || !good_characters ||
      is_number(spec.name)) {
    throw std::invalid_argument(
        fmt::format("guest name '{}': use 1 to {} of A-Z a-z 0-9 . _ -, not digits alone",
                    spec.name, max_name_bytes));
  }
  if (colon == std::string::npos) return spec;
  const std::optional<std::uint32_t> domid = to_number(text.substr(colon + 1));
  if (!domid || *domid == 0 || *domid >= first_reserved_domid) {
    throw std::invalid_argument(
        fmt::format("domid in '{}': use 1 to {}", text, first_reserved_domid - 1));
  }
  spec.domid = static_cast<int>(*domid);
  return spec;
}

int run_broker(const BrokerOptions& options) {
  try {
    ::umask(0077);
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGHUP, SIG_IGN);
    allow_all_descriptors();
    const UniqueFd lock = lock_folder(options.layout);
    std::filesystem::remove_all(options.layout.domains());
    std::filesystem::remove_all(options.layout.channels());
    Broker broker(options);
    broker.start();
    say_ready(options.ready_fd, "ok\n");
    broker.run();
    return 0;
  } catch (const std::exception& error) {
    error_code ignored;
    if (options.remove_dir) std::filesystem::remove_all(options.layout.dir, ignored);
    say_ready(options.ready_fd, std::string(error.what()) + "\n");
    return 1;
  }
}

}  // namespace xensim::hv
