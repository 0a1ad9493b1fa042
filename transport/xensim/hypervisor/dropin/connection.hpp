// One open "device file" of the simulated Xen: a connection to the broker that can ask and wait.
//
// Shared by the three drop-in libraries, which live in programs that know nothing of xensim: no
// exceptions, errors as errno, no descriptor without close-on-exec unless it was asked for.
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "transport/xensim/hypervisor/wire.hpp"

namespace xensim::dropin {

/// What comes with a message besides its fixed part. Buffers belong to the caller.
struct Extras {
  const std::uint32_t* words_out = nullptr;
  std::uint32_t words_out_count = 0;
  int fd_out = -1;
  std::uint32_t* words_in = nullptr;  ///< room for what the reply brings
  std::uint32_t words_in_room = 0;
  int* fds_in = nullptr;  ///< room for descriptors, which the caller then owns
  std::size_t fds_in_room = 0;
  std::size_t fds_in_count = 0;  ///< how many came
};

class Connection {
 public:
  Connection() = default;
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Connects to the broker's socket named by XENSIM_HV and sends `op`, one of Op::open_*.
  /// Returns false with errno set; ENOENT without XENSIM_HV, as without /dev/xen.
  bool open(wire::Op op, Extras& extras);

  /// Asks and waits for the answer. Returns false with errno set to the broker's error, or to EIO
  /// if there is no broker any more. May be called from several threads.
  bool ask(const wire::Request& request, wire::Reply& reply, Extras& extras);

  /// Releases what the handle owns before it returns. In a child made by fork it does nothing, as
  /// there the parent's copy keeps a real device file open.
  void release();

  int fd() const { return fd_; }

 private:
  bool send(const wire::Request& request, const Extras& extras);
  bool receive(wire::Reply& reply, Extras& extras);

  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  int fd_ = -1;
  pid_t owner_ = 0;
};

class Lock {
 public:
  explicit Lock(pthread_mutex_t& mutex) : mutex_(mutex) { ::pthread_mutex_lock(&mutex_); }
  ~Lock() { ::pthread_mutex_unlock(&mutex_); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  pthread_mutex_t& mutex_;
};

}  // namespace xensim::dropin
