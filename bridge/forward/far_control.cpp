#include "bridge/forward/far_control.hpp"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

namespace xenlane::bridge {

namespace asio = boost::asio;
using asio::posix::descriptor_base;
using transport::UniqueFd;

FarControl::FarControl(const asio::any_io_executor& executor, UniqueFd socket, ForwardDesk& desk,
                       ForwardTerms terms)
    : executor_(executor),
      socket_(executor, socket.release()),
      desk_(&desk),
      terms_(std::move(terms)) {}

void FarControl::start() {
  wait_readable();
}

void FarControl::close() {
  if (desk_ == nullptr) return;
  const auto self = shared_from_this();
  ForwardDesk* const desk = std::exchange(desk_, nullptr);
  for (auto& [number, listener] : listeners_) listener.acceptor->close();
  listeners_.clear();
  boost::system::error_code ignored;
  socket_.close(ignored);
  desk->drop_pending_of(this);
  desk->controls_.erase(self);
}

void FarControl::wait_readable() {
  socket_.async_wait(descriptor_base::wait_read, [self = shared_from_this()](const auto& error) {
    if (!error && self->desk_ != nullptr) self->read();
  });
}

void FarControl::read() {
  std::array<char, 4096> bytes;
  const ssize_t got = ::recv(socket_.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return wait_readable();
  if (got <= 0) return close();
  if (!lines_.add({bytes.data(), static_cast<std::size_t>(got)})) return close();
  while (desk_ != nullptr) {
    const auto line = lines_.next();
    if (!line) return wait_readable();
    const auto order = parse_forward_order(*line);
    if (!order) return close();
    handle(*order);
  }
}

void FarControl::handle(const ForwardOrder& order) {
  if (const auto* wanted = std::get_if<ForwardListen>(&order)) {
    listen(*wanted);
  } else if (const auto* unlisten = std::get_if<ForwardUnlisten>(&order)) {
    const auto node = listeners_.extract(unlisten->number);
    if (!node.empty()) node.mapped().acceptor->close();
  } else if (const auto* reset = std::get_if<ForwardReset>(&order)) {
    desk_->reset(reset->token);
  } else {
    const std::string& token = std::get<ForwardHowEnded>(order).token;
    say(ForwardEnded{token, desk_->was_reset(token)});
  }
}

void FarControl::listen(const ForwardListen& order) {
  const auto refuse = [&](int error, const std::string& why) {
    terms_.refused(error, "listen " + order.address.uri() + ": " + why);
    say(ForwardListening{order.number, ForwardError{error, why}});
  };
  if (!terms_.allows(order.address)) return refuse(EACCES, "not among allow_listen");
  if (listeners_.contains(order.number)) return refuse(EEXIST, "the number is in use");
  if (listeners_.size() >= forward_listeners_max) return refuse(EAGAIN, "too many listeners");
  auto sockets = listen_forward(order.address);
  if (!sockets) return refuse(sockets.error().code.value(), sockets.error().text);
  auto acceptor = std::make_shared<ForwardAcceptor>(
      executor_, std::move(*sockets),
      [weak = weak_from_this(), number = order.number](UniqueFd socket) {
        if (const auto self = weak.lock()) self->accepted(number, std::move(socket));
      });
  listeners_.emplace(order.number, Listener{order.address, acceptor});
  acceptor->start();
  say(ForwardListening{order.number, {}});
}

void FarControl::accepted(std::uint32_t number, UniqueFd socket) {
  if (desk_ == nullptr) return;
  const auto found = listeners_.find(number);
  if (found == listeners_.end()) return;
  if (!terms_.allows(found->second.address)) {
    const auto acceptor = found->second.acceptor;
    listeners_.erase(found);
    acceptor->close();
    say(ForwardListening{number, ForwardError{EACCES, "no longer among allow_listen"}});
    return;
  }
  std::string token = desk_->hold(std::move(socket), shared_from_this());
  if (++pending_ >= forward_pending_max) {
    for (auto& [other, listener] : listeners_) listener.acceptor->set_full(true);
  }
  say(ForwardAccepted{number, std::move(token)});
}

void FarControl::handle_taken() {
  if (desk_ == nullptr || pending_-- < forward_pending_max) return;
  // An acceptor that goes on may be full again at once.
  const auto self = shared_from_this();
  std::vector<std::shared_ptr<ForwardAcceptor>> acceptors;
  for (auto& [number, listener] : listeners_) acceptors.push_back(listener.acceptor);
  for (const auto& acceptor : acceptors) acceptor->set_full(false);
}

void FarControl::say(const ForwardNews& news) {
  if (desk_ == nullptr) return;
  unsaid_ += format_forward(news);
  if (!writing_) flush();
}

void FarControl::flush() {
  const ssize_t sent =
      ::send(socket_.native_handle(), unsaid_.data(), unsaid_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN && errno != EINTR) return close();
  if (sent > 0) unsaid_.erase(0, static_cast<std::size_t>(sent));
  if (unsaid_.empty()) return;
  if (unsaid_.size() > forward_unsaid_bytes_max) return close();
  writing_ = true;
  socket_.async_wait(descriptor_base::wait_write, [self = shared_from_this()](const auto& error) {
    self->writing_ = false;
    if (!error && self->desk_ != nullptr) self->flush();
  });
}

}  // namespace xenlane::bridge
