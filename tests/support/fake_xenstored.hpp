// A xenstored of the test's own making, to say what a real one seldom does.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstdint>
#include <functional>
#include <string>
#include <thread>

#include "transport/base/unique_fd.hpp"

namespace xenlane::transport {

// Types of xen/io/xs_wire.h.
inline constexpr std::uint32_t xs_read = 2;
inline constexpr std::uint32_t xs_watch = 4;
inline constexpr std::uint32_t xs_transaction_start = 6;
inline constexpr std::uint32_t xs_transaction_end = 7;
inline constexpr std::uint32_t xs_watch_event = 15;
inline constexpr std::uint32_t xs_error = 16;

/// A xenstored that says whatever the test wants: answers each request by `answer`.
class FakeXenstored {
 public:
  struct Header {
    std::uint32_t type, request, transaction, size;
  };
  /// The bytes to send back; closes the connection when there are none.
  using Answer = std::function<std::string(const Header&, const std::string&)>;

  FakeXenstored(const std::string& path, Answer answer) : answer_(std::move(answer)) {
    listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_.get(), 5), 0);
    thread_ = std::thread([this] { serve(); });
  }
  ~FakeXenstored() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }
  static std::string message(std::uint32_t type, std::uint32_t request, const std::string& body,
                             std::uint32_t claimed_size) {
    const Header header{type, request, 0, claimed_size};
    return std::string(reinterpret_cast<const char*>(&header), sizeof header) + body;
  }
  static std::string message(std::uint32_t type, std::uint32_t request, const std::string& body) {
    return message(type, request, body, static_cast<std::uint32_t>(body.size()));
  }

 private:
  void serve() {
    for (;;) {
      const UniqueFd client(::accept(listener_.get(), nullptr, nullptr));
      if (!client) return;
      Header header{};
      while (::recv(client.get(), &header, sizeof header, MSG_WAITALL) == sizeof header) {
        std::string body(header.size, '\0');
        ::recv(client.get(), body.data(), body.size(), MSG_WAITALL);
        const std::string reply = answer_(header, body);
        if (reply.empty()) break;
        ::send(client.get(), reply.data(), reply.size(), MSG_NOSIGNAL);
      }
    }
  }
  Answer answer_;
  UniqueFd listener_;
  std::thread thread_;
};

}  // namespace xenlane::transport
