#include "tests/support/no_descriptors.hpp"

#include <sys/socket.h>

#include <atomic>
#include <cerrno>

#include "tests/support/real_call.hpp"

namespace {

using xenlane::tests::real_call;

std::atomic<bool> none_left{false};

}  // namespace

#pragma GCC visibility push(default)

extern "C" {

int accept(int socket, sockaddr* address, socklen_t* size) {
  static const auto call = real_call<int (*)(int, sockaddr*, socklen_t*)>("accept");
  if (!none_left) return call(socket, address, size);
  errno = EMFILE;
  return -1;
}

int accept4(int socket, sockaddr* address, socklen_t* size, int flags) {
  static const auto call = real_call<int (*)(int, sockaddr*, socklen_t*, int)>("accept4");
  if (!none_left) return call(socket, address, size, flags);
  errno = EMFILE;
  return -1;
}

}  // extern "C"

#pragma GCC visibility pop

namespace xenlane::tests {

NoDescriptors::NoDescriptors() {
  none_left = true;
}

NoDescriptors::~NoDescriptors() {
  none_left = false;
}

}  // namespace xenlane::tests
