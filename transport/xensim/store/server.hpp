// The xenstore daemon of the simulated Xen: one tree for all domains, one Unix socket per domain.
//
// The one idea: where real guests reach xenstored through a ring page that proves who they are,
// here the socket a connection was made on does. Everything said over it is judged as that domain.
// The protocol is the real one (xen/io/xs_wire.h), so libxenstore and its tools work unmodified
// once XENSTORED_PATH names the socket.
//
// Not here: the rules (store.hpp), the bytes on the wire (wire.hpp), and anything of grants or
// event channels.
#pragma once

#include <boost/asio/io_context.hpp>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "transport/xensim/store/types.hpp"

namespace xensim {

/// Lives on the io_context it is given: every call must be made from the thread that runs it (or
/// while nobody does). Call nothing after the io_context is gone. The destructor closes all
/// connections and unlinks the sockets it made.
///
/// Unless said otherwise the calls act as the privileged domain 0, never fail for want of
/// permission or quota, and queue the watch events they cause before they return.
class StoreServer {
 public:
  using Usage = xensim::Usage;

  /// Makes the tree as a freshly started xenstored has it ("/", "/tool", "/tool/xenstored") and
  /// domain 0's nodes: /local/domain/0 with `name` "Domain-0" and `domid` "0".
  StoreServer(boost::asio::io_context& io, Quotas quotas);
  ~StoreServer();
  StoreServer(const StoreServer&) = delete;
  StoreServer& operator=(const StoreServer&) = delete;

  /// Serves domain `domid` on a Unix stream socket at `path` (mode 0600). A stale socket there is
  /// replaced. Every connection made there has that domain's identity and shares its quotas.
  /// A domain may be served on several paths. Throws std::system_error.
  void listen(Domid domid, const std::string& path);

  /// Lays the domain's nodes out as libxl does, then fires @introduceDomain. For domid 0 it only
  /// replaces the name and fires the event.
  void introduce(const DomainSpec& spec);

  /// Fires @releaseDomain only: a domain is dying but still there, as Xen has it at shutdown.
  void announce_release();

  /// Removes the domain's nodes and connections and every permission that names it, closes its
  /// sockets, then fires @releaseDomain. Unknown domains and domid 0 are left alone.
  void remove(Domid domid);

  /// The node's value, or nothing if there is no such node or the path is malformed.
  std::optional<std::string> read(std::string_view path) const;

  /// Sets the node's value, makes missing parents, fires watches. Malformed paths are ignored.
  void write(std::string_view path, std::string_view value);

  /// Domain `domid`, besides domain 0, may read the node from now on, and nobody may write it;
  /// nodes made below it later are like it. A path without a node is ignored.
  void allow_reading(std::string_view path, Domid domid);

  /// Removes the node and everything below it, fires watches. A path without a node is ignored.
  void erase(std::string_view path);

  /// Closes every connection, as a xenstored that dies does. New ones are served as ever.
  void drop_connections();

  /// While true the server accepts nothing, reads nothing and sends nothing: a xenstored that
  /// hangs. Connections made meanwhile wait in the listen backlog.
  void set_mute(bool mute);

  Usage usage(Domid domid) const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace xensim
