// Puts a Machine on sockets: one SOCK_SEQPACKET socket per domain, one connection per open handle.
//
// Which socket a connection was made on is the only identity there is. What a message says is
// checked by Machine; what it is shaped like is checked here.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "transport/xensim/hypervisor/machine.hpp"

namespace xensim::hv {

class HypervisorServer {
 public:
  /// `on_release` is called after a mapping or a handle has been released.
  HypervisorServer(boost::asio::io_context& io, Machine& machine, std::function<void()> on_release);
  ~HypervisorServer();
  HypervisorServer(const HypervisorServer&) = delete;
  HypervisorServer& operator=(const HypervisorServer&) = delete;

  /// Serves the domain at `path` (mode 0600). Throws std::system_error.
  void listen(const std::shared_ptr<Domain>& domain, const std::string& path);

  /// Closes the domain's socket and its connections, whose handles are closed.
  void remove(Domid domid);

 private:
  class Listener;
  class Connection;

  boost::asio::io_context& io_;
  Machine& machine_;
  std::function<void()> on_release_;
  std::map<Domid, std::shared_ptr<Listener>> listeners_;
  std::set<std::shared_ptr<Connection>> connections_;
};

}  // namespace xensim::hv
