// A process that has run out of file descriptors, for as long as the object lives: accept and
// accept4 say so. They are defined in no_descriptors.cpp in front of the C library's; to lower the
// limit itself would also take the descriptors with which sanitizers look at memory.
#pragma once

namespace xenlane::tests {

class NoDescriptors {
 public:
  NoDescriptors();
  ~NoDescriptors();
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;
};

}  // namespace xenlane::tests
