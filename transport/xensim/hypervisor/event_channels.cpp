// The event channel half of Machine. Events themselves go from library to library
// (port_area.hpp); this part binds and unbinds, and notifies only on behalf of the dead.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include <cerrno>
#include <new>

#include "transport/xensim/hypervisor/machine.hpp"

namespace xensim::hv {

std::shared_ptr<PortMemory> PortMemory::make() {
  UniqueFd event_fd(::eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE));
  UniqueFd memory_fd(::memfd_create("xensim-ports", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!event_fd || !memory_fd) return nullptr;
  // Sealed, so that no process can shrink it under the others.
  if (::ftruncate(memory_fd.get(), sizeof(PortArea)) != 0 ||
      ::fcntl(memory_fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return nullptr;
  }
  void* area =
      ::mmap(nullptr, sizeof(PortArea), PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd.get(), 0);
  if (area == MAP_FAILED) return nullptr;
  // All-zero memory is a PortArea with every port closed.
  return std::shared_ptr<PortMemory>(
      new PortMemory(std::move(event_fd), std::move(memory_fd), static_cast<PortArea*>(area)));
}

PortMemory::~PortMemory() {
  ::munmap(area_, sizeof(PortArea));
}

int Machine::add_port(Handle& handle, Port port, std::uint32_t& number) {
  auto& ports = handle.domain->ports;
  std::uint32_t lowest_free = 1;
  for (const auto& [used, unused] : ports) {
    if (used != lowest_free) break;
    ++lowest_free;
  }
  if (lowest_free >= port_limit) return ENOSPC;
  number = lowest_free;
  port.memory = handle.ports_memory;
  open_port(port.memory->area(), number);
  port.memory->area().generation[number].fetch_add(1);
  ports.emplace(number, std::move(port));
  handle.ports.insert(number);
  return 0;
}

int Machine::bind_unbound(Handle& handle, std::uint32_t domid, std::uint32_t& port) {
  if (handle.kind != HandleKind::evtchn) return EINVAL;
  if (handle.restricted_to && *handle.restricted_to != domid) return EACCES;
  Port unbound;
  unbound.remote_domid = domid == domid_self ? handle.domain->domid : domid;
  return add_port(handle, std::move(unbound), port);
}

int Machine::bind_interdomain(Handle& handle, std::uint32_t domid, std::uint32_t remote_port,
                              std::uint32_t& port) {
  if (handle.kind != HandleKind::evtchn) return EINVAL;
  if (handle.restricted_to && *handle.restricted_to != domid) return EACCES;
  const auto remote = find(domid == domid_self ? handle.domain->domid : domid);
  if (remote == nullptr) return ESRCH;
  const auto far = remote->ports.find(remote_port);
  if (far == remote->ports.end() || far->second.remote_port != 0 ||
      far->second.remote_domid != handle.domain->domid) {
    return EINVAL;
  }
  Port bound;
  bound.remote_domid = remote->domid;
  bound.remote = remote;
  bound.remote_port = remote_port;
  const int error = add_port(handle, std::move(bound), port);
  if (error != 0) return error;
  far->second.remote = handle.domain;
  far->second.remote_port = port;
  far->second.memory->area().generation[remote_port].fetch_add(1);
  // Whoever notified the port while it was unbound was not heard; so the binder is told once, as
  // evtchn_bind_interdomain of Xen does.
  notify_port(handle.ports_memory->area(), handle.ports_memory->event_fd(), port);
  return 0;
}

int Machine::unbind(Handle& handle, std::uint32_t port) {
  if (handle.ports.erase(port) == 0) return ENOTCONN;
  release_port(*handle.domain, port);
  return 0;
}

int Machine::resolve(Handle& handle, std::uint32_t port, FarEnd& far_end) {
  if (handle.ports.count(port) == 0) return ENOTCONN;
  const Port& near = handle.domain->ports.at(port);
  far_end.generation = near.memory->area().generation[port].load();
  const auto remote = near.remote.lock();
  if (near.remote_port == 0 || remote == nullptr) return 0;
  const auto far = remote->ports.find(near.remote_port);
  if (far == remote->ports.end()) return 0;
  far_end.memory = far->second.memory;
  far_end.port = near.remote_port;
  return 0;
}

int Machine::restrict_to(Handle& handle, std::uint32_t domid) {
  if (handle.kind != HandleKind::evtchn) return EINVAL;
  if (handle.restricted_to) return EACCES;
  if (domid == 0 || domid >= first_reserved_domid) return EINVAL;
  handle.restricted_to = domid;
  return 0;
}

void Machine::notify(Domain& domain, std::uint32_t port) {
  const auto near = domain.ports.find(port);
  if (near == domain.ports.end() || near->second.remote_port == 0) return;
  const auto remote = near->second.remote.lock();
  if (remote == nullptr) return;
  const auto far = remote->ports.find(near->second.remote_port);
  if (far == remote->ports.end()) return;
  notify_port(far->second.memory->area(), far->second.memory->event_fd(), far->first);
}

void Machine::release_port(Domain& domain, std::uint32_t port) {
  const auto found = domain.ports.find(port);
  if (found == domain.ports.end()) return;
  found->second.open = false;
  close_port(found->second.memory->area(), port);
  close_port_if_unused(domain, port);
}

void Machine::drop_notification_hold(Domain& domain, std::uint32_t port) {
  const auto found = domain.ports.find(port);
  if (found == domain.ports.end()) return;
  --found->second.held_by_notifications;
  close_port_if_unused(domain, port);
}

void Machine::close_port_if_unused(Domain& domain, std::uint32_t port) {
  const auto found = domain.ports.find(port);
  if (found->second.open || found->second.held_by_notifications != 0) return;
  const auto remote = found->second.remote.lock();
  const std::uint32_t remote_port = found->second.remote_port;
  close_port(found->second.memory->area(), port);
  found->second.memory->area().generation[port].fetch_add(1);
  domain.ports.erase(found);
  if (remote == nullptr || remote_port == 0) return;
  // The far end falls back to unbound, open to the same domain, and is not told (evtchn_close).
  fall_back_to_unbound(*remote, remote_port, domain.domid);
}

void Machine::fall_back_to_unbound(Domain& domain, std::uint32_t port, Domid open_to) {
  const auto found = domain.ports.find(port);
  if (found == domain.ports.end()) return;
  found->second.remote.reset();
  found->second.remote_port = 0;
  found->second.remote_domid = open_to;
  PortMemory& memory = *found->second.memory;
  memory.area().generation[port].fetch_add(1);
  rescue_port(memory.area(), memory.event_fd(), port);
}

void Machine::cut_event_channels(Domain& domain) {
  for (auto& [number, port] : domain.ports) {
    const auto remote = port.remote.lock();
    const std::uint32_t remote_port = port.remote_port;
    if (remote == nullptr || remote_port == 0) continue;
    fall_back_to_unbound(domain, number, remote->domid);
    fall_back_to_unbound(*remote, remote_port, domain.domid);
  }
}

}  // namespace xensim::hv
