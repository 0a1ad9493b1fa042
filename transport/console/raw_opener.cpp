#include "transport/console/raw_opener.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>

#include <algorithm>
#include <cerrno>

namespace xenlane::transport {

namespace {

boost::system::error_code error_of(int number) {
  return {number, boost::system::system_category()};
}

}  // namespace

boost::system::result<UniqueFd> open_raw_tty(const std::string& path) {
  UniqueFd tty(::open(path.c_str(), O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
  if (!tty) return error_of(errno);
  termios settings{};
  if (::tcgetattr(tty.get(), &settings) != 0) return error_of(errno);
  ::cfmakeraw(&settings);
  settings.c_cflag |= CLOCAL;  // a console has no modem lines
  if (::tcsetattr(tty.get(), TCSANOW, &settings) != 0) return error_of(errno);
  if (::ioctl(tty.get(), TIOCEXCL) != 0) return error_of(errno);
  return tty;
}

boost::system::result<UniqueFd> connect_raw_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return error_of(ENAMETOOLONG);
  std::copy(path.begin(), path.end(), address.sun_path);
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return error_of(errno);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return error_of(errno);
  }
  return socket;
}

}  // namespace xenlane::transport
