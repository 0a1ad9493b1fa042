// An asynchronous xenstore client: every request has a deadline, and a xenstored that goes away is
// noticed at once and outlived.
//
// It speaks the wire protocol (xen/io/xs_wire.h) itself because libxenstore can do neither: its
// requests wait without a limit, and when xenstored closes the connection nothing wakes the loop
// that polls its descriptor. One connection carries all requests and watches. After a reconnect
// every watch is set again, and fires again, so a watcher never needs to know.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/system/error_code.hpp>
#include <boost/system/result.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "transport/base/domid.hpp"
#include "transport/base/signal.hpp"

namespace xenlane::transport {

/// Longest payload of one message (XENSTORE_PAYLOAD_MAX); a longer request fails with E2BIG.
inline constexpr std::size_t xenstore_payload_bytes_max = 4096;

/// One node to write in a transaction.
struct XenStoreWrite {
  std::string path;
  std::string value;
  /// Permission list as xenstore spells it ("n0", "r5"); empty leaves what the parent gives.
  std::vector<std::string> permissions;
};

/// Where xenstored is found: $XENSTORED_PATH, its socket in /run, or the kernel's /dev/xen/xenbus.
std::string default_xenstore_path();

class XenStore {
 public:
  template <typename T>
  using Result = boost::system::result<T>;
  using Error = boost::system::error_code;

  /// Connects in the background and keeps trying. `deadline` bounds each request.
  XenStore(const boost::asio::any_io_executor& executor, std::string path,
           std::chrono::milliseconds deadline);
  XenStore(const XenStore&) = delete;
  XenStore& operator=(const XenStore&) = delete;
  ~XenStore();

  bool connected() const;
  /// Waits until connected, at most `limit`. The error is the last attempt's.
  boost::asio::awaitable<Error> wait_connected(std::chrono::milliseconds limit);

  // Errors are errno values in the generic category: what xenstored answered (ENOENT, EACCES,
  // ENOSPC, ...), ENOTCONN without a connection, ETIMEDOUT past the deadline.
  boost::asio::awaitable<Result<std::string>> read(std::string path);
  boost::asio::awaitable<Result<std::vector<std::string>>> list(std::string path);
  /// Whether xenstored knows the domain and the domain lives: false once it is dying. Privileged.
  boost::asio::awaitable<Result<bool>> is_introduced(Domid domid);
  boost::asio::awaitable<Error> write(std::string path, std::string value);
  boost::asio::awaitable<Error> remove(std::string path);
  /// All writes or none. Retried when xenstored answers EAGAIN, a bounded number of times. With a
  /// `guard` nothing is written unless that node exists, and its error is returned: a privileged
  /// writer would otherwise bring a removed domain's folder back to life.
  boost::asio::awaitable<Error> write_all(std::vector<XenStoreWrite> writes,
                                          std::string guard = {});

  /// The node's permission list as xenstore spells it, its owner first.
  boost::asio::awaitable<Result<std::vector<std::string>>> permissions(std::string path);
  /// Whether xenstored would take all the writes at once: they are made in a transaction that is
  /// then abandoned, so that nobody ever sees them.
  boost::asio::awaitable<Error> try_writes(std::vector<XenStoreWrite> writes);
  /// Whether xenstored has room for one more watch: sets one on `path` and takes it back.
  boost::asio::awaitable<Error> try_watch(std::string path);

  /// Raises `signal` when `path` or anything below it may have changed, and once up front.
  /// The signal must outlive this client.
  void watch(std::string path, Signal& signal);

 private:
  class Connection;
  std::shared_ptr<Connection> connection_;
};

}  // namespace xenlane::transport
