// Reads xenstore, one question after the other, each with a deadline.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <cerrno>
#include <optional>
#include <stdexcept>

#include "bridge/daemon/negotiation.hpp"
#include "bridge/doctor/gather_parts.hpp"
#include "transport/xenstore/client.hpp"

namespace xenlane::bridge::doctor {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using transport::XenStore;

/// Channels that a domain can have beside its own console.
constexpr int consoles_max = 9;
/// Most guests that are looked at.
constexpr std::size_t guests_max = 4096;

/// xenstore for a program that may wait.
class Store {
 public:
  explicit Store(const std::string& path) {
    store_.emplace(io_.get_executor(), path, xenstore_patience);
  }
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;
  ~Store() {
    store_.reset();
    io_.restart();
    io_.poll();
  }

  XenStore& operator*() { return *store_; }

  /// Runs one call of the client's to its end, which its deadline sets.
  template <typename T>
  T run(asio::awaitable<T> call) {
    std::optional<T> result;
    std::exception_ptr trouble;
    asio::co_spawn(io_, std::move(call), [&](const std::exception_ptr& exception, T value) {
      trouble = exception;
      result.emplace(std::move(value));
    });
    io_.restart();
    while (!result) {
      if (io_.run_one() == 0) throw std::logic_error("the client of xenstore gave no answer");
    }
    if (trouble) std::rethrow_exception(trouble);
    return std::move(*result);
  }

  /// Empty when there is no such node, or it may not be read.
  std::string read(const std::string& path) {
    const auto value = value_of(path);
    return value ? *value : std::string();
  }
  std::vector<std::string> list(const std::string& path) {
    if (silent_) return {};
    auto names = run(store_->list(path));
    if (!names) heed(names.error());
    return names ? std::move(*names) : std::vector<std::string>();
  }
  NodeFact node(const std::string& path) {
    NodeFact fact;
    fact.path = path;
    const auto value = value_of(path);
    if (!value) {
      fact.error = value.error().value();
      return fact;
    }
    fact.value = *value;
    auto permissions = run(store_->permissions(path));
    if (permissions) {
      fact.permissions = std::move(*permissions);
    } else {
      fact.permissions_error = permissions.error().value();
      heed(permissions.error());
    }
    return fact;
  }
  /// It has let a deadline pass or gone away: nothing more is asked.
  bool silent() const { return silent_; }

 private:
  XenStore::Result<std::string> value_of(const std::string& path) {
    if (silent_) return XenStore::Error(ETIMEDOUT, boost::system::generic_category());
    auto value = run(store_->read(path));
    if (!value) heed(value.error());
    return value;
  }
  void heed(const XenStore::Error& error) {
    silent_ |= error.value() == ETIMEDOUT || error.value() == ENOTCONN;
  }

  asio::io_context io_;
  std::optional<XenStore> store_;
  bool silent_ = false;
};

std::string store_path(const Places& places) {
  return places.xenstore.empty() ? transport::default_xenstore_path() : places.xenstore;
}

std::string key(std::string_view folder, std::string_view name) {
  return fmt::format("{}/{}", folder, name);
}

/// The nodes that the guest and libxenvchan make for one lane.
std::vector<transport::XenStoreWrite> nodes_of_a_lane() {
  const std::string folder = "data/xenlane-doctor";
  return {{folder + "/1/ring-ref", "1", {}},
          {folder + "/1/event-channel", "1", {}},
          {folder + "/ring", "1", {}}};
}

void read_as_guest(Store& store, Facts& facts) {
  facts.host_node = store.node(key(host_node, host_domid_key));
  facts.wanted_node = store.node(key(host_node, wanted_key));
  for (int number = 1; number <= consoles_max; ++number) {
    const std::string name = store.read(fmt::format("device/console/{}/name", number));
    if (!name.empty()) facts.console.nodes.push_back({std::to_string(number), name, {}});
  }
  if (store.silent()) return;
  facts.xenstore.write_error = store.run((*store).try_writes(nodes_of_a_lane())).value();
  facts.xenstore.watch_error = store.run((*store).try_watch("data")).value();
}

/// What libxl keeps of a domain's configuration: the names of its channels in their order.
std::optional<std::vector<std::string>> told_channels(const Places& places, Domid domid,
                                                      const std::string& vm) {
  const std::string uuid = vm.substr(vm.rfind('/') + 1);
  const bool is_uuid =
      !uuid.empty() && uuid.find_first_not_of("0123456789abcdefABCDEF-") == std::string::npos;
  if (!is_uuid) return std::nullopt;
  std::string text =
      text_of(fmt::format("{}/var/lib/xen/userdata-d.{}.{}.libxl-json", places.root, domid, uuid));
  text.erase(std::min(text.find('\0'), text.size()));  // libxl writes the C string's end too
  boost::system::error_code error;
  const json::value record = json::parse(text, error);
  if (error || !record.is_object()) return std::nullopt;
  std::vector<std::string> names;
  const json::value* channels = record.get_object().if_contains("channels");
  if (channels == nullptr || !channels->is_array()) return names;
  for (const json::value& channel : channels->get_array()) {
    const json::object* entry = channel.if_object();
    const json::value* name = entry == nullptr ? nullptr : entry->if_contains("name");
    names.emplace_back(name != nullptr && name->is_string() ? name->get_string().c_str() : "");
  }
  return names;
}

void read_guest(Store& store, const Places& places, Domid own, GuestFact& guest) {
  const std::string home = domain_path(guest.domid);
  guest.host_node = store.node(key(home, key(host_node, host_domid_key)));
  guest.wanted_node = store.node(key(home, key(host_node, wanted_key)));
  const std::string backends = fmt::format("{}/backend/console/{}", domain_path(own), guest.domid);
  for (const std::string& number : store.list(backends)) {
    if (number == "0") continue;  // the domain's own console
    const std::string folder = key(backends, number);
    guest.consoles.push_back({number, store.read(folder + "/name"), store.read(folder + "/path")});
  }
  guest.told_channels = told_channels(places, guest.domid, store.read(home + "/vm"));
}

void read_as_host(Store& store, const Places& places, Facts& facts) {
  const Domid own = facts.xenstore.domid.value_or(0);
  for (const std::string& text : store.list("/local/domain")) {
    const auto domid = transport::parse_domid(text);
    if (!domid || *domid == own || facts.guests.size() >= guests_max) continue;
    const std::string name = store.read(domain_path(*domid) + "/name");
    if (name.empty()) continue;  // a domain that goes
    if (!places.guest.empty() && places.guest != name && places.guest != text) continue;
    auto guest = std::ranges::find(facts.guests, *domid, &GuestFact::domid);
    if (guest == facts.guests.end() || guest->name != name) {
      GuestFact unknown;
      unknown.domid = *domid;
      unknown.name = name;
      guest = facts.guests.insert(facts.guests.end(), std::move(unknown));
    }
    guest->runs = true;
    read_guest(store, places, own, *guest);
  }
}

}  // namespace

void ask_xenstore(const Places& places, Facts& facts) {
  XenstoreFacts& fact = facts.xenstore;
  fact.path = store_path(places);
  if (::access(fact.path.c_str(), F_OK) != 0) {
    fact.error = errno;
    return;
  }
  Store store(fact.path);
  fact.error = store.run((*store).wait_connected(xenstore_patience)).value();
  if (fact.error != 0) return;
  const auto begin = std::chrono::steady_clock::now();
  const auto domid = store.run((*store).read("domid"));
  fact.answer_time = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - begin);
  if (domid) {
    fact.domid = transport::parse_domid(*domid);
  } else if (domid.error().value() != ENOENT) {
    // In dom0 the node may be missing; that is an answer.
    fact.error = domid.error().value();
  }
}

void read_xenstore(const Places& places, Facts& facts) {
  if (facts.xenstore.error != 0) return;
  Store store(facts.xenstore.path);
  if (store.run((*store).wait_connected(xenstore_patience))) return;
  if (facts.side == Side::guest) {
    read_as_guest(store, facts);
  } else {
    read_as_host(store, places, facts);
  }
}

}  // namespace xenlane::bridge::doctor
