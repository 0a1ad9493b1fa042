// The xenstore without its sockets: connections, watches and requests over one Tree.
//
// The one idea: a call says what came in (a request, a domain made or removed) and gets back, in
// order, the messages that go out and to whom. No I/O, no clock, nothing happens by itself.
//
// Every connection belongs to a domain and has watches and transactions of its own; what they use
// up is counted together over all connections of the domain.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "transport/xensim/store/tree.hpp"
#include "transport/xensim/store/types.hpp"
#include "transport/xensim/store/wire.hpp"

namespace xensim {

using ConnectionId = std::uint64_t;

struct Outgoing {
  ConnectionId to = 0;
  Message message;
  bool is_event = false;
};

/// What must happen now, in this order: send all messages, then close the connections.
struct Outcome {
  std::vector<Outgoing> messages;
  std::vector<ConnectionId> closed;
};

class Store {
 public:
  explicit Store(Quotas quotas);

  /// The domain exists from now on, and may be named in permissions, though it is not introduced.
  void add_domain(Domid domid);
  /// Adds the domain, too.
  ConnectionId connect(Domid domid);
  /// Drops its watches and transactions. Unknown connections are ignored.
  void disconnect(ConnectionId id);

  /// Answers one request. The reply is the only message that is no event; events before it are
  /// caused by the request, an event after it is the first of a new watch.
  Outcome handle(ConnectionId id, const Message& untrusted_request);

  /// As StoreServer's calls of these names.
  Outcome introduce(const DomainSpec& spec);
  Outcome announce_release();
  Outcome remove(Domid domid);
  std::optional<std::string> read(std::string_view path) const;
  Outcome write(std::string_view path, std::string_view value);
  Outcome allow_reading(std::string_view path, Domid domid);
  Outcome erase(std::string_view path);
  Usage usage(Domid domid) const;

 private:
  struct Watch {
    std::string path;  ///< absolute, or "@..."
    std::string token;
    std::size_t prefix_bytes = 0;  ///< not told to the client: it asked by a relative path
  };
  struct Connection {
    Domid domid = 0;
    std::vector<Watch> watches;
    std::map<std::uint32_t, Transaction> transactions;
    std::uint32_t next_transaction_id = 1;
  };
  /// One request on its way through.
  struct Call {
    Connection& connection;
    Actor actor;
    const Message& untrusted_request;
    std::vector<std::string_view> strings;  ///< of the payload
    std::string reply{};
    std::vector<Change> changes{};
    std::vector<std::string> special_events{};  ///< "@introduceDomain", "@releaseDomain"
    std::optional<Message> first_event{};
    std::vector<ConnectionId> closed{};
  };
  struct Handler {
    int (Store::*run)(Call&) = nullptr;  ///< null: ENOSYS
    bool is_privileged = false;
    bool ignores_transaction = false;
  };
  static Handler handler_of(std::uint32_t type);

  // Requests; each returns an errno value and fills call.reply.
  int handle_read(Call& call);
  int handle_write(Call& call);
  int handle_mkdir(Call& call);
  int handle_rm(Call& call);
  int handle_directory(Call& call);
  int handle_directory_part(Call& call);
  int handle_get_perms(Call& call);
  int handle_set_perms(Call& call);
  int handle_watch(Call& call);
  int handle_unwatch(Call& call);
  int handle_reset_watches(Call& call);
  int handle_transaction_start(Call& call);
  int handle_transaction_end(Call& call);
  int handle_get_domain_path(Call& call);
  int handle_is_domain_introduced(Call& call);
  int handle_introduce(Call& call);
  int handle_release(Call& call);
  int handle_resume(Call& call);
  int handle_set_target(Call& call);
  int handle_control(Call& call);

  int run(Call& call);
  Identity identity_of(Domid domid) const;
  Checked<NodePtr> get_only_argument(Call& call, unsigned rights);
  int set_special_permissions(const Call& call, std::string_view name, PermissionList permissions);
  PermissionList* special_permissions(std::string_view name);
  void fire(const Change& change, std::vector<Outgoing>& out);
  void fire_special(std::string_view name, std::vector<Outgoing>& out);
  Outcome fire_all(const std::vector<Change>& changes);
  void drop_watches(Connection& connection);
  void drop_transactions(Connection& connection);
  void lay_out(const DomainSpec& spec, std::vector<Change>& changes);
  void forget_domain(Domid domid, std::vector<Change>& changes, std::vector<ConnectionId>& closed);

  Tree tree_;
  std::map<ConnectionId, Connection> connections_;
  ConnectionId next_connection_id_ = 1;
  PermissionList introduce_permissions_{Permission{}};
  PermissionList release_permissions_{Permission{}};
};

}  // namespace xensim
