#include "bridge/forward/acceptor.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>

namespace xenlane::bridge {

namespace asio = boost::asio;
using transport::UniqueFd;

namespace {

/// How long to wait before trying again when the process is out of descriptors.
constexpr std::chrono::milliseconds accept_retry{100};

}  // namespace

void set_prompt(int socket) {
  const int on = 1;
  if (::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) return;
  ::setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

ForwardAcceptor::ForwardAcceptor(const asio::any_io_executor& executor,
                                 std::vector<ForwardSocket> sockets, Accepted accepted)
    : sockets_(std::move(sockets)), pause_(executor), accepted_(std::move(accepted)) {
  for (ForwardSocket& one : sockets_) {
    doors_.emplace_back(executor, one.fd.release());
    waiting_.push_back(false);
  }
}

void ForwardAcceptor::start() {
  for (std::size_t i = 0; i < doors_.size(); ++i) wait(i);
}

void ForwardAcceptor::set_full(bool full) {
  full_ = full;
  if (!full_ && !closed_) start();
}

void ForwardAcceptor::close() {
  if (closed_) return;
  closed_ = true;
  pause_.cancel();
  unlink_forward(sockets_);
  boost::system::error_code ignored;
  for (auto& door : doors_) door.close(ignored);
}

void ForwardAcceptor::wait(std::size_t door) {
  if (full_ || closed_ || waiting_[door]) return;
  waiting_[door] = true;
  doors_[door].async_wait(asio::posix::descriptor_base::wait_read,
                          [self = shared_from_this(), door](const auto& error) {
                            self->waiting_[door] = false;
                            if (!error && !self->closed_) self->accept_some(door);
                          });
}

void ForwardAcceptor::accept_some(std::size_t door) {
  for (int i = 0; i < accepted_at_once_max && !full_ && !closed_; ++i) {
    UniqueFd socket(
        ::accept4(doors_[door].native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket) {
      set_prompt(socket.get());
      accepted_(std::move(socket));
      continue;
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      pause_.expires_after(accept_retry);
      pause_.async_wait([self = shared_from_this()](const auto& error) {
        if (!error && !self->closed_) self->start();
      });
      return;
    }
    break;
  }
  wait(door);
}

}  // namespace xenlane::bridge
