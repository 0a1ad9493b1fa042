// TCP services and clients of the tests' own, for forwards: what goes in on one side comes out on
// the other as TCP, and ends as TCP does.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/e2e/sockets.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::tests {

/// A port of 127.0.0.1 that nobody has now.
int free_port();

/// Listens on 127.0.0.1; each connection has a thread that runs the handler.
class TcpServer {
 public:
  explicit TcpServer(Service::Handler handler);
  TcpServer(const TcpServer&) = delete;
  TcpServer& operator=(const TcpServer&) = delete;
  ~TcpServer();

  int port() const { return port_; }
  std::string text() const { return std::to_string(port_); }

 private:
  void serve();

  Service::Handler handler_;
  transport::UniqueFd listener_;
  int port_ = 0;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

/// Connected to a port of 127.0.0.1; empty when nobody listens.
transport::UniqueFd connect_port(int port);
/// All of it, within a minute.
bool send_all(int socket, std::string_view bytes);
/// Until so many bytes have come, or the end, within a minute. What ended it, if that was an error,
/// is in `error`: an errno value, ETIME when the time was up.
std::string receive_bytes(int socket, std::size_t count, int& error);
/// Closes it so that the other end is reset.
void close_with_reset(transport::UniqueFd socket);

}  // namespace xenlane::tests
