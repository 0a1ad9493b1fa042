#include "bridge/control/server.hpp"

#include <fcntl.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <cstring>
#include <exception>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

namespace xenlane::bridge {

namespace asio = boost::asio;
using Local = asio::local::stream_protocol;
using ErrorCode = boost::system::error_code;

namespace {
// After accept() failed for want of descriptors: trying again at once would spin.
constexpr std::chrono::milliseconds accept_retry{100};
}  // namespace

/// What the acceptor and the connections share. Queued completions keep it alive past the server;
/// they see closed sockets and do nothing more.
class ControlServer::Core : public std::enable_shared_from_this<Core> {
 public:
  Core(const asio::any_io_executor& executor, transport::UniqueFd listening, Handler handler,
       Options options)
      : executor_(executor),
        acceptor_(executor),
        retry_(executor),
        handler_(std::move(handler)),
        options_(options) {
    ErrorCode error;
    acceptor_.assign(Local(), listening.get(), error);
    if (!error) (void)listening.release();
  }

  void accept();
  void stop();

 private:
  class Connection;

  asio::any_io_executor executor_;
  Local::acceptor acceptor_;
  asio::steady_timer retry_;
  Handler handler_;
  Options options_;
  std::unordered_set<std::shared_ptr<Connection>> connections_;
};

/// One client: reads a line, answers it, reads the next. One deadline covers the wait for a whole
/// line and the wait for the client to take its reply.
class ControlServer::Core::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<Core> core, Local::socket socket)
      : core_(std::move(core)), socket_(std::move(socket)), deadline_(socket_.get_executor()) {}

  void start() {
    arm_deadline();
    next_line();
  }

  void close() {
    ErrorCode ignored;
    socket_.close(ignored);
    deadline_.cancel();
    held_.reset();
  }

 private:
  using Deadline = asio::steady_timer;

  void arm_deadline() {
    deadline_.expires_after(core_->options_.idle_deadline);
    deadline_.async_wait([self = shared_from_this()](ErrorCode error) {
      // A deadline that was moved on while this was already queued has not passed.
      if (!error && self->deadline_.expiry() <= std::chrono::steady_clock::now()) self->finish();
    });
  }

  void finish() {
    close();
    core_->connections_.erase(shared_from_this());
  }

  void next_line() {
    const std::string_view pending(input_.data(), filled_);
    const std::size_t newline = pending.find('\n');
    if (newline != std::string_view::npos) {
      answer(pending.substr(0, newline));
      filled_ -= newline + 1;
      std::memmove(input_.data(), input_.data() + newline + 1, filled_);
    } else if (filled_ == input_.size()) {
      is_last_ = true;
      write(
          format_control_reply(control_error("line-too-long", "a request has at most 4096 bytes")));
    } else {
      read();
    }
  }

  void read() {
    socket_.async_read_some(asio::buffer(input_.data() + filled_, input_.size() - filled_),
                            [self = shared_from_this()](ErrorCode error, std::size_t bytes) {
                              if (!self->socket_.is_open()) return;
                              if (error) return self->finish();
                              self->filled_ += bytes;
                              self->next_line();
                            });
  }

  void answer(std::string_view untrusted_line) {
    auto request = parse_control_request(untrusted_line);
    ControlReply reply = request ? answer_checked(*request)
                                 : control_error(request.error().code, request.error().message);
    if (reply.held) {
      held_ = std::move(reply.held);
      deadline_.expires_at(Deadline::time_point::max());
    }
    write(format_control_reply(std::move(reply.body)));
  }

  ControlReply answer_checked(const boost::json::object& request) {
    try {
      return core_->handler_(request);
    } catch (const std::exception& failure) {
      return control_error("internal", failure.what());
    }
  }

  void write(std::string line) {
    output_ = std::move(line);
    asio::async_write(socket_, asio::buffer(output_),
                      [self = shared_from_this()](ErrorCode error, std::size_t /*bytes*/) {
                        if (!self->socket_.is_open()) return;
                        if (error || self->is_last_) return self->finish();
                        // The deadline starts anew with a whole exchange only, so that a client
                        // cannot hold a place by sending a byte now and then.
                        if (!self->held_) self->arm_deadline();
                        self->next_line();
                      });
  }

  std::shared_ptr<Core> core_;
  Local::socket socket_;
  Deadline deadline_;
  std::array<char, control_request_bytes_max> input_{};
  std::size_t filled_ = 0;
  std::string output_;
  std::shared_ptr<const void> held_;
  bool is_last_ = false;
};

void ControlServer::Core::accept() {
  acceptor_.async_accept([self = shared_from_this()](ErrorCode error, Local::socket socket) {
    if (!self->acceptor_.is_open()) return;
    if (error) {
      self->retry_.expires_after(accept_retry);
      self->retry_.async_wait([self](ErrorCode cancelled) {
        if (!cancelled && self->acceptor_.is_open()) self->accept();
      });
      return;
    }
    // Asio leaves it open for whatever program the broker starts next.
    ::fcntl(socket.native_handle(), F_SETFD, FD_CLOEXEC);
    if (self->connections_.size() >= self->options_.connections_max) {
      // Best effort: the new connection's buffer is empty, so one short line fits or is dropped.
      const std::string busy =
          format_control_reply(control_error("busy", "too many control connections"));
      ErrorCode ignored;
      socket.non_blocking(true, ignored);
      socket.write_some(asio::buffer(busy), ignored);
    } else {
      auto connection = std::make_shared<Connection>(self, std::move(socket));
      self->connections_.insert(connection);
      connection->start();
    }
    self->accept();
  });
}

void ControlServer::Core::stop() {
  ErrorCode ignored;
  acceptor_.close(ignored);
  retry_.cancel();
  for (const auto& connection : std::exchange(connections_, {})) connection->close();
}

ControlServer::ControlServer(const asio::any_io_executor& executor, transport::UniqueFd listening,
                             Handler handler, Options options)
    : core_(std::make_shared<Core>(executor, std::move(listening), std::move(handler), options)) {
  core_->accept();
}

ControlServer::~ControlServer() {
  stop();
}

void ControlServer::stop() {
  core_->stop();
}

}  // namespace xenlane::bridge
