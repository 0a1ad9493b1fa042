// Drop-in libxengnttab.so.1: grants without a hypervisor.
//
// A shared page is a page of a memfd that the sharer made and handed to the broker; to map a grant
// is to ask the broker for that memfd. What the broker cannot see is munmap(): libxenvchan gives up
// its data buffers that way, so their pages are accounted for until the handle is closed, and
// closing a handle unmaps nothing (the addresses may be somebody else's by then).
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "transport/xensim/hypervisor/dropin/connection.hpp"

extern "C" {
#include <xengnttab.h>
}

using xensim::dropin::Connection;
using xensim::dropin::Extras;
using xensim::dropin::Lock;
namespace wire = xensim::wire;

namespace {

/// One contiguous address range: one share, or one map call that took several messages.
struct Range {
  char* start = nullptr;
  std::uint32_t pages = 0;
  std::vector<std::uint32_t> ids;
};

constexpr std::uint32_t no_notify = ~std::uint32_t{0};
/// gntdev's limit of pages in one call (drivers/xen/gntdev.c, 64 Ki).
constexpr std::uint32_t max_pages_per_call = 65536;

struct Notify {
  std::uint32_t offset = no_notify;
  std::uint32_t port = no_notify;
};

}  // namespace

/// The public headers use one struct for both kinds of handle.
struct xengntdev_handle {
  Connection connection;
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  std::vector<Range> ranges;  ///< guarded by mutex
};

namespace {

xengntdev_handle* open_handle(wire::Op op) {
  auto handle = std::unique_ptr<xengntdev_handle>(new (std::nothrow) xengntdev_handle);
  Extras none;
  if (handle == nullptr || !handle->connection.open(op, none)) return nullptr;
  return handle.release();
}

int close_handle(xengntdev_handle* handle) {
  if (handle == nullptr) return 0;
  handle->connection.release();
  delete handle;
  return 0;
}

bool set_notify(xengntdev_handle* handle, std::uint32_t id, const Notify& notify) {
  wire::Request request;
  request.op = wire::Op::set_notify;
  request.id = id;
  if (notify.offset < wire::page_size) {
    request.flags |= wire::flag_clear_byte;
    request.notify_offset = notify.offset;
  }
  if (notify.port != no_notify) {
    request.flags |= wire::flag_send_event;
    request.notify_port = notify.port;
  }
  if (request.flags == 0) return true;
  wire::Reply reply;
  Extras none;
  return handle->connection.ask(request, reply, none);
}

void give_back(xengntdev_handle* handle, wire::Op op, const std::vector<std::uint32_t>& ids) {
  const int saved = errno;
  for (const std::uint32_t id : ids) {
    wire::Request request;
    request.op = op;
    request.id = id;
    wire::Reply reply;
    Extras none;
    handle->connection.ask(request, reply, none);
  }
  errno = saved;
}

/// Undoes a share or a mapping by its address. Newest first: after a plain munmap() an address may
/// come back while its old range is still on record.
int drop_range(xengntdev_handle* handle, wire::Op op, void* start, std::uint32_t count) {
  Range range;
  {
    const Lock lock(handle->mutex);
    auto found = handle->ranges.rbegin();
    while (found != handle->ranges.rend() && found->start != start) ++found;
    if (found == handle->ranges.rend() || found->pages != count) {
      errno = EINVAL;
      return -1;
    }
    range = std::move(*found);
    handle->ranges.erase(std::next(found).base());
  }
  ::munmap(range.start, range.pages * wire::page_size);
  give_back(handle, op, range.ids);
  return 0;
}

void* share(xengntdev_handle* handle, std::uint32_t domid, std::uint32_t count, std::uint32_t* refs,
            bool writable, const Notify& notify) {
  if (count == 0 || count > wire::max_pages_per_share) {
    errno = count == 0 ? EINVAL : ENOSPC;
    return nullptr;
  }
  const std::size_t bytes = count * wire::page_size;
  const int memory = ::memfd_create("xensim-grants", MFD_CLOEXEC);
  if (memory < 0) return nullptr;
  void* area = MAP_FAILED;
  if (::ftruncate(memory, static_cast<off_t>(bytes)) == 0) {
    area = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  }
  wire::Request request;
  request.op = wire::Op::share;
  request.domid = domid;
  request.flags = writable ? wire::flag_writable : 0U;
  request.words = count;
  wire::Reply reply;
  Extras extras;
  extras.fd_out = memory;
  extras.words_in = refs;
  extras.words_in_room = count;
  bool shared = area != MAP_FAILED && handle->connection.ask(request, reply, extras);
  if (shared && !set_notify(handle, reply.id, notify)) {
    give_back(handle, wire::Op::unshare, {reply.id});
    shared = false;
  }
  const int saved = errno;
  ::close(memory);
  if (!shared && area != MAP_FAILED) ::munmap(area, bytes);
  errno = saved;
  if (!shared) return nullptr;
  const Lock lock(handle->mutex);
  handle->ranges.push_back({static_cast<char*>(area), count, {reply.id}});
  return area;
}

/// Maps up to max_pages_per_map grants over `at`. Appends the mapping's id to `ids`.
bool map_chunk(xengntdev_handle* handle, char* at, std::uint32_t count, const std::uint32_t* domids,
               std::size_t domid_stride, const std::uint32_t* refs, int prot,
               std::vector<std::uint32_t>& ids) {
  std::uint32_t pairs[wire::max_pages_per_map * 2];
  for (std::size_t i = 0; i < count; ++i) {
    pairs[2 * i] = domids[i * domid_stride];
    pairs[2 * i + 1] = refs[i];
  }
  wire::Request request;
  request.op = wire::Op::map;
  request.flags = (prot & PROT_WRITE) != 0 ? wire::flag_writable : 0U;
  request.words = count * 2;
  wire::Reply reply;
  std::uint32_t places[wire::max_pages_per_map * 2];
  int fds[wire::max_fds];
  Extras extras;
  extras.words_out = pairs;
  extras.words_out_count = count * 2;
  extras.words_in = places;
  extras.words_in_room = count * 2;
  extras.fds_in = fds;
  extras.fds_in_room = wire::max_fds;
  bool mapped = handle->connection.ask(request, reply, extras);
  if (mapped) ids.push_back(reply.id);
  // Neighbouring pages of one memfd are one mmap: a ring of 256 pages is one mapping, not 256.
  for (std::size_t i = 0; mapped && i < count;) {
    const std::uint32_t fd_index = places[2 * i];
    const std::uint32_t first_page = places[2 * i + 1];
    std::size_t run = 1;
    while (i + run < count && places[2 * (i + run)] == fd_index &&
           places[2 * (i + run) + 1] == first_page + run) {
      ++run;
    }
    mapped = fd_index < extras.fds_in_count &&
             ::mmap(at + i * wire::page_size, run * wire::page_size,
                    prot & (PROT_READ | PROT_WRITE), MAP_SHARED | MAP_FIXED, fds[fd_index],
                    static_cast<off_t>(first_page * wire::page_size)) != MAP_FAILED;
    i += run;
  }
  const int saved = errno;
  for (std::size_t i = 0; i < extras.fds_in_count; ++i) ::close(fds[i]);
  errno = saved;
  return mapped;
}

void* map(xengntdev_handle* handle, std::uint32_t count, const std::uint32_t* domids,
          std::size_t domid_stride, const std::uint32_t* refs, int prot, const Notify& notify) {
  if (count == 0 || count > max_pages_per_call) {
    errno = EINVAL;
    return nullptr;
  }
  const std::size_t bytes = count * wire::page_size;
  void* area =
      ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (area == MAP_FAILED) return nullptr;
  Range range{static_cast<char*>(area), count, {}};
  bool mapped = true;
  for (std::size_t done = 0; mapped && done < count; done += wire::max_pages_per_map) {
    const auto chunk = static_cast<std::uint32_t>(
        count - done < wire::max_pages_per_map ? count - done : wire::max_pages_per_map);
    mapped = map_chunk(handle, range.start + done * wire::page_size, chunk,
                       domids + done * domid_stride, domid_stride, refs + done, prot, range.ids);
  }
  if (mapped) mapped = set_notify(handle, range.ids.front(), notify);
  if (!mapped) {
    give_back(handle, wire::Op::unmap, range.ids);
    const int saved = errno;
    ::munmap(area, bytes);
    errno = saved;
    return nullptr;
  }
  const Lock lock(handle->mutex);
  handle->ranges.push_back(std::move(range));
  return area;
}

int not_on_this_kernel() {
  errno = ENOSYS;
  return -1;
}

}  // namespace

extern "C" {

xengnttab_handle* xengnttab_open(xentoollog_logger*, unsigned) {
  return open_handle(wire::Op::open_gnttab);
}

int xengnttab_close(xengnttab_handle* xgt) {
  return close_handle(xgt);
}

int xengnttab_fd(xengnttab_handle* xgt) {
  return xgt->connection.fd();
}

int xengnttab_set_max_grants(xengnttab_handle*, uint32_t) {
  return 0;
}

void* xengnttab_map_grant_ref(xengnttab_handle* xgt, uint32_t domid, uint32_t ref, int prot) {
  return map(xgt, 1, &domid, 0, &ref, prot, {});
}

void* xengnttab_map_grant_refs(xengnttab_handle* xgt, uint32_t count, uint32_t* domids,
                               uint32_t* refs, int prot) {
  return map(xgt, count, domids, 1, refs, prot, {});
}

void* xengnttab_map_domain_grant_refs(xengnttab_handle* xgt, uint32_t count, uint32_t domid,
                                      uint32_t* refs, int prot) {
  return map(xgt, count, &domid, 0, refs, prot, {});
}

void* xengnttab_map_grant_ref_notify(xengnttab_handle* xgt, uint32_t domid, uint32_t ref, int prot,
                                     uint32_t notify_offset, evtchn_port_t notify_port) {
  return map(xgt, 1, &domid, 0, &ref, prot, {notify_offset, notify_port});
}

int xengnttab_unmap(xengnttab_handle* xgt, void* start_address, uint32_t count) {
  return drop_range(xgt, wire::Op::unmap, start_address, count);
}

int xengnttab_grant_copy(xengnttab_handle*, uint32_t, xengnttab_grant_copy_segment_t*) {
  return not_on_this_kernel();
}

int xengnttab_dmabuf_exp_from_refs(xengnttab_handle*, uint32_t, uint32_t, uint32_t, const uint32_t*,
                                   uint32_t*) {
  return not_on_this_kernel();
}

int xengnttab_dmabuf_exp_wait_released(xengnttab_handle*, uint32_t, uint32_t) {
  return not_on_this_kernel();
}

int xengnttab_dmabuf_imp_to_refs(xengnttab_handle*, uint32_t, uint32_t, uint32_t, uint32_t*) {
  return not_on_this_kernel();
}

int xengnttab_dmabuf_imp_release(xengnttab_handle*, uint32_t) {
  return not_on_this_kernel();
}

xengntshr_handle* xengntshr_open(xentoollog_logger*, unsigned) {
  return open_handle(wire::Op::open_gntshr);
}

int xengntshr_close(xengntshr_handle* xgs) {
  return close_handle(xgs);
}

int xengntshr_fd(xengntshr_handle* xgs) {
  return xgs->connection.fd();
}

void* xengntshr_share_pages(xengntshr_handle* xgs, uint32_t domid, int count, uint32_t* refs,
                            int writable) {
  return share(xgs, domid, count < 0 ? 0U : static_cast<uint32_t>(count), refs, writable != 0, {});
}

void* xengntshr_share_page_notify(xengntshr_handle* xgs, uint32_t domid, uint32_t* ref,
                                  int writable, uint32_t notify_offset, evtchn_port_t notify_port) {
  return share(xgs, domid, 1, ref, writable != 0, {notify_offset, notify_port});
}

int xengntshr_unshare(xengntshr_handle* xgs, void* start_address, uint32_t count) {
  return drop_range(xgs, wire::Op::unshare, start_address, count);
}

}  // extern "C"
