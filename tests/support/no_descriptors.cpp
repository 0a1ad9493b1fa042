#include "tests/support/no_descriptors.hpp"

#include <dlfcn.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace {

std::atomic<bool> none_left{false};

template <typename Call>
Call real(const char* name) {
  void* found = ::dlsym(RTLD_NEXT, name);
  if (found == nullptr) std::abort();
  Call call = nullptr;
  std::memcpy(&call, &found, sizeof call);
  return call;
}

}  // namespace

#pragma GCC visibility push(default)

extern "C" {

int accept(int socket, sockaddr* address, socklen_t* size) {
  static const auto call = real<int (*)(int, sockaddr*, socklen_t*)>("accept");
  if (!none_left) return call(socket, address, size);
  errno = EMFILE;
  return -1;
}

int accept4(int socket, sockaddr* address, socklen_t* size, int flags) {
  static const auto call = real<int (*)(int, sockaddr*, socklen_t*, int)>("accept4");
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
