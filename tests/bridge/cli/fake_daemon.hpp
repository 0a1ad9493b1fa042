// A daemon for the tool to talk to: a real control server whose status the test decides, and named
// sockets each served by a function of the test. Everything ends with the object.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/json.hpp>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "bridge/channel/listener.hpp"
#include "bridge/control/server.hpp"

namespace xenlane::bridge {

/// Serves {"op":"status"} on `path` with whatever set() was given last.
class FakeControl {
 public:
  FakeControl(const std::string& path, boost::json::object status,
              ControlServer::Options options = {});
  FakeControl(const FakeControl&) = delete;
  FakeControl& operator=(const FakeControl&) = delete;
  ~FakeControl();

  void set(boost::json::object status);
  /// Changes the status in place, between two requests.
  void change(const std::function<void(boost::json::object&)>& edit);

 private:
  std::mutex mutex_;
  boost::json::object status_;
  boost::asio::io_context io_;
  std::unique_ptr<ControlServer> server_;
  std::thread thread_;
};

/// A named socket: accepts one connection and serves it in a thread.
class FakeSocket {
 public:
  /// `serve` gets the blocking connection, which is closed when it returns.
  FakeSocket(const std::string& path, std::function<void(int)> serve, mode_t mode = 0600);
  FakeSocket(const FakeSocket&) = delete;
  FakeSocket& operator=(const FakeSocket&) = delete;
  ~FakeSocket();

 private:
  ListenerSocket listener_;
  std::thread thread_;
};

/// Everything that comes until EOF.
std::string read_all(int fd);
/// Writes all of it; false when the reader is gone.
bool write_all(int fd, std::string_view bytes);

/// A channel entry of a status, ready and never used.
boost::json::object channel_entry(const std::string& name, const std::string& socket);
/// The status of a guest's bridge with these channels.
boost::json::object bridge_status(const std::string& role, const std::string& guest,
                                  boost::json::array channels);

}  // namespace xenlane::bridge
