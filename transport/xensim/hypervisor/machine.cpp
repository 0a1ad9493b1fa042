#include "transport/xensim/hypervisor/machine.hpp"

#include <algorithm>
#include <cerrno>

namespace xensim::hv {

bool Domain::has_mapped_grants() const {
  return std::any_of(grants.begin(), grants.end(),
                     [](const auto& entry) { return entry.second.mappings != 0; });
}

std::shared_ptr<Domain> Machine::create_domain(Domid domid, std::string name) {
  auto domain = std::make_shared<Domain>();
  domain->domid = domid;
  domain->name = std::move(name);
  domains_[domid] = domain;
  next_domid_ = std::max(next_domid_, static_cast<std::uint32_t>(domid) + 1);
  return domain;
}

std::optional<Domid> Machine::unused_domid() const {
  if (next_domid_ >= first_reserved_domid) return std::nullopt;
  return static_cast<Domid>(next_domid_);
}

std::shared_ptr<Domain> Machine::find(std::uint32_t domid) const {
  if (domid >= first_reserved_domid) return nullptr;
  const auto found = domains_.find(static_cast<Domid>(domid));
  return found == domains_.end() ? nullptr : found->second;
}

void Machine::tear_down(Domain& domain) {
  while (!domain.ports.empty()) {
    const std::uint32_t port = domain.ports.begin()->first;
    domain.ports.begin()->second.open = false;
    domain.ports.begin()->second.held_by_notifications = 0;
    close_port_if_unused(domain, port);
  }
  std::vector<GrantRef> refs;
  for (auto& [ref, grant] : domain.grants) {
    grant.given_up = true;
    refs.push_back(ref);
  }
  for (const GrantRef ref : refs) free_grant_if_unused(domain, ref);
}

void Machine::bury_the_dead() {
  std::erase_if(domains_, [](const auto& entry) {
    return entry.second->dying && entry.second->handles == 0 && entry.second->grants.empty();
  });
}

int Machine::open_handle(const std::shared_ptr<Domain>& domain, HandleKind kind, Handle& out) {
  if (domain->dying) return ENOENT;
  if (domain->handles >= handle_limit) return EMFILE;
  if (kind == HandleKind::evtchn) {
    out.ports_memory = PortMemory::make();
    if (out.ports_memory == nullptr) return errno;
  }
  out.kind = kind;
  out.domain = domain;
  ++domain->handles;
  return 0;
}

void Machine::close_handle(Handle& handle) {
  if (handle.domain == nullptr) return;
  for (auto& [id, mapping] : handle.mappings) release_mapping(handle, mapping);
  for (auto& [id, share] : handle.shares) release_share(handle, share);
  for (const std::uint32_t port : handle.ports) release_port(*handle.domain, port);
  --handle.domain->handles;
  handle = Handle{};
}

}  // namespace xensim::hv
