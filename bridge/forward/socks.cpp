#include "bridge/forward/socks.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <cerrno>
#include <utility>

namespace xenlane::bridge {

namespace {

using State = SocksHandshake::State;

// RFC 1928, sections 3 to 6.
constexpr char connect_command = 1;
constexpr char address_ipv4 = 1;
constexpr char address_name = 3;
constexpr char address_ipv6 = 4;
constexpr char no_acceptable_method = '\xff';

// SOCKS 4, replies.
constexpr char four_granted = 90;
constexpr char four_rejected = 91;

std::size_t byte_at(std::string_view bytes, std::size_t at) {
  return static_cast<unsigned char>(bytes[at]);
}

std::uint16_t port_at(std::string_view bytes, std::size_t at) {
  return static_cast<std::uint16_t>(byte_at(bytes, at) << 8 | byte_at(bytes, at + 1));
}

std::string ipv4_text(std::string_view bytes) {
  return fmt::format("{}.{}.{}.{}", byte_at(bytes, 0), byte_at(bytes, 1), byte_at(bytes, 2),
                     byte_at(bytes, 3));
}

char five_reply(int error) {
  switch (error) {
    case 0:
      return 0;
    case EACCES:
    case EPERM:
      return 2;  // not allowed by ruleset
    case ENETUNREACH:
      return 3;
    case EHOSTUNREACH:
      return 4;
    case ECONNREFUSED:
      return 5;
    case ETIMEDOUT:
      return 6;  // TTL expired, the nearest there is
    default:
      return 1;
  }
}

std::string five(char code) {
  // The address that it is bound to is the far side's business: 0.0.0.0:0.
  return {5, code, 0, address_ipv4, 0, 0, 0, 0, 0, 0};
}

std::string four(char code) {
  return {0, code, 0, 0, 0, 0, 0, 0};
}

}  // namespace

State SocksHandshake::fail(std::string why, std::string output) {
  failure_ = std::move(why);
  output_ += output;
  return state_ = State::failed;
}

State SocksHandshake::want(std::string_view host, std::uint16_t port, std::size_t consumed) {
  auto address = ForwardAddress::tcp(host, port);
  if (!address) return fail(address.error().text, reply(EINVAL));
  address_ = std::move(*address);
  bytes_.erase(0, consumed);
  return state_ = State::wanted;
}

State SocksHandshake::read_greeting() {
  if (bytes_.size() < 2) return State::reading;
  const std::size_t methods = byte_at(bytes_, 1);
  if (bytes_.size() < 2 + methods) return State::reading;
  const bool offers_none =
      std::string_view(bytes_).substr(2, methods).find('\0') != std::string_view::npos;
  if (!offers_none) return fail("it wants to log in", {5, no_acceptable_method});
  output_ += std::string{5, 0};
  bytes_.erase(0, 2 + methods);
  greeted_ = true;
  return read_request();
}

State SocksHandshake::read_request() {
  constexpr std::size_t head_bytes = 4;
  if (bytes_.size() < head_bytes + 1) return State::reading;
  if (bytes_[0] != 5) return fail("not SOCKS 5", five(1));
  if (bytes_[1] != connect_command) return fail("it wants something else than CONNECT", five(7));
  std::size_t begin = head_bytes;
  std::size_t size = 0;
  if (bytes_[3] == address_ipv4) {
    size = 4;
  } else if (bytes_[3] == address_ipv6) {
    size = 16;
  } else if (bytes_[3] == address_name) {
    size = byte_at(bytes_, begin++);
  } else {
    return fail("an unknown kind of address", five(8));
  }
  if (bytes_.size() < begin + size + 2) return State::reading;
  const std::string_view address = std::string_view(bytes_).substr(begin, size);
  const std::uint16_t port = port_at(bytes_, begin + size);
  const std::size_t end = begin + size + 2;
  if (bytes_[3] == address_ipv4) return want(ipv4_text(address), port, end);
  if (bytes_[3] == address_name) return want(std::string(address), port, end);
  char shown[INET6_ADDRSTRLEN] = {};
  return want(::inet_ntop(AF_INET6, address.data(), shown, sizeof shown), port, end);
}

State SocksHandshake::read_four() {
  constexpr std::size_t head_bytes = 8;
  if (bytes_.size() < head_bytes) return State::reading;
  const std::size_t user_end = bytes_.find('\0', head_bytes);
  if (user_end == std::string::npos) return State::reading;
  const std::string_view address = std::string_view(bytes_).substr(4, 4);
  const std::uint16_t port = port_at(bytes_, 2);
  // 4a: 0.0.0.x with x other than 0 means that a name follows.
  const bool has_name = address.substr(0, 3) == std::string_view("\0\0\0", 3) && address[3] != 0;
  std::size_t end = user_end + 1;
  std::string host = ipv4_text(address);
  if (has_name) {
    const std::size_t name_end = bytes_.find('\0', end);
    if (name_end == std::string::npos) return State::reading;
    host = bytes_.substr(end, name_end - end);
    end = name_end + 1;
  }
  if (bytes_[1] != connect_command) {
    return fail("it wants something else than CONNECT", four(four_rejected));
  }
  return want(host, port, end);
}

State SocksHandshake::add(std::string_view untrusted_bytes) {
  bytes_ += untrusted_bytes;
  if (state_ != State::reading || bytes_.empty()) return state_;
  if (version_ == 0) version_ = bytes_[0];
  State state = State::reading;
  if (version_ == 4) {
    state = read_four();
  } else if (version_ == 5) {
    state = greeted_ ? read_request() : read_greeting();
  } else {
    return fail("neither SOCKS 5 nor SOCKS 4");
  }
  if (state == State::reading && bytes_.size() > socks_bytes_max) {
    return fail("its request is too long");
  }
  return state;
}

std::string SocksHandshake::take_output() {
  return std::exchange(output_, {});
}

std::string SocksHandshake::reply(int error) const {
  if (version_ == 4) return four(error == 0 ? four_granted : four_rejected);
  return five(five_reply(error));
}

std::string SocksHandshake::take_rest() {
  return std::exchange(bytes_, {});
}

}  // namespace xenlane::bridge
