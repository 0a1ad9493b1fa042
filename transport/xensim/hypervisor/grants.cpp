// The grant half of Machine: what gntalloc (sharing) and gntdev (mapping) do in Linux.
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>

#include "transport/xensim/hypervisor/machine.hpp"
#include "transport/xensim/hypervisor/wire.hpp"

namespace xensim::hv {

GrantRef Machine::add_grant(Domain& domain, Grant grant) {
  GrantRef ref = domain.next_ref;
  if (domain.free_refs.empty()) {
    ++domain.next_ref;
  } else {
    ref = domain.free_refs.back();
    domain.free_refs.pop_back();
  }
  domain.grants.emplace(ref, std::move(grant));
  return ref;
}

void Machine::free_grant_if_unused(Domain& domain, GrantRef ref) {
  const auto found = domain.grants.find(ref);
  if (found == domain.grants.end()) return;
  if (!found->second.given_up || found->second.mappings != 0) return;
  domain.grants.erase(found);
  domain.free_refs.push_back(ref);
}

int Machine::share(Handle& handle, std::uint32_t domid, std::uint32_t pages, bool writable,
                   UniqueFd memory, std::uint32_t& id) {
  Domain& domain = *handle.domain;
  if (handle.kind != HandleKind::gntshr || !memory || pages == 0) return EINVAL;
  if (domid >= first_reserved_domid) return EINVAL;
  if (pages > wire::max_pages_per_share || domain.grants.size() + pages > domain.gntalloc_limit) {
    return ENOSPC;
  }
  struct stat status {};
  if (::fstat(memory.get(), &status) != 0) return errno;
  if (status.st_size < static_cast<off_t>(pages * wire::page_size)) return EINVAL;

  auto shared = std::make_shared<SharedMemory>();
  if (!writable) {
    const std::string path = "/proc/self/fd/" + std::to_string(memory.get());
    shared->read_only.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!shared->read_only) return errno;
  }
  shared->memory = std::move(memory);
  Share share;
  for (std::uint32_t page = 0; page < pages; ++page) {
    Grant grant;
    grant.memory = shared;
    grant.page = page;
    grant.granted_to = static_cast<Domid>(domid);
    grant.writable = writable;
    share.refs.push_back(add_grant(domain, std::move(grant)));
  }
  id = handle.next_id++;
  handle.shares.emplace(id, std::move(share));
  return 0;
}

int Machine::unshare(Handle& handle, std::uint32_t id) {
  const auto found = handle.shares.find(id);
  if (found == handle.shares.end()) return EINVAL;
  release_share(handle, found->second);
  handle.shares.erase(found);
  return 0;
}

void Machine::release_share(Handle& handle, Share& share) {
  Domain& domain = *handle.domain;
  const auto first = domain.grants.find(share.refs.front());
  if (first != domain.grants.end()) {
    carry_out(domain, share.notify, first->second.memory->memory.get(), first->second.page);
  }
  for (const GrantRef ref : share.refs) {
    const auto found = domain.grants.find(ref);
    if (found != domain.grants.end()) found->second.given_up = true;
    free_grant_if_unused(domain, ref);
  }
}

int Machine::map(Handle& handle,
                 const std::vector<std::pair<std::uint32_t, GrantRef>>& untrusted_refs,
                 bool writable, std::uint32_t& id, std::vector<PagePlace>& places) {
  Domain& mapper = *handle.domain;
  if (handle.kind != HandleKind::gnttab || untrusted_refs.empty()) return EINVAL;
  if (mapper.mapped_pages + untrusted_refs.size() > gntdev_limit) return ENOMEM;
  Mapping mapping;
  mapping.writable = writable;
  std::vector<Grant*> grants;
  // gntdev answers every reason for which Xen refuses a reference with EINVAL.
  for (const auto& [domid, ref] : untrusted_refs) {
    const auto domain = find(domid == domid_self ? mapper.domid : domid);
    if (domain == nullptr) return EINVAL;
    const auto found = domain->grants.find(ref);
    if (found == domain->grants.end() || found->second.granted_to != mapper.domid) return EINVAL;
    if (domain->dying || (writable && !found->second.writable)) return EINVAL;
    grants.push_back(&found->second);
    mapping.pages.emplace_back(domain, ref);
  }
  for (Grant* grant : grants) {
    ++grant->mappings;
    const UniqueFd& fd = grant->writable ? grant->memory->memory : grant->memory->read_only;
    places.push_back({fd.get(), grant->page});
  }
  mapper.mapped_pages += static_cast<std::uint32_t>(grants.size());
  id = handle.next_id++;
  handle.mappings.emplace(id, std::move(mapping));
  return 0;
}

int Machine::unmap(Handle& handle, std::uint32_t id) {
  const auto found = handle.mappings.find(id);
  if (found == handle.mappings.end()) return EINVAL;
  release_mapping(handle, found->second);
  handle.mappings.erase(found);
  return 0;
}

void Machine::release_mapping(Handle& handle, Mapping& mapping) {
  const auto& [first_domain, first_ref] = mapping.pages.front();
  const auto first = first_domain->grants.find(first_ref);
  if (first != first_domain->grants.end()) {
    carry_out(*handle.domain, mapping.notify, first->second.memory->memory.get(),
              first->second.page);
  }
  for (const auto& [domain, ref] : mapping.pages) {
    const auto found = domain->grants.find(ref);
    if (found == domain->grants.end()) continue;
    --found->second.mappings;
    free_grant_if_unused(*domain, ref);
  }
  handle.domain->mapped_pages -= static_cast<std::uint32_t>(mapping.pages.size());
}

int Machine::set_notify(Handle& handle, std::uint32_t id, const UnmapNotify& untrusted_notify) {
  Domain& domain = *handle.domain;
  UnmapNotify* place = nullptr;
  if (const auto share = handle.shares.find(id); share != handle.shares.end()) {
    place = &share->second.notify;
  } else if (const auto mapping = handle.mappings.find(id); mapping != handle.mappings.end()) {
    if (untrusted_notify.clear_offset && !mapping->second.writable) return EINVAL;
    place = &mapping->second.notify;
  }
  if (place == nullptr) return ENOENT;
  if (untrusted_notify.clear_offset && *untrusted_notify.clear_offset >= wire::page_size) {
    return EINVAL;
  }
  if (untrusted_notify.port) {
    const auto port = domain.ports.find(*untrusted_notify.port);
    if (port == domain.ports.end()) return EINVAL;
    ++port->second.held_by_notifications;
  }
  const std::optional<std::uint32_t> old_port = place->port;
  *place = untrusted_notify;
  if (old_port) drop_notification_hold(domain, *old_port);
  return 0;
}

void Machine::carry_out(Domain& domain, const UnmapNotify& notification, int memory_fd,
                        std::uint32_t page) {
  if (domain.dying) return;
  if (notification.clear_offset) {
    const char zero = 0;
    const auto at = static_cast<off_t>(page * wire::page_size + *notification.clear_offset);
    // A full disk cannot happen to the existing page of a memfd; nothing else can fail.
    [[maybe_unused]] const ssize_t written = ::pwrite(memory_fd, &zero, 1, at);
  }
  if (notification.port) {
    notify(domain, *notification.port);
    drop_notification_hold(domain, *notification.port);
  }
}

}  // namespace xensim::hv
