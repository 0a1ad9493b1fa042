#include "bridge/channel/dial_tcp.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <cstring>

#include "transport/base/blocking.hpp"

namespace xenlane::bridge {

namespace asio = boost::asio;
using asio::ip::tcp;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using transport::UniqueFd;

namespace {

struct Lookup {
  int error = 0;  ///< of getaddrinfo()
  int system_error = 0;
  std::vector<tcp::endpoint> found;
};

/// What needs no looking up.
std::optional<tcp::endpoint> address_of(const std::string& host, std::uint16_t port) {
  boost::system::error_code error;
  const auto address = asio::ip::make_address(host, error);
  if (error) return std::nullopt;
  return tcp::endpoint(address, port);
}

/// Blocks.
Lookup look_up(const std::string& host, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* list = nullptr;
  Lookup lookup;
  lookup.error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  lookup.system_error = errno;
  if (lookup.error != 0) return lookup;
  for (const addrinfo* one = list; one != nullptr; one = one->ai_next) {
    if (lookup.found.size() == addresses_max) break;
    tcp::endpoint endpoint;
    if (one->ai_addrlen > endpoint.capacity()) continue;
    std::memcpy(endpoint.data(), one->ai_addr, one->ai_addrlen);
    endpoint.resize(one->ai_addrlen);
    lookup.found.push_back(endpoint);
  }
  ::freeaddrinfo(list);
  return lookup;
}

DialFailure failure_of(const Target& target, const Lookup& lookup) {
  if (lookup.error == EAI_SYSTEM) {
    return {lookup.system_error,
            fmt::format("{}: {}", target.uri(), std::strerror(lookup.system_error))};
  }
  const bool later = lookup.error == EAI_AGAIN;
  return {later ? ETIMEDOUT : EHOSTUNREACH,
          fmt::format("{}: {}", target.uri(), ::gai_strerror(lookup.error))};
}

/// A connection to one address, or an errno value.
asio::awaitable<boost::system::result<UniqueFd>> connect_tcp(asio::any_io_executor executor,
                                                             tcp::endpoint address,
                                                             steady_clock::time_point end) {
  const auto failed = [](int error) {
    return boost::system::error_code(error, boost::system::generic_category());
  };
  const int family = address.protocol().family();
  UniqueFd made(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
  if (!made) co_return failed(errno);
  const int on = 1;
  ::setsockopt(made.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(made.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  auto socket = std::make_shared<tcp::socket>(executor);
  socket->assign(address.protocol(), made.release());
  asio::steady_timer timer(executor, end);
  timer.async_wait([weak = std::weak_ptr(socket)](const auto& error) {
    if (const auto waiting = weak.lock(); waiting && !error) waiting->cancel();
  });
  auto [error] = co_await socket->async_connect(address, asio::as_tuple(asio::use_awaitable));
  if (error == asio::error::operation_aborted) co_return failed(ETIMEDOUT);
  if (error) co_return failed(error.value());
  UniqueFd connected(socket->release());
  // Asio's own non-blocking mode is no promise to others.
  ::fcntl(connected.get(), F_SETFL, O_NONBLOCK);
  co_return connected;
}

}  // namespace

std::vector<tcp::endpoint> in_turns(const std::vector<tcp::endpoint>& found) {
  if (found.empty()) return {};
  const auto first_family = found.front().protocol();
  std::vector<tcp::endpoint> first;
  std::vector<tcp::endpoint> second;
  for (const auto& address : found) {
    (address.protocol() == first_family ? first : second).push_back(address);
  }
  std::vector<tcp::endpoint> out;
  for (std::size_t i = 0; i < std::max(first.size(), second.size()); ++i) {
    if (i < first.size()) out.push_back(first[i]);
    if (i < second.size()) out.push_back(second[i]);
  }
  return out;
}

asio::awaitable<DialResult> dial_tcp(asio::any_io_executor executor, Target target,
                                     steady_clock::time_point end, std::function<bool()> wanted) {
  const auto time_left = [end] {
    return std::chrono::duration_cast<milliseconds>(end - steady_clock::now());
  };
  const std::function<Lookup()> work = [host = target.host(), port = target.port()] {
    return look_up(host, port);
  };
  std::optional<Lookup> lookup;
  if (const auto address = address_of(target.host(), target.port())) {
    lookup.emplace().found.push_back(*address);
  } else {
    lookup = co_await transport::run_blocking<Lookup>(work, time_left(),
                                                      transport::BlockingCall::lookup);
  }
  if (!lookup) {
    co_return DialFailure{ETIMEDOUT,
                          fmt::format("{}: its name was not found in time", target.uri())};
  }
  if (lookup->error != 0) co_return failure_of(target, *lookup);
  const auto addresses = in_turns(lookup->found);
  int error = EHOSTUNREACH;
  for (std::size_t i = 0; i < addresses.size() && wanted(); ++i) {
    const auto share = time_left() / static_cast<int>(addresses.size() - i);
    auto socket = co_await connect_tcp(executor, addresses[i], steady_clock::now() + share);
    if (socket) co_return Dialled{std::move(*socket), nullptr};
    error = socket.error().value();
  }
  co_return DialFailure{error, fmt::format("{}: {}", target.uri(), std::strerror(error))};
}

}  // namespace xenlane::bridge
