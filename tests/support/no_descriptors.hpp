// A process that has run out of file descriptors, for as long as the object lives.
#pragma once

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

namespace xenlane::tests {

class NoDescriptors {
 public:
  NoDescriptors() {
    const int lowest_free = ::dup(STDIN_FILENO);
    EXPECT_GE(lowest_free, 0);
    ::close(lowest_free);
    EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &usual_), 0);
    const rlimit none_left{static_cast<rlim_t>(lowest_free), usual_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &none_left), 0);
  }
  ~NoDescriptors() { ::setrlimit(RLIMIT_NOFILE, &usual_); }
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;

 private:
  rlimit usual_{};
};

}  // namespace xenlane::tests
