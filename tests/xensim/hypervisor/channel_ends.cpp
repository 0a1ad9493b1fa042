#include "tests/xensim/hypervisor/channel_ends.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>

#include <array>
#include <boost/json.hpp>
#include <cerrno>
#include <cstring>

namespace xensim_test {
namespace {

/// So that a test fails rather than hangs.
constexpr int patience_ms = 20'000;

bool wait_for(int fd, short events) {
  pollfd end{fd, events, 0};
  return ::poll(&end, 1, patience_ms) == 1;
}

/// While the broker resets the tty after its last closer, it cannot be opened.
int open_tty(const std::string& path) {
  int fd = -1;
  eventually([&] {
    fd = ::open(path.c_str(), O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    return fd >= 0 || errno != EIO;
  });
  return fd;
}

}  // namespace

std::string ChannelEnd::read_now() {
  std::string all;
  std::array<char, 65536> bytes;
  for (ssize_t got = 0; (got = ::read(fd(), bytes.data(), bytes.size())) > 0;) {
    all.append(bytes.data(), static_cast<std::size_t>(got));
  }
  return all;
}

std::string ChannelEnd::read(std::size_t bytes) {
  std::string all(bytes, '\0');
  std::size_t have = 0;
  while (have < bytes && wait_for(fd(), POLLIN)) {
    const ssize_t got = ::read(fd(), all.data() + have, bytes - have);
    if (got <= 0) break;
    have += static_cast<std::size_t>(got);
  }
  all.resize(have);
  return all;
}

std::size_t ChannelEnd::write_now(std::string_view bytes) {
  const ssize_t written = ::write(fd(), bytes.data(), bytes.size());
  return written > 0 ? static_cast<std::size_t>(written) : 0;
}

void ChannelEnd::write(std::string_view bytes) {
  while (!bytes.empty() && wait_for(fd(), POLLOUT)) bytes.remove_prefix(write_now(bytes));
  EXPECT_TRUE(bytes.empty());
}

bool ChannelEnd::has_ended() {
  if (!wait_for(fd(), POLLIN)) return false;
  char byte = 0;
  const ssize_t got = ::read(fd(), &byte, 1);
  return got == 0 || (got < 0 && errno != EAGAIN);
}

HostEnd::HostEnd(const Simulator& sim, const std::string& guest, const std::string& channel)
    : ChannelEnd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
  const std::string path = sim.dir() + "/channel/" + guest + "/" + channel;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  is_connected_ = ::connect(fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

GuestEnd::GuestEnd(const Simulator& sim, std::uint32_t domid, int hvc)
    : ChannelEnd(open_tty(sim.dir() + "/dom/" + std::to_string(domid) + "/dev/hvc" +
                          std::to_string(hvc))) {
  EXPECT_GE(fd(), 0) << std::strerror(errno);
}

void GuestEnd::make_raw() const {
  termios settings{};
  EXPECT_EQ(::tcgetattr(fd(), &settings), 0);
  ::cfmakeraw(&settings);
  EXPECT_EQ(::tcsetattr(fd(), TCSANOW, &settings), 0);
}

bool GuestEnd::echoes() const {
  termios settings{};
  return ::tcgetattr(fd(), &settings) == 0 && (settings.c_lflag & (ECHO | ICANON)) != 0;
}

Listed listed_channel(const Simulator& sim, std::size_t index) {
  const boost::json::value domains = boost::json::parse(sim.xensim("list --json").output);
  for (const boost::json::value& domain : domains.as_array()) {
    if (boost::json::value_to<int>(domain.at("domid")) != 1) continue;
    const boost::json::object& channel = domain.at("channels").as_array().at(index).as_object();
    const auto text = [&](const char* key) { return std::string(channel.at(key).as_string()); };
    const auto number = [&](const char* key) {
      return boost::json::value_to<std::uint64_t>(channel.at(key));
    };
    return {text("name"),
            text("device"),
            text("path"),
            channel.at("client").as_bool(),
            channel.at("guest_open").as_bool(),
            number("bytes_to_guest"),
            number("bytes_to_host"),
            number("backlog"),
            number("dropped")};
  }
  return {};
}

}  // namespace xensim_test
