// The hypervisor and the kernels' Xen drivers as plain tables: domains, grants, event channels.
//
// The one idea: what a domain holds, it holds through a Handle, one per open device file. When a
// handle goes, by close or by the death of its process, all it holds is released here, and unmap
// notifications are carried out, as gntalloc.c, gntdev.c and evtchn.c of Linux do.
// When a domain is destroyed nothing of that happens: no code of it runs any more.
//
// Not here: sockets (broker.cpp), processes (processes.cpp), xenstore.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "transport/base/unique_fd.hpp"
#include "transport/xensim/hypervisor/port_area.hpp"

namespace xensim::hv {

using xenlane::transport::UniqueFd;
using Domid = std::uint16_t;
using GrantRef = std::uint32_t;

/// First domid that Xen keeps for itself (DOMID_FIRST_RESERVED, xen/xen.h).
inline constexpr Domid first_reserved_domid = 0x7ff0;
/// DOMID_SELF of the same header: "the domain that asks".
inline constexpr std::uint32_t domid_self = 0x7ff0;
/// The lowest reference given out; those below are Xen's own (GNTTAB_NR_RESERVED_ENTRIES).
inline constexpr GrantRef first_grant_ref = 8;
/// Default of gntalloc's module parameter `limit`: granted pages of one domain.
inline constexpr std::uint32_t default_gntalloc_limit = 1024;
/// Foreign pages one domain may have mapped; gntdev's default limit.
inline constexpr std::uint32_t gntdev_limit = 65536;
/// Open handles of one domain.
inline constexpr std::size_t handle_limit = 1024;

/// A handle's event channel memory and eventfd, as the drop-in library maps them too.
class PortMemory {
 public:
  /// Returns nothing, with errno set, if the kernel has no more descriptors or memory.
  static std::shared_ptr<PortMemory> make();
  ~PortMemory();
  PortMemory(const PortMemory&) = delete;
  PortMemory& operator=(const PortMemory&) = delete;

  PortArea& area() { return *area_; }
  int event_fd() const { return event_fd_.get(); }
  int memory_fd() const { return memory_fd_.get(); }

 private:
  PortMemory(UniqueFd event_fd, UniqueFd memory_fd, PortArea* area)
      : event_fd_(std::move(event_fd)), memory_fd_(std::move(memory_fd)), area_(area) {}
  UniqueFd event_fd_;
  UniqueFd memory_fd_;
  PortArea* area_;
};

/// What to do when a page is given up: one of each kind at most, as in both Linux drivers.
struct UnmapNotify {
  std::optional<std::uint32_t> clear_offset;  ///< byte to zero, within the page
  std::optional<std::uint32_t> port;          ///< the domain's own port to notify
};

/// The pages of one share call.
struct SharedMemory {
  UniqueFd memory;
  UniqueFd read_only;  ///< the same file, opened so that a mapper cannot make it writable
};

struct Grant {
  std::shared_ptr<SharedMemory> memory;
  std::uint32_t page = 0;
  Domid granted_to = 0;
  bool writable = false;
  bool given_up = false;       ///< by the sharer; goes once nobody maps it
  std::uint32_t mappings = 0;  ///< live mappings of it
};

struct Domain;

struct Port {
  std::shared_ptr<PortMemory> memory;
  std::uint32_t remote_domid = 0;  ///< who may bind it, or has
  std::weak_ptr<Domain> remote;    ///< set while bound
  std::uint32_t remote_port = 0;   ///< 0 while unbound
  bool open = true;                ///< its handle has not closed it
  std::uint32_t held_by_notifications =
      0;  ///< unmap notifications keep the port, as evtchn_get does
};

struct Domain {
  Domid domid = 0;
  std::string name;
  bool dying = false;
  std::uint32_t gntalloc_limit = default_gntalloc_limit;
  std::uint32_t mapped_pages = 0;  ///< of other domains
  std::size_t handles = 0;
  std::map<GrantRef, Grant> grants;
  std::vector<GrantRef> free_refs;  ///< last freed is first reused, as in Linux's free list
  GrantRef next_ref = first_grant_ref;
  std::map<std::uint32_t, Port> ports;

  bool has_mapped_grants() const;
};

struct Share {
  std::vector<GrantRef> refs;
  UnmapNotify notify;
};

struct Mapping {
  std::vector<std::pair<std::shared_ptr<Domain>, GrantRef>> pages;
  bool writable = false;
  UnmapNotify notify;
};

enum class HandleKind { gntshr, gnttab, evtchn, privcmd };

/// One open device file. Made by open_handle, to be given to close_handle.
struct Handle {
  HandleKind kind = HandleKind::privcmd;
  std::shared_ptr<Domain> domain;
  std::uint32_t next_id = 1;
  std::map<std::uint32_t, Share> shares;
  std::map<std::uint32_t, Mapping> mappings;
  std::shared_ptr<PortMemory> ports_memory;
  std::set<std::uint32_t> ports;
  std::optional<std::uint32_t> restricted_to;
};

/// Where a mapped page lies.
struct PagePlace {
  int fd = -1;  ///< stays owned by the grant
  std::uint32_t page = 0;
};

/// The far end of a port.
struct FarEnd {
  std::uint32_t generation = 0;
  std::shared_ptr<PortMemory> memory;  ///< empty if unbound
  std::uint32_t port = 0;
};

/// All calls that return int give 0 or an errno value.
class Machine {
 public:
  // Domains.
  std::shared_ptr<Domain> create_domain(Domid domid, std::string name);
  /// The lowest domid that has never been in use in this run, or nothing when they are used up.
  std::optional<Domid> unused_domid() const;
  /// From here on nothing the domain does or stops doing has an effect on anybody.
  void freeze(Domain& domain) { domain.dying = true; }
  /// Closes the frozen domain's ports and gives up its grants; pages stay while mapped. Close its
  /// handles first.
  void tear_down(Domain& domain);
  /// Dying domains none of whose pages is mapped any more are forgotten.
  void bury_the_dead();
  std::shared_ptr<Domain> find(std::uint32_t domid) const;
  const std::map<Domid, std::shared_ptr<Domain>>& domains() const { return domains_; }

  // Handles.
  int open_handle(const std::shared_ptr<Domain>& domain, HandleKind kind, Handle& out);
  /// Releases all it holds. If the domain is dying, without telling anybody.
  void close_handle(Handle& handle);

  // Grants.
  int share(Handle& handle, std::uint32_t domid, std::uint32_t pages, bool writable,
            UniqueFd memory, std::uint32_t& id);
  int unshare(Handle& handle, std::uint32_t id);
  int map(Handle& handle, const std::vector<std::pair<std::uint32_t, GrantRef>>& untrusted_refs,
          bool writable, std::uint32_t& id, std::vector<PagePlace>& places);
  int unmap(Handle& handle, std::uint32_t id);
  int set_notify(Handle& handle, std::uint32_t id, const UnmapNotify& untrusted_notify);

  // Event channels.
  int bind_unbound(Handle& handle, std::uint32_t domid, std::uint32_t& port);
  int bind_interdomain(Handle& handle, std::uint32_t domid, std::uint32_t remote_port,
                       std::uint32_t& port);
  int unbind(Handle& handle, std::uint32_t port);
  int resolve(Handle& handle, std::uint32_t port, FarEnd& far_end);
  int restrict_to(Handle& handle, std::uint32_t domid);
  /// A fault: both ends of every channel the domain has fall back to unbound and hear nothing more.
  void cut_event_channels(Domain& domain);

 private:
  GrantRef add_grant(Domain& domain, Grant grant);
  void free_grant_if_unused(Domain& domain, GrantRef ref);
  void release_share(Handle& handle, Share& share);
  void release_mapping(Handle& handle, Mapping& mapping);
  void carry_out(Domain& domain, const UnmapNotify& notification, int memory_fd,
                 std::uint32_t page);
  int add_port(Handle& handle, Port port, std::uint32_t& number);
  void notify(Domain& domain, std::uint32_t port);
  void drop_notification_hold(Domain& domain, std::uint32_t port);
  void release_port(Domain& domain, std::uint32_t port);
  void close_port_if_unused(Domain& domain, std::uint32_t port);
  static void fall_back_to_unbound(Domain& domain, std::uint32_t port, Domid open_to);

  std::map<Domid, std::shared_ptr<Domain>> domains_;
  std::uint32_t next_domid_ = 0;
};

}  // namespace xensim::hv
