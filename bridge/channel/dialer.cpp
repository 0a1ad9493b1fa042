#include "bridge/channel/dialer.hpp"

#include <sys/socket.h>
#include <sys/un.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <cstring>
#include <utility>

namespace xenlane::bridge {

namespace asio = boost::asio;
using transport::UniqueFd;

namespace {

/// A target whose backlog is full (connect gives EAGAIN) is tried again this often.
constexpr std::chrono::milliseconds dial_retry{5};

boost::system::error_code dial_error(int error) {
  return {error, boost::system::generic_category()};
}

DialResult connect_unix(const std::string& path) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return dial_error(errno);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return dial_error(errno);
  }
  return socket;
}

}  // namespace

struct Dialer::State {
  asio::any_io_executor executor;
  std::chrono::milliseconds deadline;
  BuiltIn start_bench;

  DialResult connect_once(const Target& target) const {
    switch (target.kind()) {
      case TargetKind::unix_socket:
        return connect_unix(target.path());
      case TargetKind::bench:
        return start_bench ? start_bench() : DialResult(dial_error(ENOTSUP));
    }
    return dial_error(ENOTSUP);
  }
};

Dialer::Dialer(const asio::any_io_executor& executor, std::chrono::milliseconds deadline)
    : state_(std::make_shared<State>(State{executor, deadline, {}})) {}

void Dialer::set_bench(BuiltIn start) {
  state_->start_bench = std::move(start);
}

asio::awaitable<DialResult> Dialer::dial(Target target, std::function<bool()> wanted) const {
  return run(state_, std::move(target), std::move(wanted));
}

asio::awaitable<DialResult> Dialer::run(std::shared_ptr<const State> state, Target target,
                                        std::function<bool()> wanted) {
  const auto end = std::chrono::steady_clock::now() + state->deadline;
  asio::steady_timer pause(state->executor);
  for (;;) {
    auto socket = state->connect_once(target);
    const bool may_change = !socket && socket.error().value() == EAGAIN;
    if (!may_change || std::chrono::steady_clock::now() >= end) co_return socket;
    pause.expires_after(dial_retry);
    co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
    if (!wanted()) co_return socket;
  }
}

}  // namespace xenlane::bridge
