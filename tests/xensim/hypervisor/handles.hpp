// The C handles with owners, opened in a given domain.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>

#include <cstdint>
#include <memory>

#include "tests/xensim/hypervisor/simulator.hpp"

extern "C" {
#include <xenevtchn.h>
#include <xengnttab.h>
}

namespace xensim_test {

template <typename T, T* (*open)(xentoollog_logger*, unsigned), int (*close_it)(T*)>
class HandleOf {
 public:
  HandleOf(const Simulator& sim, std::uint32_t domid) {
    sim.enter(domid);
    handle_ = open(nullptr, 0);
    EXPECT_NE(handle_, nullptr);
  }
  ~HandleOf() { close(); }
  HandleOf(const HandleOf&) = delete;
  HandleOf& operator=(const HandleOf&) = delete;

  T* get() const { return handle_; }
  void close() {
    if (handle_ != nullptr) close_it(handle_);
    handle_ = nullptr;
  }

 private:
  T* handle_ = nullptr;
};

using Mapper = HandleOf<xengnttab_handle, xengnttab_open, xengnttab_close>;

class Sharer : public HandleOf<xengntshr_handle, xengntshr_open, xengntshr_close> {
 public:
  using HandleOf::HandleOf;
  char* share(std::uint32_t domid, int count, std::uint32_t* refs, bool writable) const {
    return static_cast<char*>(xengntshr_share_pages(get(), domid, count, refs, writable ? 1 : 0));
  }
};

class Events : public HandleOf<xenevtchn_handle, xenevtchn_open, xenevtchn_close> {
 public:
  using HandleOf::HandleOf;

  std::uint32_t unbound(std::uint32_t domid) const {
    return checked(xenevtchn_bind_unbound_port(get(), domid));
  }
  std::uint32_t interdomain(std::uint32_t domid, std::uint32_t port) const {
    return checked(xenevtchn_bind_interdomain(get(), domid, port));
  }
  bool readable(int wait_ms = 0) const {
    pollfd waiting{xenevtchn_fd(get()), POLLIN, 0};
    return ::poll(&waiting, 1, wait_ms) == 1;
  }
  /// Waits for an event and unmasks its port again. Returns 0 if none comes within 10 s.
  std::uint32_t next() const {
    if (!readable(10'000)) return 0;
    const std::uint32_t port = checked(xenevtchn_pending(get()));
    xenevtchn_unmask(get(), port);
    return port;
  }

 private:
  static std::uint32_t checked(int port) {
    EXPECT_GT(port, 0);
    return static_cast<std::uint32_t>(port);
  }
};

}  // namespace xensim_test
