#include "tests/bridge/cli/fake_daemon.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

namespace xenlane::bridge {
namespace {

ListenerSocket must_listen(const std::string& path, mode_t mode) {
  auto listener = listen_unix(path, mode, static_cast<uid_t>(-1), static_cast<gid_t>(-1), 64);
  return std::move(listener).value();
}

}  // namespace

FakeControl::FakeControl(const std::string& path, boost::json::object status,
                         ControlServer::Options options)
    : status_(std::move(status)) {
  server_ = std::make_unique<ControlServer>(
      io_.get_executor(), std::move(must_listen(path, 0600).fd),
      [this](const boost::json::object& request) {
        if (json_text(request, "op") != "status") {
          return control_error("unknown-op", "the only op is status");
        }
        const std::lock_guard lock(mutex_);
        return status_;
      },
      options);
  thread_ = std::thread([this] { io_.run(); });
}

FakeControl::~FakeControl() {
  io_.stop();
  thread_.join();
  server_.reset();
}

void FakeControl::set(boost::json::object status) {
  const std::lock_guard lock(mutex_);
  status_ = std::move(status);
}

void FakeControl::change(const std::function<void(boost::json::object&)>& edit) {
  const std::lock_guard lock(mutex_);
  edit(status_);
}

FakeSocket::FakeSocket(const std::string& path, std::function<void(int)> serve, mode_t mode)
    : listener_(must_listen(path, mode)) {
  thread_ = std::thread([this, serve = std::move(serve)] {
    pollfd waiting = {listener_.fd.get(), POLLIN, 0};
    if (::poll(&waiting, 1, -1) < 0) return;
    const transport::UniqueFd connection(
        ::accept4(listener_.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (connection) serve(connection.get());
  });
}

FakeSocket::~FakeSocket() {
  // Wakes a poll() that nobody has connected to.
  ::shutdown(listener_.fd.get(), SHUT_RDWR);
  thread_.join();
}

std::string read_all(int fd) {
  std::string all;
  std::array<char, 65536> chunk;
  for (;;) {
    const ssize_t got = ::read(fd, chunk.data(), chunk.size());
    if (got <= 0) return all;
    all.append(chunk.data(), static_cast<std::size_t>(got));
  }
}

bool write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

boost::json::object channel_entry(const std::string& name, const std::string& socket) {
  return {{"name", name},
          {"end", "listen"},
          {"socket", socket},
          {"target", nullptr},
          {"state", "ready"},
          {"error", nullptr},
          {"open", 0},
          {"opened", 0},
          {"refused", 0},
          {"bytes_in", 0},
          {"last_refusal", nullptr},
          {"bad_endings", boost::json::array{}},
          {"bytes_out", 0}};
}

boost::json::object bridge_status(const std::string& role, const std::string& guest,
                                  boost::json::array channels) {
  return {
      {"role", role},
      {"pid", 42},
      {"guest", guest},
      {"domid", 1},
      {"version", "0.1.0"},
      {"uptime_s", 3700},
      {"session", {{"state", "up"}, {"id", "00ff"}, {"epoch", 3}, {"since_s", 59}, {"reason", ""}}},
      {"lane", {{"kind", "vchan"}, {"send_ring_bytes", 1048576}, {"receive_ring_bytes", 262144}}},
      {"channels", std::move(channels)},
      {"streams", {{"open", 2}, {"max", 1024}}},
      {"counters", {{"frames_sent", 17}}}};
}

}  // namespace xenlane::bridge
