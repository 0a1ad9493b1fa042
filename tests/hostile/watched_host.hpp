// What the hostile test sees of the host while a guest misbehaves: the log as the host wrote it,
// and the worker's process as the kernel shows it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace xenlane::hostile {

/// The lines of a file that grows, from where one last looked.
class LogTail {
 public:
  explicit LogTail(std::string path) : path_(std::move(path)) {}
  /// Forgets the lines so far, and begins with those that come.
  void restart();
  /// The whole lines since then.
  const std::vector<std::string>& lines();
  /// How many of them begin so, and contain `part` somewhere behind that.
  std::size_t count(std::string_view beginning, std::string_view part = {});
  /// All of them as one text, for messages.
  std::string text();

 private:
  std::string path_;
  std::size_t offset_ = 0;
  std::vector<std::string> lines_;
};

/// Whether a line of the log could do anything to a terminal or to who parses it.
bool is_plain(const std::string& line);

/// A process, by what /proc has of it.
class Watched {
 public:
  explicit Watched(pid_t pid) : pid_(pid) {}
  pid_t pid() const { return pid_; }
  bool lives() const;
  std::size_t descriptors() const;
  std::size_t threads() const;
  /// Processor time in clock ticks, user's and system's.
  std::uint64_t ticks() const;
  /// Resident memory now, and the most of it since forget_peak().
  std::uint64_t resident_bytes() const { return status_bytes("VmRSS:"); }
  std::uint64_t peak_bytes() const { return status_bytes("VmHWM:"); }
  void forget_peak() const;

 private:
  std::string file(const std::string& name) const;
  std::uint64_t status_bytes(const std::string& field) const;

  pid_t pid_;
};

}  // namespace xenlane::hostile
