// The folders that a receiver puts things into. Each is entered by its name from the folder above,
// without following a link, and must be the one that it was when it was first entered: whoever
// swaps folders for links meanwhile gets an error and nothing outside.
#pragma once

#include <cstdint>
#include <list>
#include <string>
#include <unordered_map>
#include <vector>

#include "bridge/files/message.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge::files {

/// Folders of one transfer; about 200 bytes each.
inline constexpr std::size_t folders_max = 1'000'000;
/// Of these, open at a time.
inline constexpr std::size_t open_folders_max = 128;

/// What is set on a file or folder when it is whole.
struct Attributes {
  std::uint16_t mode = 0;
  std::int64_t mtime_s = 0;
  std::uint32_t mtime_ns = 0;
  bool owner = false;  ///< set uid and gid too
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<Xattr> xattrs;
};

/// Of an entry; xattrs that are no user's are left out.
Attributes attributes_of(const Entry& entry, bool xattrs, bool owner);

/// By descriptor; 0 or an errno value.
int set_attributes(int fd, const Attributes& attributes);
int set_xattrs(int fd, const std::vector<Xattr>& xattrs);

class Tree {
 public:
  /// Below this open folder. Without one (a dry run into a folder that is not there) nothing is.
  explicit Tree(transport::UniqueFd root);

  /// Makes the folder, or enters the one that is there. 0 or an errno value; with an error the
  /// folder is known and failed. With `dry` none is made: a missing one is empty.
  int add(std::uint32_t id, std::uint32_t parent, const std::string& name, Attributes attributes,
          bool dry);

  /// A folder that was not let in: nor is what is in it.
  void add_failed(std::uint32_t id, int error);

  bool knows(std::uint32_t id) const { return id == 0 || folders_.contains(id); }
  bool failed(std::uint32_t id) const { return id != 0 && folders_.at(id).error != 0; }
  /// Nothing was in it when it was entered.
  bool is_new(std::uint32_t id) const { return id != 0 && folders_.at(id).is_new; }
  /// Folders between it and the root, itself included.
  std::size_t depth(std::uint32_t id) const { return id == 0 ? 0 : folders_.at(id).depth; }
  std::size_t size() const { return folders_.size(); }
  /// From the root on, for messages.
  std::string path(std::uint32_t id) const;

  /// The open folder, valid until the next call; -1 with errno set, ESTALE if it is another now.
  int fd(std::uint32_t id);

  /// Sets the attributes of all folders, inner ones first; each one's id and 0 or an errno value.
  template <typename Told>
  void finish(Told told) {
    for (auto id = ids_.rbegin(); id != ids_.rend(); ++id) {
      const Folder& folder = folders_.at(*id);
      if (folder.error == 0) told(*id, finish(*id, folder));
    }
  }

 private:
  struct Folder {
    std::uint32_t parent = 0;
    std::size_t depth = 0;
    std::string name;
    Attributes attributes;  ///< its xattrs are set at once: they may be many and long
    int xattrs_error = 0;
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    bool is_new = false;
    int error = 0;
  };
  struct Open {
    std::uint32_t id;
    transport::UniqueFd fd;
  };

  int make(std::uint32_t id, Folder& folder, bool dry);
  int finish(std::uint32_t id, const Folder& folder);
  int keep(std::uint32_t id, transport::UniqueFd fd);

  transport::UniqueFd root_;
  std::unordered_map<std::uint32_t, Folder> folders_;
  std::vector<std::uint32_t> ids_;
  std::list<Open> open_;  ///< used last first
  std::unordered_map<std::uint32_t, std::list<Open>::iterator> open_by_id_;
};

}  // namespace xenlane::bridge::files
