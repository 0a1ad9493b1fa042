// A vchan server made by hand, of grants and an event channel, because libxenvchan is too well
// behaved: here every field of the page that both sides share is in the open, before the host maps
// it and after. What is not touched is as an honest server has it.
//
// Names are as in xen/io/libxenvchan.h: "left" is what the host writes, "right" what this guest
// writes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tests/hostile/store.hpp"

// Xen's headers are C.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
extern "C" {
#include <xen/io/libxenvchan.h>
#include <xenevtchn.h>
#include <xengnttab.h>
}
#pragma GCC diagnostic pop

namespace xenlane::hostile {

inline constexpr std::uint32_t page_bytes = 4096;

/// What of a lane cannot be changed once it is made.
struct LaneMaking {
  std::uint32_t left_bytes = 64 * 1024;   ///< host to guest; a power of two, 4096 or more
  std::uint32_t right_bytes = 64 * 1024;  ///< guest to host
  bool writable = true;                   ///< the data pages, for the host
  bool told_of_death = true;              ///< the host hears when this process ends
};

class Lane {
 public:
  explicit Lane(Store& store, const LaneMaking& making = {});
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;
  /// Ends it as an honest server does, keys and all.
  ~Lane();

  Store& store() { return store_; }
  volatile vchan_interface& page() { return *page_; }
  /// The references that the page lists: the left ring's pages, then the right ring's.
  std::span<std::uint32_t> listed_grants() { return {page_->grants, grants_.size()}; }
  std::uint32_t page_grant() const { return page_grant_; }
  std::uint32_t port() const { return port_; }
  std::uint64_t epoch() const { return epoch_; }
  std::string key(const std::string& name) const;

  /// Writes the keys; whoever calls may have said other numbers for them.
  void write_keys();
  void write_key(const std::string& name, const std::string& value);
  void point() { store_.point(epoch_); }
  void offer();
  /// Offers it and waits for the host.
  void open();
  /// Until the host asks for another lane: it is done with this one.
  void await_rejected();
  void await_attached();
  void await_attached_or_rejected();
  /// Until the host has let go of the lane.
  void await_end();
  bool ended() const { return page_->cli_live == 0; }

  /// Bytes behind those put before; the host sees them at show().
  void put(std::span<const std::byte> bytes);
  void show();
  /// put() and show() as there is room.
  void send(std::span<const std::byte> bytes);
  /// What has come, consumed.
  std::vector<std::byte> take();
  /// Until the host has consumed all that was shown.
  void await_consumed();
  std::uint32_t unread() const { return page_->left.prod - consumed_; }
  std::span<std::byte> right_ring() { return {right_, making_.right_bytes}; }
  std::span<std::byte> left_ring() { return {left_, making_.left_bytes}; }

  /// Wakes the host, whether it asked or not.
  void wake();
  /// Lets some time pass, less if the host wakes this side.
  void rest();
  /// Gives all grants up while the host still has them.
  void take_pages_away();
  void close_event_channel();

 private:
  std::uint32_t room() const { return making_.right_bytes - (produced_ - page_->right.cons); }

  Store& store_;
  LaneMaking making_;
  std::uint64_t epoch_;
  xenevtchn_handle* events_;
  xengntshr_handle* sharer_;
  std::uint32_t port_ = 0;
  std::uint32_t page_grant_ = 0;
  std::vector<std::uint32_t> grants_;
  vchan_interface* page_ = nullptr;
  std::byte* left_ = nullptr;
  std::byte* right_ = nullptr;
  std::uint32_t consumed_ = 0;
  std::uint32_t produced_ = 0;
};

}  // namespace xenlane::hostile
