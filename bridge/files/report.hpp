// What a transfer tells the program that runs it.
#pragma once

#include <cstdint>
#include <string>

#include "bridge/files/message.hpp"

namespace xenlane::bridge::files {

/// So far. Bytes are those of the files' content.
struct Counts {
  std::uint64_t entries = 0;  ///< found
  std::uint64_t bytes = 0;    ///< in the files among them
  bool all_found = false;     ///< there will be no more
  std::uint64_t copied = 0;   ///< files, folders and links that the receiver has confirmed
  std::uint64_t same = 0;     ///< files and links that were there already
  std::uint64_t failed = 0;
  std::uint64_t bytes_sent = 0;    ///< over the channel
  std::uint64_t bytes_reused = 0;  ///< of files that another run has left in part, and holes
  std::uint64_t bytes_same = 0;    ///< of files that were there already
};

class Report {
 public:
  virtual ~Report() = default;
  /// Something was not copied. `path` and `text` may be the peer's words.
  virtual void trouble(Trouble trouble, int error, const std::string& path,
                       const std::string& text) = 0;
  /// A file, folder or link is being copied, or in a dry run would be.
  virtual void copying(const std::string& path) = 0;
  /// Called often.
  virtual void progress(const Counts& counts) = 0;
};

}  // namespace xenlane::bridge::files
