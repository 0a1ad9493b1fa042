#include "bridge/channel/dialer.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <cstring>
#include <utility>

#include "bridge/channel/dial_tcp.hpp"
#include "bridge/channel/proxy_header.hpp"

namespace xenlane::bridge {

namespace asio = boost::asio;
using std::chrono::steady_clock;
using transport::UniqueFd;

namespace {

/// A target whose backlog is full (connect gives EAGAIN) is tried again this often.
constexpr std::chrono::milliseconds dial_retry{5};

/// All that a program finds in its environment besides who asks.
constexpr const char* path_of_programs =
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr const char* language_of_programs = "LANG=C.UTF-8";

/// Arguments may be nobody's business on the other side; the program is the target.
std::string shown(const Target& target) {
  return target.kind() == TargetKind::exec ? "exec:" + target.command().front() : target.uri();
}

DialFailure dial_failure(const Target& target, int error) {
  return {error, fmt::format("{}: {}", shown(target), std::strerror(error))};
}

DialFailure program_failure(const Target& target, int error) {
  if (error != EAGAIN) return dial_failure(target, error);
  return {error, shown(target) + ": as many programs run as there may be"};
}

DialResult connect_unix(const Target& target, SocketKind kind) {
  const int type = kind == SocketKind::seqpacket ? SOCK_SEQPACKET : SOCK_STREAM;
  UniqueFd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return dial_failure(target, errno);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, target.path().c_str(), target.path().size() + 1);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return dial_failure(target, errno);
  }
  return Dialled{std::move(socket), nullptr};
}

ProgramOrder program_order(const DialOrder& order) {
  ProgramOrder program;
  program.start.command = order.target.command();
  program.start.environment = environment_of(order.caller);
  program.start.environment.emplace_back(path_of_programs);
  program.start.environment.emplace_back(language_of_programs);
  program.start.run_as = order.run_as;
  program.channel = order.caller.channel;
  program.socket = order.socket;
  program.running_max = order.exec_max;
  return program;
}

}  // namespace

struct Dialer::State {
  State(const asio::any_io_executor& on, std::chrono::milliseconds within)
      : executor(on), deadline(within), programs(on) {}

  asio::any_io_executor executor;
  std::chrono::milliseconds deadline;
  BuiltIn start_bench;
  Programs programs;
  std::size_t under_way = 0;

  asio::awaitable<DialResult> connect(const DialOrder& order, steady_clock::time_point end,
                                      const std::function<bool()>& wanted);
  DialResult connect_bench(const Target& target) const {
    if (!start_bench) return dial_failure(target, ENOTSUP);
    auto socket = start_bench();
    if (!socket) return dial_failure(target, socket.error().value());
    return Dialled{std::move(*socket), nullptr};
  }
};

/// Counts one dial for as long as it lives.
struct Dialer::UnderWay {
  explicit UnderWay(std::shared_ptr<State> of) : state(std::move(of)) { ++state->under_way; }
  UnderWay(const UnderWay&) = delete;
  UnderWay& operator=(const UnderWay&) = delete;
  ~UnderWay() { --state->under_way; }
  std::shared_ptr<State> state;
};

asio::awaitable<DialResult> Dialer::State::connect(const DialOrder& order,
                                                   steady_clock::time_point end,
                                                   const std::function<bool()>& wanted) {
  switch (order.target.kind()) {
    case TargetKind::unix_socket:
      co_return connect_unix(order.target, order.socket);
    case TargetKind::tcp:
      co_return co_await dial_tcp(executor, order.target, end, wanted);
    case TargetKind::exec: {
      auto started = co_await programs.start(program_order(order), deadline);
      if (!started) co_return program_failure(order.target, started.error().value());
      co_return Dialled{std::move(started->socket), std::move(started->program)};
    }
    case TargetKind::bench:
      co_return connect_bench(order.target);
    case TargetKind::forward:
      break;  // whose streams say themselves what to dial
  }
  co_return dial_failure(order.target, ENOTSUP);
}

Dialer::Dialer(const asio::any_io_executor& executor, std::chrono::milliseconds deadline)
    : state_(std::make_shared<State>(executor, deadline)) {}

void Dialer::set_bench(BuiltIn start) {
  state_->start_bench = std::move(start);
}

Programs& Dialer::programs() {
  return state_->programs;
}

asio::awaitable<DialResult> Dialer::dial(DialOrder order, std::function<bool()> wanted) const {
  return run(state_, std::move(order), std::move(wanted));
}

asio::awaitable<DialResult> Dialer::run(std::shared_ptr<State> state, DialOrder order,
                                        std::function<bool()> wanted) {
  if (state->under_way >= dials_max) co_return dial_failure(order.target, EAGAIN);
  const UnderWay counted(state);
  const auto end = steady_clock::now() + state->deadline;
  // Only a Unix socket has the kind of EAGAIN that passes while one waits.
  const bool may_wait =
      order.target.kind() == TargetKind::unix_socket || order.target.kind() == TargetKind::bench;
  asio::steady_timer pause(state->executor);
  for (;;) {
    auto dialled = co_await state->connect(order, end, wanted);
    if (dialled && order.proxy_protocol) {
      // It is the first that the new socket's empty buffer takes, so it goes whole or not at all.
      const auto header = encode_proxy_header(order.caller);
      const ssize_t sent =
          ::send(dialled->socket.get(), header.data(), header.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0) co_return dial_failure(order.target, errno);
      if (static_cast<std::size_t>(sent) != header.size()) {
        co_return dial_failure(order.target, ENOBUFS);
      }
    }
    const bool waits = !dialled && may_wait && dialled.error().error == EAGAIN;
    if (!waits || steady_clock::now() >= end) co_return dialled;
    pause.expires_after(dial_retry);
    co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
    if (!wanted()) co_return dialled;
  }
}

}  // namespace xenlane::bridge
