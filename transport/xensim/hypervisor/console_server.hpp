// The two ends of the domains' named consoles: a Unix socket as QEMU serves it on the host and a
// pty in place of the guest's hvc device, with a Console between them.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "transport/xensim/hypervisor/console.hpp"
#include "transport/xensim/hypervisor/machine.hpp"

namespace xensim::hv {

/// Where a channel is to be.
struct ChannelPlace {
  std::string name;
  std::string socket;  ///< for the host
  std::string device;  ///< for the guest: becomes a symbolic link to the pty
};

struct ChannelState {
  ChannelPlace place;
  bool has_client = false;
  bool is_open_in_guest = false;
  std::size_t backlog = 0;  ///< bytes that QEMU keeps for a client
  Console::Counts counts;
};

/// Lives on the io_context it is given; call it from the thread that runs that. The destructor
/// takes all channels away.
class ConsoleServer {
 public:
  explicit ConsoleServer(boost::asio::io_context& io) : io_(io) {}
  ~ConsoleServer();
  ConsoleServer(const ConsoleServer&) = delete;
  ConsoleServer& operator=(const ConsoleServer&) = delete;

  /// Serves the channel from now on. The folders of its places must be there; what has its names is
  /// replaced. Throws std::system_error that says what could not be made.
  void add(Domid domid, const ChannelPlace& place);
  /// Hangs up on both sides and takes sockets, ptys and links away.
  void remove(Domid domid);

  /// Sets a switch of all channels of the domain. Throws std::invalid_argument with a one-line text
  /// if there is no such switch or value.
  void set(Domid domid, const std::string& key, const std::string& value);

  /// In the order they were added in.
  std::vector<ChannelState> list(Domid domid) const;

 private:
  class Channel;
  boost::asio::io_context& io_;
  std::map<Domid, std::vector<std::shared_ptr<Channel>>> channels_;
};

}  // namespace xensim::hv
