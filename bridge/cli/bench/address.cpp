#include "bridge/cli/bench/address.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>
#include <system_error>

#include "bridge/bench/service.hpp"
#include "bridge/channel/target.hpp"
#include "bridge/cli/bench/measure.hpp"

namespace xenlane::bridge::cli {
namespace {

using transport::UniqueFd;

constexpr std::string_view unix_scheme = "unix:";
constexpr std::string_view tcp_scheme = "tcp:";
constexpr int backlog = 16;

std::string words_of(const BenchAddress& address) {
  if (!address.path.empty()) return std::string(unix_scheme) + escape_untrusted(address.path);
  return fmt::format("{}{}:{}", tcp_scheme, escape_untrusted(address.host),
                     escape_untrusted(address.port));
}

[[noreturn]] void fail_at(const BenchAddress& address, int error) {
  throw BenchFailure(
      fmt::format("{}: {}", words_of(address), std::generic_category().message(error)));
}

/// Connects or binds, whichever `use` does; its errno value otherwise.
template <typename Use>
UniqueFd open_unix(const BenchAddress& address, Use use) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, address.path.c_str(), address.path.size() + 1);
  if (!socket || use(socket.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0) {
    fail_at(address, errno);
  }
  return socket;
}

/// The first of the host's addresses that can be used.
template <typename Use>
UniqueFd open_tcp(const BenchAddress& address, int flags, Use use) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(address.host.c_str(), address.port.c_str(), &hints, &found);
  if (error != 0) {
    throw BenchFailure(fmt::format("{}: {}", words_of(address), ::gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> all(found, ::freeaddrinfo);
  int last_error = 0;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    UniqueFd socket(::socket(one->ai_family, one->ai_socktype | SOCK_CLOEXEC, one->ai_protocol));
    const int on = 1;
    ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (socket && use(socket.get(), one->ai_addr, one->ai_addrlen) == 0) return socket;
    last_error = errno;
  }
  fail_at(address, last_error);
}

volatile std::sig_atomic_t caught_signal = 0;

/// Those that end the program are blocked, so that they come only where they are waited for.
class Signals {
 public:
  Signals() {
    struct sigaction action {};
    action.sa_handler = [](int number) { caught_signal = number; };
    sigset_t ending;
    sigemptyset(&ending);
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
      sigaddset(&ending, number);
      ::sigaction(number, &action, nullptr);
    }
    ::sigprocmask(SIG_BLOCK, &ending, &before_);
  }
  const sigset_t* before() const { return &before_; }
  /// For a child, which they end as usual.
  void restore() const {
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::signal(number, SIG_DFL);
    ::sigprocmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t before_{};
};

}  // namespace

boost::system::result<BenchAddress, ParseError> parse_bench_address(std::string_view text) {
  BenchAddress out;
  if (text.starts_with(unix_scheme)) {
    const auto target = Target::parse(text);
    if (!target) return target.error();
    out.path = target->path();
    return out;
  }
  const std::string_view rest = text.starts_with(tcp_scheme) ? text.substr(4) : "";
  const std::size_t colon = rest.rfind(':');
  std::string_view host = rest.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (colon == rest.npos || host.empty() || colon + 1 == rest.size()) {
    return ParseError{fmt::format("'{}' is no address; write unix:/PATH or tcp:HOST:PORT",
                                  escape_untrusted(text, 60))};
  }
  out.host = host;
  out.port = rest.substr(colon + 1);
  return out;
}

UniqueFd connect_to(const BenchAddress& address) {
  return address.path.empty() ? open_tcp(address, 0, ::connect) : open_unix(address, ::connect);
}

UniqueFd listen_at(const BenchAddress& address) {
  UniqueFd socket =
      address.path.empty() ? open_tcp(address, AI_PASSIVE, ::bind) : open_unix(address, ::bind);
  if (::listen(socket.get(), backlog) != 0) fail_at(address, errno);
  ::fcntl(socket.get(), F_SETFL, O_NONBLOCK);
  return socket;
}

int serve_until_signal(const UniqueFd& listener) {
  ::signal(SIGCHLD, SIG_IGN);  // nobody waits for them
  const Signals signals;
  for (;;) {
    pollfd waiting{listener.get(), POLLIN, 0};
    if (::ppoll(&waiting, 1, nullptr, signals.before()) < 0 && caught_signal != 0) {
      return caught_signal;
    }
    const UniqueFd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket) {
      if (errno == EINTR || errno == EAGAIN || errno == ECONNABORTED) continue;
      throw BenchFailure(fmt::format("accept: {}", std::generic_category().message(errno)));
    }
    const pid_t child = ::fork();
    if (child < 0) {
      throw BenchFailure(fmt::format("fork: {}", std::generic_category().message(errno)));
    }
    if (child > 0) continue;
    signals.restore();
    ::_exit(serve_bench(socket.get(), "{}"));
  }
}

}  // namespace xenlane::bridge::cli
