// A file that is being received. Under its own name it is whole or not there: a small one has no
// name until then, a large one is kept beside it under partial_name(), where another run finds it.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>

#include "bridge/files/message.hpp"
#include "bridge/files/tree.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge::files {

/// From this size on a file that was interrupted is worth keeping.
inline constexpr std::uint64_t kept_bytes_min = 256 * 1024;

/// What tells that a file is still the one that was looked at, with the same content.
struct FileState {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size = 0;
  std::int64_t changed_s = 0;
  std::int64_t changed_ns = 0;

  friend bool operator==(const FileState&, const FileState&) = default;
};
FileState state_of(const struct stat& status);

/// What there is of a file already: what another run has left of it, or one that looks the same.
struct Basis {
  std::uint64_t bytes = 0;
  Hasher hasher;  ///< that has seen them
  FileState state;
};

/// Of the first `bytes_max` bytes at most of folder/name, if that is a file of our own user.
std::optional<Basis> basis_of(int folder, const std::string& name, std::uint64_t bytes_max,
                              DigestKind kind);

class Incoming {
 public:
  /// To be `folder`/`name` in the end. -1 as folder: standard output, which has neither name nor
  /// attributes. The bytes of `basis`, if there is one, stay in the partial file. errno: EBUSY
  /// while another transfer writes the same, ESTALE if one has written to it since.
  static boost::system::result<Incoming> begin(int folder, const std::string& name, bool keep,
                                               const Basis* basis);
  Incoming(Incoming&&) noexcept = default;
  Incoming& operator=(Incoming&&) noexcept = default;
  ~Incoming() = default;

  /// Each 0 or an errno value.
  int write(BytesView bytes);
  int skip(std::uint64_t length);
  /// Whether what is on the disk has this digest; EIO if not.
  int verify(DigestKind kind, const Digest& digest);
  /// Gives it its name. Another file or link of that name is replaced, a folder is not.
  int place(int folder, const Attributes& attributes);
  /// Takes away what is kept of it.
  void discard(int folder);

  std::uint64_t size() const { return size_; }
  std::uint64_t device() const { return device_; }
  std::uint64_t inode() const { return inode_; }

 private:
  Incoming() = default;
  int open_partial(int folder, const Basis* basis);
  int open_fresh(int folder);
  int learn();

  transport::UniqueFd fd_;
  std::string name_;
  bool has_name_ = false;  ///< there is a partial file
  bool is_stdout_ = false;
  std::uint64_t size_ = 0;
  bool ends_in_hole_ = false;
  std::uint64_t device_ = 0;
  std::uint64_t inode_ = 0;
};

}  // namespace xenlane::bridge::files
