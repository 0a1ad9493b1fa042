// For test programs that define a function of the C library's in front of it: the library's own.
#pragma once

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>

namespace xenlane::tests {

/// The definition of `name` that comes after this program's. Aborts when there is none.
template <typename Call>
Call real_call(const char* name) {
  void* found = ::dlsym(RTLD_NEXT, name);
  if (found == nullptr) std::abort();
  Call call = nullptr;
  std::memcpy(&call, &found, sizeof call);
  return call;
}

}  // namespace xenlane::tests
