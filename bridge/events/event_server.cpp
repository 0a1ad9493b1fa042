#include "bridge/events/event_server.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <unordered_set>

namespace xenlane::bridge {

namespace asio = boost::asio;
using Local = asio::local::stream_protocol;
using ErrorCode = boost::system::error_code;

namespace {
// After accept() failed for want of descriptors: trying again at once would spin.
constexpr std::chrono::milliseconds event_accept_retry{100};
}  // namespace

class EventServer::Core : public std::enable_shared_from_this<Core> {
 public:
  Core(const asio::any_io_executor& executor, transport::UniqueFd listening, std::string role,
       Snapshot snapshot)
      : acceptor_(executor),
        retry_(executor),
        role_(std::move(role)),
        snapshot_(std::move(snapshot)) {
    ErrorCode error;
    acceptor_.assign(Local(), listening.get(), error);
    if (!error) (void)listening.release();
  }

  void accept();
  void stop();
  bool has_listeners() const { return !listeners_.empty(); }
  void publish(const Event& event);

 private:
  class Listener;

  std::string greeting() const;

  Local::acceptor acceptor_;
  asio::steady_timer retry_;
  std::string role_;
  Snapshot snapshot_;
  std::unordered_set<std::shared_ptr<Listener>> listeners_;
};

class EventServer::Core::Listener : public std::enable_shared_from_this<Listener> {
 public:
  Listener(std::shared_ptr<Core> core, Local::socket socket)
      : core_(std::move(core)), socket_(std::move(socket)) {}

  void start(std::string first) {
    waiting_ = std::move(first);
    watch_end();
    write();
  }
  void close() {
    ErrorCode ignored;
    socket_.close(ignored);
  }
  void add(const std::string& line) {
    // Those that come after a lost one wait until it was told that some are missing.
    if (lost_ > 0 || going_.size() + waiting_.size() + line.size() > events_waiting_bytes_max) {
      ++lost_;
      return;
    }
    waiting_ += line;
    if (going_.empty()) write();
  }

 private:
  // What a listener says means nothing; that it has gone is all there is to learn.
  void watch_end() {
    socket_.async_read_some(asio::buffer(ignored_),
                            [self = shared_from_this()](ErrorCode error, std::size_t /*bytes*/) {
                              if (!self->socket_.is_open()) return;
                              if (error) return self->finish();
                              self->watch_end();
                            });
  }
  void write() {
    if (waiting_.empty() && lost_ > 0) {
      waiting_ = format_event({"lost", {{"count", std::to_string(lost_)}}});
      lost_ = 0;
    }
    going_ = std::exchange(waiting_, {});
    if (going_.empty()) return;
    asio::async_write(socket_, asio::buffer(going_),
                      [self = shared_from_this()](ErrorCode error, std::size_t /*bytes*/) {
                        if (!self->socket_.is_open()) return;
                        if (error) return self->finish();
                        self->going_.clear();
                        self->write();
                      });
  }
  void finish() {
    close();
    core_->listeners_.erase(shared_from_this());
  }

  std::shared_ptr<Core> core_;
  Local::socket socket_;
  std::array<char, 256> ignored_{};
  std::string going_;    ///< being written: stays where it is meanwhile
  std::string waiting_;  ///< goes next
  std::uint64_t lost_ = 0;
};

std::string EventServer::Core::greeting() const {
  std::string text =
      format_event({"xenlane", {{"events", std::to_string(events_version)}, {"role", role_}}});
  for (const Event& event : snapshot_()) text += format_event(event);
  return text + "ready\n";
}

void EventServer::Core::accept() {
  acceptor_.async_accept([self = shared_from_this()](ErrorCode error, Local::socket socket) {
    if (!self->acceptor_.is_open()) return;
    if (error) {
      self->retry_.expires_after(event_accept_retry);
      self->retry_.async_wait([self](ErrorCode cancelled) {
        if (!cancelled && self->acceptor_.is_open()) self->accept();
      });
      return;
    }
    // Asio leaves it open for whatever program is started next.
    ::fcntl(socket.native_handle(), F_SETFD, FD_CLOEXEC);
    if (self->listeners_.size() < event_listeners_max) {
      auto listener = std::make_shared<Listener>(self, std::move(socket));
      self->listeners_.insert(listener);
      listener->start(self->greeting());
    }
    self->accept();
  });
}

void EventServer::Core::stop() {
  ErrorCode ignored;
  acceptor_.close(ignored);
  retry_.cancel();
  for (const auto& listener : std::exchange(listeners_, {})) listener->close();
}

void EventServer::Core::publish(const Event& event) {
  const std::string line = format_event(event);
  for (const auto& listener : listeners_) listener->add(line);
}

EventServer::EventServer(const asio::any_io_executor& executor, transport::UniqueFd listening,
                         std::string role, Snapshot snapshot)
    : core_(std::make_shared<Core>(executor, std::move(listening), std::move(role),
                                   std::move(snapshot))) {
  core_->accept();
}

EventServer::~EventServer() {
  core_->stop();
}

bool EventServer::wants_events() const {
  return core_->has_listeners();
}

void EventServer::publish(const Event& event) {
  core_->publish(event);
}

}  // namespace xenlane::bridge
