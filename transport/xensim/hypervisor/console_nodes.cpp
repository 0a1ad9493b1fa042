#include "transport/xensim/hypervisor/console_nodes.hpp"

#include <fmt/format.h>

#include <initializer_list>
#include <utility>

#include "transport/xensim/hypervisor/console.hpp"

namespace xensim::hv {
namespace {

/// Added to a channel's index, they make a grant reference and a port that nobody can have: no page
/// and no event channel stand behind a channel here.
constexpr std::size_t no_ring_ref = 0x10000;
constexpr std::size_t no_port = 0x10000;

constexpr const char* connected = "4";  // XenbusStateConnected

using Nodes = std::initializer_list<std::pair<const char*, std::string>>;

void write_folder(StoreServer& store, const std::string& folder, Domid reader, const Nodes& nodes) {
  store.write(folder, "");
  store.allow_reading(folder, reader);
  for (const auto& [name, value] : nodes) store.write(folder + "/" + name, value);
}

std::string backend_folder(Domid domid) {
  return fmt::format("/local/domain/0/backend/console/{}", domid);
}

}  // namespace

void write_console_nodes(StoreServer& store, Domid domid, std::size_t index,
                         const std::string& name, const std::string& socket) {
  const std::string backend = fmt::format("{}/{}", backend_folder(domid), index);
  const std::string frontend = fmt::format("/local/domain/{}/device/console/{}", domid, index);
  write_folder(store, backend, domid,
               {{"frontend", frontend},
                {"frontend-id", std::to_string(domid)},
                {"online", "1"},
                {"state", connected},
                {"protocol", "vt100"},
                {"name", name},
                {"connection", "socket"},
                {"path", socket}});
  write_folder(store, frontend, domid,
               {{"backend", backend},
                {"backend-id", "0"},
                {"limit", std::to_string(console_limit_bytes)},
                {"type", "ioemu"},
                {"output", fmt::format("chardev:libxl-channel{}", index)},
                {"tty", ""},
                {"name", name},
                {"protocol", "vt100"},
                {"ring-ref", std::to_string(no_ring_ref + index)},
                {"port", std::to_string(no_port + index)},
                {"state", connected}});
}

void erase_console_nodes(StoreServer& store, Domid domid) {
  store.erase(backend_folder(domid));
}

}  // namespace xensim::hv
