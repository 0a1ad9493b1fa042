#include "transport/xenstore/client.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <set>

#include "transport/base/spawn.hpp"
#include "transport/base/unique_fd.hpp"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
extern "C" {
#include <xen/io/xs_wire.h>
}
#pragma GCC diagnostic pop

namespace xenlane::transport {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr int transaction_retries_max = 20;
constexpr std::size_t requests_max = 64;
/// Messages that wait for a xenstored which takes none.
constexpr std::size_t outbox_messages_max = 256;
constexpr std::chrono::milliseconds reconnect_delay_min{50};
constexpr std::chrono::milliseconds reconnect_delay_max{2000};

error_code errno_code(int value) {
  return {value, boost::system::generic_category()};
}

// xenstored spells errors as names; oxenstored knows some that the header does not.
error_code code_of(std::string_view name) {
  for (const auto& known : xsd_errors) {
    if (name == known.errstring) return errno_code(known.errnum);
  }
  return errno_code(EINVAL);
}

boost::system::result<UniqueFd> open_xenstore(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return errno_code(errno);
  if (!S_ISSOCK(info.st_mode)) {
    UniqueFd device(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
    if (!device) return errno_code(errno);
    return device;
  }
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return errno_code(ENAMETOOLONG);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return errno_code(errno);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return errno_code(errno);
  }
  return socket;
}

std::vector<std::string> split_at_nul(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\0'), text.size());
    parts.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

}  // namespace

std::string default_xenstore_path() {
  if (const char* path = std::getenv("XENSTORED_PATH"); path != nullptr) return path;
  for (const char* path : {"/run/xenstored/socket", "/var/run/xenstored/socket"}) {
    if (::access(path, F_OK) == 0) return path;
  }
  return "/dev/xen/xenbus";
}

// Outlives the XenStore while its coroutines unwind.
class XenStore::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(const asio::any_io_executor& executor, std::string path,
             std::chrono::milliseconds deadline)
      : executor_(executor),
        path_(std::move(path)),
        deadline_(deadline),
        stream_(executor),
        retry_(executor),
        state_changed_(executor) {}

  asio::awaitable<void> run();
  void stop();
  bool connected() const { return connected_; }
  asio::awaitable<error_code> wait_connected(std::chrono::milliseconds limit);
  asio::awaitable<XenStore::Result<std::string>> request(std::uint32_t type,
                                                         std::uint32_t transaction,
                                                         std::string payload);
  /// Without `keep` the transaction is abandoned at its end.
  asio::awaitable<error_code> write_once(const std::vector<XenStoreWrite>& writes,
                                         const std::string& guard, bool keep = true);
  void watch(std::string path, Signal& signal);

 private:
  struct Pending {
    explicit Pending(const asio::any_io_executor& executor) : answered(executor) {}
    Signal answered;
    XenStore::Result<std::string> result = errno_code(ETIMEDOUT);
  };
  struct Watch {
    std::string path;
    Signal* signal;
  };

  asio::awaitable<void> read_messages();
  asio::awaitable<void> flush_outbox();
  void handle_message(const xsd_sockmsg& header, std::string body);
  void set_watch(std::size_t index);
  std::uint32_t enqueue(std::uint32_t type, std::uint32_t transaction, std::string_view payload);
  void disconnect(error_code why);

  asio::any_io_executor executor_;
  std::string path_;
  std::chrono::milliseconds deadline_;
  asio::posix::stream_descriptor stream_;
  asio::steady_timer retry_;
  Signal state_changed_;
  bool connected_ = false;
  bool stopped_ = false;
  bool flushing_ = false;
  error_code last_error_ = errno_code(ENOTCONN);
  std::uint32_t next_request_ = 1;
  std::map<std::uint32_t, std::shared_ptr<Pending>> pending_;
  /// Transactions whose start nobody waits for any more. Each stays until its answer comes or the
  /// connection ends; past requests_max the connection is given up.
  std::set<std::uint32_t> late_starts_;
  std::deque<std::string> outbox_;
  std::vector<Watch> watches_;
};

asio::awaitable<void> XenStore::Connection::run() {
  const auto self = shared_from_this();
  auto delay = reconnect_delay_min;
  while (!stopped_) {
    auto opened = open_xenstore(path_);
    if (opened) {
      stream_.assign(opened->release());
      connected_ = true;
      delay = reconnect_delay_min;
      state_changed_.raise();
      for (std::size_t i = 0; i < watches_.size(); ++i) set_watch(i);
      co_await read_messages();
      disconnect(errno_code(ENOTCONN));
    } else {
      last_error_ = opened.error();
      state_changed_.raise();
    }
    if (stopped_) break;
    retry_.expires_after(delay);
    co_await retry_.async_wait(asio::as_tuple(asio::use_awaitable));
    delay = std::min(delay * 2, reconnect_delay_max);
  }
}

void XenStore::Connection::stop() {
  stopped_ = true;
  watches_.clear();
  retry_.cancel();
  disconnect(errno_code(ECANCELED));
}

void XenStore::Connection::disconnect(error_code why) {
  connected_ = false;
  last_error_ = why;
  error_code ignored;
  stream_.close(ignored);
  outbox_.clear();
  for (auto& [id, pending] : pending_) {
    pending->result = why;
    pending->answered.raise();
  }
  pending_.clear();
  late_starts_.clear();
}

asio::awaitable<error_code> XenStore::Connection::wait_connected(std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!connected_) {
    const auto left = end - std::chrono::steady_clock::now();
    if (left <= left.zero()) co_return last_error_;
    co_await state_changed_.wait_for(left);
  }
  co_return error_code{};
}

asio::awaitable<void> XenStore::Connection::read_messages() {
  std::string body;
  for (;;) {
    xsd_sockmsg header{};
    auto [error, got] = co_await asio::async_read(stream_, asio::buffer(&header, sizeof header),
                                                  asio::as_tuple(asio::use_awaitable));
    if (error || header.len > xenstore_payload_bytes_max) co_return;
    body.resize(header.len);
    auto [body_error, body_got] =
        co_await asio::async_read(stream_, asio::buffer(body), asio::as_tuple(asio::use_awaitable));
    if (body_error) co_return;
    handle_message(header, body);
  }
}

void XenStore::Connection::handle_message(const xsd_sockmsg& header, std::string body) {
  if (header.type == XS_WATCH_EVENT) {
    const auto parts = split_at_nul(body);
    if (parts.size() <= XS_WATCH_TOKEN) return;
    std::size_t index = 0;
    const std::string& token = parts[XS_WATCH_TOKEN];
    const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), index);
    if (error == std::errc{} && index < watches_.size()) watches_[index].signal->raise();
    return;
  }
  const auto found = pending_.find(header.req_id);
  if (found == pending_.end()) {  // its waiter gave up
    if (late_starts_.erase(header.req_id) > 0 && header.type == XS_TRANSACTION_START) {
      // A guest may have ten transactions; one that nobody ends counts for ever.
      const auto late = static_cast<std::uint32_t>(std::strtoul(body.c_str(), nullptr, 10));
      enqueue(XS_TRANSACTION_END, late, std::string_view("F", 2));
    }
    return;
  }
  const auto pending = std::move(found->second);
  pending_.erase(found);
  if (header.type == XS_ERROR) {
    pending->result = code_of(std::string_view(body.c_str()));
  } else {
    pending->result = std::move(body);
  }
  pending->answered.raise();
}

std::uint32_t XenStore::Connection::enqueue(std::uint32_t type, std::uint32_t transaction,
                                            std::string_view payload) {
  const xsd_sockmsg header{type, next_request_++, transaction,
                           static_cast<std::uint32_t>(payload.size())};
  std::string message(reinterpret_cast<const char*>(&header), sizeof header);
  message += payload;
  outbox_.push_back(std::move(message));
  if (!flushing_) {
    flushing_ = true;
    asio::co_spawn(executor_, flush_outbox(), transport::or_throw);
  }
  return header.req_id;
}

asio::awaitable<void> XenStore::Connection::flush_outbox() {
  const auto self = shared_from_this();
  while (connected_ && !outbox_.empty()) {
    const std::string message = std::move(outbox_.front());
    outbox_.pop_front();
    // A failed write shows as a failed read too, and that side tidies up.
    co_await asio::async_write(stream_, asio::buffer(message), asio::as_tuple(asio::use_awaitable));
  }
  flushing_ = false;
}

asio::awaitable<XenStore::Result<std::string>> XenStore::Connection::request(
    std::uint32_t type, std::uint32_t transaction, std::string payload) {
  const auto self = shared_from_this();
  // Never the reason why: ENOENT would be taken for the answer that there is no such node.
  if (!connected_) co_return errno_code(ENOTCONN);
  if (payload.size() > xenstore_payload_bytes_max) co_return errno_code(E2BIG);
  if (pending_.size() >= requests_max || outbox_.size() >= outbox_messages_max) {
    co_return errno_code(EBUSY);
  }
  const std::uint32_t id = enqueue(type, transaction, payload);
  auto pending = std::make_shared<Pending>(executor_);
  pending_[id] = pending;
  co_await pending->answered.wait_for(deadline_);
  const bool late = pending_.erase(id) > 0;
  if (late && type == XS_TRANSACTION_START) late_starts_.insert(id);
  if (late_starts_.size() > requests_max) disconnect(errno_code(ETIMEDOUT));
  co_return std::move(pending->result);
}

asio::awaitable<error_code> XenStore::Connection::write_once(
    const std::vector<XenStoreWrite>& writes, const std::string& guard, bool keep) {
  const auto started = co_await request(XS_TRANSACTION_START, 0, std::string(1, '\0'));
  if (!started) co_return started.error();
  const auto transaction = static_cast<std::uint32_t>(std::strtoul(started->c_str(), nullptr, 10));
  error_code failed;
  if (!guard.empty()) {
    const auto present = co_await request(XS_READ, transaction, guard + '\0');
    if (!present) failed = present.error();
  }
  for (const auto& write : writes) {
    if (failed) break;
    const auto written = co_await request(XS_WRITE, transaction, write.path + '\0' + write.value);
    if (!written) failed = written.error();
    if (!failed && !write.permissions.empty()) {
      std::string payload = write.path + '\0';
      for (const auto& permission : write.permissions) payload += permission + '\0';
      const auto set = co_await request(XS_SET_PERMS, transaction, std::move(payload));
      if (!set) failed = set.error();
    }
  }
  // Named and not a temporary: GCC 12 destroys some temporaries of a co_await expression twice.
  std::string verdict(failed || !keep ? "F" : "T", 2);
  const auto ended = co_await request(XS_TRANSACTION_END, transaction, std::move(verdict));
  if (failed) co_return failed;
  co_return ended ? error_code{} : ended.error();
}

void XenStore::Connection::set_watch(std::size_t index) {
  // The answer is not waited for: a refused watch would show as one that never fires, and its
  // error is one that xenstored logs (quota, permission).
  enqueue(XS_WATCH, 0, watches_[index].path + '\0' + std::to_string(index) + '\0');
}

void XenStore::Connection::watch(std::string path, Signal& signal) {
  watches_.push_back({std::move(path), &signal});
  if (connected_) set_watch(watches_.size() - 1);
}

XenStore::XenStore(const asio::any_io_executor& executor, std::string path,
                   std::chrono::milliseconds deadline)
    : connection_(std::make_shared<Connection>(executor, std::move(path), deadline)) {
  asio::co_spawn(executor, connection_->run(), transport::or_throw);
}

XenStore::~XenStore() {
  connection_->stop();
}

bool XenStore::connected() const {
  return connection_->connected();
}

asio::awaitable<XenStore::Error> XenStore::wait_connected(std::chrono::milliseconds limit) {
  return connection_->wait_connected(limit);
}

asio::awaitable<XenStore::Result<std::string>> XenStore::read(std::string path) {
  return connection_->request(XS_READ, 0, std::move(path) + '\0');
}

asio::awaitable<XenStore::Result<std::vector<std::string>>> XenStore::list(std::string path) {
  const auto connection = connection_;
  auto names = co_await connection->request(XS_DIRECTORY, 0, std::move(path) + '\0');
  if (!names) co_return names.error();
  co_return split_at_nul(*names);
}

asio::awaitable<XenStore::Result<bool>> XenStore::is_introduced(Domid domid) {
  const auto connection = connection_;
  auto answer =
      co_await connection->request(XS_IS_DOMAIN_INTRODUCED, 0, std::to_string(domid) + '\0');
  if (!answer) co_return Result<bool>(boost::system::in_place_error, answer.error());
  co_return Result<bool>(boost::system::in_place_value, answer->starts_with('T'));
}

asio::awaitable<XenStore::Error> XenStore::write(std::string path, std::string value) {
  const auto connection = connection_;
  auto done = co_await connection->request(XS_WRITE, 0, std::move(path) + '\0' + std::move(value));
  co_return done ? Error{} : done.error();
}

asio::awaitable<XenStore::Error> XenStore::remove(std::string path) {
  const auto connection = connection_;
  auto done = co_await connection->request(XS_RM, 0, std::move(path) + '\0');
  co_return done ? Error{} : done.error();
}

asio::awaitable<XenStore::Error> XenStore::write_all(std::vector<XenStoreWrite> writes,
                                                     std::string guard) {
  const auto connection = connection_;
  Error error;
  for (int attempt = 0; attempt < transaction_retries_max; ++attempt) {
    error = co_await connection->write_once(writes, guard);
    if (error != errno_code(EAGAIN)) break;
  }
  co_return error;
}

asio::awaitable<XenStore::Result<std::vector<std::string>>> XenStore::permissions(
    std::string path) {
  const auto connection = connection_;
  auto list = co_await connection->request(XS_GET_PERMS, 0, std::move(path) + '\0');
  if (!list) co_return list.error();
  co_return split_at_nul(*list);
}

asio::awaitable<XenStore::Error> XenStore::try_writes(std::vector<XenStoreWrite> writes) {
  const auto connection = connection_;
  const std::string no_guard;
  co_return co_await connection->write_once(writes, no_guard, false);
}

asio::awaitable<XenStore::Error> XenStore::try_watch(std::string path) {
  const auto connection = connection_;
  // Its token is no number, so that its events go to none of the watches.
  const std::string watch = std::move(path) + '\0' + "trial" + '\0';
  auto set = co_await connection->request(XS_WATCH, 0, watch);
  if (!set) co_return set.error();
  auto taken_back = co_await connection->request(XS_UNWATCH, 0, watch);
  co_return taken_back ? Error{} : taken_back.error();
}

void XenStore::watch(std::string path, Signal& signal) {
  connection_->watch(std::move(path), signal);
}

}  // namespace xenlane::transport
