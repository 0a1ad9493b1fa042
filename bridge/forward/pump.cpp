#include "bridge/forward/pump.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

namespace xenlane::bridge {

namespace asio = boost::asio;
using asio::posix::descriptor_base;
using transport::UniqueFd;

namespace {

/// One turn of the event loop reads so often from one socket, so that others have their turn.
constexpr int reads_at_once_max = 16;

/// What is read lies here until it is written, which is at once: one buffer serves all connections
/// of a thread, and stays in its processor's cache.
thread_local std::array<char, pump_bytes_max> scratch;

bool would_block(int error) {
  return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

short events_of(int socket) {
  pollfd poll{socket, POLLIN, 0};
  ::poll(&poll, 1, 0);
  return poll.revents;
}

bool is_tcp(int socket) {
  int domain = 0;
  socklen_t size = sizeof domain;
  ::getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &size);
  return domain != AF_UNIX;
}

}  // namespace

ForwardPump::ForwardPump(const asio::any_io_executor& executor, UniqueFd local,
                         OpenedForward stream, std::shared_ptr<Uplink> uplink,
                         std::shared_ptr<ForwardCounters> counters)
    : executor_(executor),
      local_(executor, local.release()),
      stream_(executor, stream.socket.release()),
      token_(std::move(stream.token)),
      uplink_(std::move(uplink)),
      counters_(std::move(counters)),
      patience_(executor) {
  local_is_tcp_ = is_tcp(local_.socket.native_handle());
  local_.aside = std::move(stream.rest);
  counters_->bytes_in += local_.aside.size();
  ++counters_->open;
  ++counters_->opened;
}

ForwardPump::~ForwardPump() {
  --counters_->open;
}

void ForwardPump::start(std::string from_local) {
  counters_->bytes_out += from_local.size();
  stream_.aside = std::move(from_local);
  watch_local();
  flush(stream_);
  flush(local_);
}

void ForwardPump::wait_readable(End& from) {
  if (from.waits_readable || from.in_over || closed_) return;
  from.waits_readable = true;
  from.socket.async_wait(descriptor_base::wait_read,
                         [self = shared_from_this(), &from](const auto& error) {
                           from.waits_readable = false;
                           if (!error && !self->closed_) self->move(from);
                         });
}

void ForwardPump::wait_writable(End& to) {
  if (to.waits_writable || closed_) return;
  to.waits_writable = true;
  to.socket.async_wait(descriptor_base::wait_write,
                       [self = shared_from_this(), &to](const auto& error) {
                         to.waits_writable = false;
                         if (!error && !self->closed_) self->flush(to);
                       });
}

// While nothing is read from the local program, as its stream takes no more, it may still go away.
void ForwardPump::watch_local() {
  local_.socket.async_wait(descriptor_base::wait_error,
                           [self = shared_from_this()](const auto& error) {
                             if (error || self->closed_) return;
                             const int socket = self->local_.socket.native_handle();
                             if ((events_of(socket) & POLLERR) != 0) self->handle_local_reset();
                           });
}

void ForwardPump::move(End& from) {
  End& to = other(from);
  for (int i = 0; i < reads_at_once_max; ++i) {
    // What waits there goes first, and then this goes on.
    if (closed_ || from.in_over || !to.aside.empty()) return;
    // It may have to be closed for what it says, and has not been told everything yet.
    if (stream_gone_ && &from == &local_ && !local_.out_over) return;
    const ssize_t got =
        ::recv(from.socket.native_handle(), scratch.data(), scratch.size(), MSG_DONTWAIT);
    if (got == 0) return handle_end(from);
    if (got < 0 && would_block(errno)) break;
    if (got < 0) return handle_read_error(from);
    const auto bytes = static_cast<std::size_t>(got);
    (&from == &local_ ? counters_->bytes_out : counters_->bytes_in) += bytes;
    give(to, {scratch.data(), bytes});
    if (bytes < scratch.size()) break;  // it had no more
  }
  if (to.aside.empty()) wait_readable(from);
}

void ForwardPump::give(End& to, std::span<const char> bytes) {
  // A program that goes on talking to a service that has closed is told so, as by that itself.
  if (to.out_over) return close(false);
  const ssize_t sent =
      ::send(to.socket.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0 && !would_block(errno)) return handle_write_error(to, errno);
  const std::size_t gone = sent > 0 ? static_cast<std::size_t>(sent) : 0;
  if (gone == bytes.size()) return;
  to.aside.assign(bytes.data() + gone, bytes.size() - gone);
  wait_writable(to);
}

void ForwardPump::flush(End& to) {
  if (!to.aside.empty()) {
    const ssize_t sent = ::send(to.socket.native_handle(), to.aside.data(), to.aside.size(),
                                MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && !would_block(errno)) return handle_write_error(to, errno);
    if (sent > 0) to.aside.erase(0, static_cast<std::size_t>(sent));
    if (!to.aside.empty()) return wait_writable(to);
    to.aside.shrink_to_fit();
  }
  if (to.finish_wanted) finish(to);
  if (!closed_) move(other(to));
  if (!closed_ && stream_gone_) move(local_);
}

void ForwardPump::handle_end(End& from) {
  from.in_over = true;
  if (&from == &local_ || (events_of(stream_.socket.native_handle()) & POLLHUP) == 0) {
    return finish(other(from));
  }
  stream_gone_ = true;
  patience_.expires_after(pump_end_wait);
  patience_.async_wait([self = shared_from_this()](const auto& error) {
    if (!error) self->handle_stream_over(true);
  });
  uplink_->ask_how_ended(token_, [weak = weak_from_this()](bool reset) {
    if (const auto self = weak.lock()) self->handle_stream_over(reset);
  });
}

void ForwardPump::handle_stream_over(bool reset) {
  if (closed_) return;
  patience_.cancel();
  if (reset) return close(true);
  stream_.out_over = true;
  stream_.aside.clear();
  finish(local_);
  if (!closed_) move(local_);
}

void ForwardPump::finish(End& to) {
  to.finish_wanted = true;
  if (to.out_over || !to.aside.empty()) return close_if_done();
  to.out_over = true;
  ::shutdown(to.socket.native_handle(), SHUT_WR);
  close_if_done();
}

void ForwardPump::handle_read_error(const End& from) {
  if (&from == &local_) return handle_local_reset();
  close(true);
}

void ForwardPump::handle_write_error(End& to, int error) {
  if (&to == &local_) {
    // Over TCP that is the answer to bytes that nobody wanted.
    if (local_is_tcp_ || (error != EPIPE && error != ECONNRESET)) return handle_local_reset();
    // It reads no more, but may have something to say.
    local_.out_over = true;
    local_.aside.clear();
    stream_.in_over = true;
    ::shutdown(stream_.socket.native_handle(), SHUT_RD);
    return close_if_done();
  }
  // The far side reads no more. What it has said is still read to its end.
  stream_.out_over = true;
  stream_.aside.clear();
  local_.in_over = true;
  if (stream_.in_over) return close_if_done();
  wait_readable(stream_);
}

// The far end is reset through the control stream; the bridge closes our stream then.
void ForwardPump::handle_local_reset() {
  if (closed_ || resetting_) return;
  ++counters_->reset;
  if (stream_gone_ || !uplink_->reset(token_)) return close(true);
  resetting_ = true;
  local_.in_over = stream_.in_over = true;
  patience_.expires_after(pump_end_wait);
  patience_.async_wait([self = shared_from_this()](const auto& error) {
    if (!error) self->close(true);
  });
  stream_.socket.async_wait(descriptor_base::wait_error,
                            [self = shared_from_this()](const auto&) { self->close(true); });
}

void ForwardPump::close_if_done() {
  if (local_.in_over && stream_.in_over && local_.out_over && stream_.out_over) close(false);
}

void ForwardPump::abort() {
  close(true);
}

void ForwardPump::close(bool with_reset) {
  if (closed_) return;
  const auto self = shared_from_this();
  closed_ = true;
  if (with_reset) {
    if (!resetting_) ++counters_->reset;
    const linger at_once{1, 0};
    ::setsockopt(local_.socket.native_handle(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  }
  patience_.cancel();
  boost::system::error_code ignored;
  local_.socket.close(ignored);
  stream_.socket.close(ignored);
  if (ended_) std::exchange(ended_, nullptr)();
}

}  // namespace xenlane::bridge
