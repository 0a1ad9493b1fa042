#include "tests/hostile/lane.hpp"

#include <poll.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

namespace xenlane::hostile {

namespace {

[[noreturn]] void fail(const char* what) {
  throw Stuck(std::string(what) + ": " + std::strerror(errno));
}

}  // namespace

Lane::Lane(Store& store, const LaneMaking& making)
    : store_(store),
      making_(making),
      epoch_(store.next_epoch()),
      events_(::xenevtchn_open(nullptr, 0)),
      sharer_(::xengntshr_open(nullptr, 0)) {
  const std::uint32_t host = store_.number("xenlane/host");
  if (events_ == nullptr || sharer_ == nullptr) fail("opening the devices");
  const auto port = ::xenevtchn_bind_unbound_port(events_, host);
  if (port < 0) fail("binding a port");
  port_ = static_cast<std::uint32_t>(port);
  void* const page = making.told_of_death
                         ? ::xengntshr_share_page_notify(sharer_, host, &page_grant_, 1,
                                                         offsetof(vchan_interface, srv_live), port_)
                         : ::xengntshr_share_pages(sharer_, host, 1, &page_grant_, 1);
  const std::uint32_t left_pages = making.left_bytes / page_bytes;
  const std::uint32_t pages = left_pages + making.right_bytes / page_bytes;
  grants_.resize(pages);
  void* const rings = ::xengntshr_share_pages(sharer_, host, static_cast<int>(pages),
                                              grants_.data(), making.writable ? 1 : 0);
  if (page == nullptr || rings == nullptr) fail("sharing pages");
  left_ = static_cast<std::byte*>(rings);
  right_ = left_ + making.left_bytes;
  std::memset(page, 0, page_bytes);
  page_ = static_cast<vchan_interface*>(page);
  page_->left_order = static_cast<std::uint16_t>(std::countr_zero(making.left_bytes));
  page_->right_order = static_cast<std::uint16_t>(std::countr_zero(making.right_bytes));
  page_->cli_live = 2;
  page_->srv_live = 1;
  page_->cli_notify = VCHAN_NOTIFY_WRITE;
  std::copy(grants_.begin(), grants_.end(), page_->grants);
}

Lane::~Lane() {
  store_.remove("data/xenlane/" + std::to_string(epoch_));
  if (page_ != nullptr) {
    page_->srv_live = 0;
    if (events_ != nullptr) ::xenevtchn_notify(events_, port_);
    take_pages_away();
  }
  ::xengntshr_close(sharer_);
  close_event_channel();
}

std::string Lane::key(const std::string& name) const {
  return "data/xenlane/" + std::to_string(epoch_) + '/' + name;
}

void Lane::write_key(const std::string& name, const std::string& value) {
  store_.write(key(name), value);
}

void Lane::write_keys() {
  write_key("ring-ref", std::to_string(page_grant_));
  write_key("event-channel", std::to_string(port_));
}

void Lane::offer() {
  write_keys();
  point();
}

void Lane::open() {
  offer();
  await_attached();
}

void Lane::await_attached() {
  await(
      "the host to attach", [this] { return page_->cli_live != 2; }, [this] { rest(); });
}

void Lane::await_attached_or_rejected() {
  await(
      "the host to attach or not",
      [this] { return page_->cli_live != 2 || store_.wanted() > epoch_; }, [this] { rest(); });
}

void Lane::await_rejected() {
  await(
      "the host to ask for another lane", [this] { return store_.wanted() > epoch_; },
      [this] { rest(); });
}

void Lane::await_end() {
  await(
      "the host to end the session", [this] { return ended(); }, [this] { rest(); });
}

void Lane::put(std::span<const std::byte> bytes) {
  for (const std::byte byte : bytes) right_[produced_++ % making_.right_bytes] = byte;
}

void Lane::show() {
  __atomic_store_n(&page_->right.prod, produced_, __ATOMIC_SEQ_CST);
  wake();
}

void Lane::send(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    await(
        "room in the ring", [this] { return room() > 0 || ended(); }, [this] { rest(); });
    if (ended()) return;
    const auto now = bytes.first(std::min<std::size_t>(room(), bytes.size()));
    put(now);
    show();
    bytes = bytes.subspan(now.size());
  }
}

std::vector<std::byte> Lane::take() {
  const std::uint32_t produced = __atomic_load_n(&page_->left.prod, __ATOMIC_SEQ_CST);
  std::vector<std::byte> bytes;
  bytes.reserve(produced - consumed_);
  while (consumed_ != produced) bytes.push_back(left_[consumed_++ % making_.left_bytes]);
  __atomic_store_n(&page_->left.cons, consumed_, __ATOMIC_SEQ_CST);
  if (!bytes.empty()) wake();
  return bytes;
}

void Lane::await_consumed() {
  await(
      "the host to read", [this] { return room() == making_.right_bytes || ended(); },
      [this] { rest(); });
}

void Lane::wake() {
  ::xenevtchn_notify(events_, port_);
}

// Every word of the host's is asked for anew, and a wake-up that is lost all the same costs a
// moment only.
void Lane::rest() {
  __atomic_fetch_or(&page_->cli_notify,
                    static_cast<std::uint8_t>(VCHAN_NOTIFY_WRITE | VCHAN_NOTIFY_READ),
                    __ATOMIC_SEQ_CST);
  pollfd event{::xenevtchn_fd(events_), POLLIN, 0};
  if (::poll(&event, 1, 2) != 1) return;
  const auto port = ::xenevtchn_pending(events_);
  if (port >= 0) ::xenevtchn_unmask(events_, static_cast<evtchn_port_t>(port));
}

void Lane::take_pages_away() {
  ::xengntshr_unshare(sharer_, std::exchange(page_, nullptr), 1);
  ::xengntshr_unshare(sharer_, left_, static_cast<std::uint32_t>(grants_.size()));
}

void Lane::close_event_channel() {
  if (events_ != nullptr) ::xenevtchn_close(std::exchange(events_, nullptr));
}

}  // namespace xenlane::hostile
