#include "transport/xensim/store/store.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "transport/xensim/store/path.hpp"

extern "C" {
#include <xen/io/xs_wire.h>
}

namespace xensim {
namespace {

Message make_event(std::string_view path, std::string_view token) {
  Message event;
  event.type = XS_WATCH_EVENT;
  event.payload.append(path).append(1, '\0').append(token).append(1, '\0');
  return event;
}

}  // namespace

Store::Store(Quotas quotas) : tree_(quotas) {
  // As xen-init-dom0 leaves it.
  write("/local/domain/0/domid", "0");
  write("/local/domain/0/name", "Domain-0");
}

void Store::add_domain(Domid domid) {
  tree_.domains()[domid];
}

ConnectionId Store::connect(Domid domid) {
  add_domain(domid);
  const auto id = next_connection_id_++;
  connections_[id].domid = domid;
  return id;
}

void Store::disconnect(ConnectionId id) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  drop_watches(found->second);
  drop_transactions(found->second);
  connections_.erase(found);
}

Identity Store::identity_of(Domid domid) const {
  const auto domain = tree_.domains().find(domid);
  return {domid, domain == tree_.domains().end() ? std::nullopt : domain->second.target};
}

Store::Handler Store::handler_of(std::uint32_t type) {
  switch (type) {
    case XS_READ:
      return {&Store::handle_read};
    case XS_WRITE:
      return {&Store::handle_write};
    case XS_MKDIR:
      return {&Store::handle_mkdir};
    case XS_RM:
      return {&Store::handle_rm};
    case XS_DIRECTORY:
      return {&Store::handle_directory};
    case XS_DIRECTORY_PART:
      return {&Store::handle_directory_part};
    case XS_GET_PERMS:
      return {&Store::handle_get_perms};
    case XS_SET_PERMS:
      return {&Store::handle_set_perms};
    case XS_WATCH:
      return {&Store::handle_watch, false, true};
    case XS_UNWATCH:
      return {&Store::handle_unwatch, false, true};
    case XS_RESET_WATCHES:
      return {&Store::handle_reset_watches};
    case XS_TRANSACTION_START:
      return {&Store::handle_transaction_start};
    case XS_TRANSACTION_END:
      return {&Store::handle_transaction_end};
    case XS_GET_DOMAIN_PATH:
      return {&Store::handle_get_domain_path};
    case XS_IS_DOMAIN_INTRODUCED:
      return {&Store::handle_is_domain_introduced, true};
    case XS_INTRODUCE:
      return {&Store::handle_introduce, true};
    case XS_RELEASE:
      return {&Store::handle_release, true};
    case XS_RESUME:
      return {&Store::handle_resume, true};
    case XS_SET_TARGET:
      return {&Store::handle_set_target, true};
    case XS_CONTROL:
      return {&Store::handle_control, true};
    default:
      return {};
  }
}

int Store::run(Call& call) {
  const auto handler = handler_of(call.untrusted_request.type);
  if (handler.run == nullptr) return ENOSYS;
  if (handler.is_privileged && !call.actor.who.is_privileged()) return EACCES;
  const auto transaction_id = call.untrusted_request.transaction_id;
  if (!handler.ignores_transaction && transaction_id != 0) {
    const auto found = call.connection.transactions.find(transaction_id);
    if (found == call.connection.transactions.end()) return ENOENT;
    call.actor.transaction = &found->second;
  }
  if (const int error = (this->*handler.run)(call)) return error;
  return call.reply.size() > payload_bytes_max ? E2BIG : 0;
}

Outcome Store::handle(ConnectionId id, const Message& untrusted_request) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return {};
  Call call{found->second,
            {identity_of(found->second.domid)},
            untrusted_request,
            split_strings(untrusted_request.payload)};
  const int error = run(call);

  Outcome outcome = fire_all(call.changes);
  for (const auto& name : call.special_events) fire_special(name, outcome.messages);
  Message reply{untrusted_request.type, untrusted_request.request_id,
                untrusted_request.transaction_id, std::move(call.reply)};
  if (error != 0) {
    reply.type = XS_ERROR;
    reply.payload = error_name(error);
    reply.payload += '\0';
  }
  outcome.messages.push_back({id, std::move(reply), false});
  if (call.first_event && call.first_event->payload.size() <= payload_bytes_max) {
    outcome.messages.push_back({id, std::move(*call.first_event), true});
  }
  outcome.closed = std::move(call.closed);
  return outcome;
}

Outcome Store::fire_all(const std::vector<Change>& changes) {
  Outcome outcome;
  for (const auto& change : changes) fire(change, outcome.messages);
  return outcome;
}

void Store::fire(const Change& change, std::vector<Outgoing>& out) {
  for (const auto& [id, connection] : connections_) {
    const auto who = identity_of(connection.domid);
    const bool is_permitted =
        std::any_of(change.readable_by.begin(), change.readable_by.end(),
                    [&](const auto& list) { return (rights_of(who, list) & may_read) != 0; });
    if (!is_permitted) continue;
    for (const auto& watch : connection.watches) {
      const bool matches =
          change.is_exact ? change.path == watch.path : is_same_or_below(change.path, watch.path);
      if (!matches) continue;
      auto event = make_event(change.path.substr(watch.prefix_bytes), watch.token);
      if (event.payload.size() <= payload_bytes_max) out.push_back({id, std::move(event), true});
    }
  }
}

void Store::fire_special(std::string_view name, std::vector<Outgoing>& out) {
  const auto* permissions = special_permissions(name);
  for (const auto& [id, connection] : connections_) {
    const auto rights = rights_of(identity_of(connection.domid), *permissions);
    if ((rights & may_read) == 0) continue;
    for (const auto& watch : connection.watches) {
      if (watch.path != name) continue;
      auto event = make_event(name, watch.token);
      if (event.payload.size() <= payload_bytes_max) out.push_back({id, std::move(event), true});
    }
  }
}

PermissionList* Store::special_permissions(std::string_view name) {
  if (name == "@introduceDomain") return &introduce_permissions_;
  if (name == "@releaseDomain") return &release_permissions_;
  return nullptr;
}

// ---- watches -----------------------------------------------------------------------------------

int Store::handle_watch(Call& call) {
  if (call.strings.size() != 2) return EINVAL;
  Watch watch{std::string(call.strings[0]), std::string(call.strings[1])};
  const auto& quotas = tree_.quotas();
  if (watch.path.starts_with('@')) {
    if (watch.path.size() > XENSTORE_REL_PATH_MAX) return EINVAL;
  } else {
    if (!watch.path.starts_with('/')) {
      const auto home = domain_path(call.connection.domid) + "/";
      watch.prefix_bytes = home.size();
      watch.path.insert(0, home);
    }
    if (!is_valid_path(watch.path, quotas.path_bytes)) return EINVAL;
  }
  auto& watches = call.connection.watches;
  const bool is_known = std::any_of(watches.begin(), watches.end(), [&](const auto& known) {
    return known.path == watch.path && known.token == watch.token;
  });
  if (is_known) return EEXIST;
  // "More than", as in C xenstored: one watch above the quota is let through.
  auto& domain = tree_.domains()[call.connection.domid];
  if (!call.actor.who.is_privileged() && domain.watches > quotas.watches) return E2BIG;

  ++domain.watches;
  call.first_event = make_event(watch.path.substr(watch.prefix_bytes), watch.token);
  watches.push_back(std::move(watch));
  call.reply.assign("OK", 3);
  return 0;
}

int Store::handle_unwatch(Call& call) {
  if (call.strings.size() != 2) return EINVAL;
  std::string path(call.strings[0]);
  if (!path.starts_with('/') && !path.starts_with('@')) {
    path.insert(0, domain_path(call.connection.domid) + "/");
  }
  auto& watches = call.connection.watches;
  const auto found = std::find_if(watches.begin(), watches.end(), [&](const auto& watch) {
    return watch.path == path && watch.token == call.strings[1];
  });
  if (found == watches.end()) return ENOENT;
  watches.erase(found);
  --tree_.domains()[call.connection.domid].watches;
  call.reply.assign("OK", 3);
  return 0;
}

int Store::handle_reset_watches(Call& call) {
  drop_watches(call.connection);
  drop_transactions(call.connection);
  call.reply.assign("OK", 3);
  return 0;
}

void Store::drop_watches(Connection& connection) {
  const auto domain = tree_.domains().find(connection.domid);
  if (domain != tree_.domains().end()) domain->second.watches -= connection.watches.size();
  connection.watches.clear();
}

void Store::drop_transactions(Connection& connection) {
  const auto domain = tree_.domains().find(connection.domid);
  if (domain != tree_.domains().end()) {
    domain->second.transactions -= connection.transactions.size();
  }
  connection.transactions.clear();
}

}  // namespace xensim
