// What a sender reads: the files and folders that its user has named, and what is in them, one
// after another. Nothing is followed that the user has not named: below a source every folder and
// file is opened without following links, from the folder that it was found in.
#pragma once

#include <dirent.h>
#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bridge/files/message.hpp"
#include "bridge/files/names.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge::files {

/// Folders below a source; deeper ones are left out and said to be.
inline constexpr std::size_t source_depth_max = 255;
/// Files with several links that are remembered, to send each content once.
inline constexpr std::size_t linked_files_max = 1'000'000;

/// A folder that is open for as long as somebody wants to read a file in it.
class SourceFolder {
 public:
  /// Takes the descriptor of an open folder. `count` is how many of these there are.
  SourceFolder(transport::UniqueFd fd, std::string path, std::shared_ptr<std::size_t> count);
  SourceFolder(const SourceFolder&) = delete;
  SourceFolder& operator=(const SourceFolder&) = delete;
  ~SourceFolder();

  int fd() const { return fd_; }
  const std::string& path() const { return path_; }
  /// To read its names with; empty with errno set if that fails.
  DIR* names();

 private:
  int fd_;
  DIR* names_ = nullptr;
  std::string path_;
  std::shared_ptr<std::size_t> count_;
};

/// What the user has named.
struct Source {
  transport::UniqueFd folder;  ///< that `name` is in; with `contents` the folder itself
  std::string name;            ///< empty: standard input
  std::string shown;           ///< as it was written
  bool contents = false;       ///< what is in the folder, without the folder
};

/// Opens what is needed to read `path`, as rsync understands it: "a/b" is b itself, a link too;
/// "a/b/" and "a/." are what is in it. "-" is standard input. An errno value if there is no such.
boost::system::result<Source> open_source(const std::string& path);
/// The same below a folder, for a path that somebody else has said: no link is followed at all.
boost::system::result<Source> open_source_beneath(int folder, const ServicePath& path);

/// Whether it is, or stands for, anything but one file or link.
bool is_folder(const Source& source);

/// An entry, and how to open what it is about.
struct Found {
  Entry entry;
  std::string path;  ///< from what the user has written on
  std::shared_ptr<SourceFolder> folder;
  std::string name;  ///< within the folder; empty: standard input
};

/// Whether a file is still what it was when it was announced, by size and time. Not by the time of
/// its last change of status: a further link to it is none of its content.
bool is_unchanged(const struct stat& status, const Entry& entry);

class Walk {
 public:
  using OnTrouble = std::function<void(Trouble, int error, const std::string& path)>;

  Walk(std::vector<Source> sources, std::vector<Exclude> excludes, bool xattrs,
       OnTrouble on_trouble);

  /// The next entry, folders before what is in them; nothing at the end. What cannot be read, or is
  /// neither file nor folder nor link, is told to on_trouble and left out.
  std::optional<Found> next();
  /// Folders that are open now.
  std::size_t open_folders() const { return *open_folders_; }
  std::uint32_t entries() const { return last_id_; }

 private:
  struct Level {
    std::shared_ptr<SourceFolder> folder;
    std::uint32_t id = 0;
    std::string below;  ///< path of the entries' names from the source on, with a "/" or empty
  };

  std::optional<Found> next_source();
  std::optional<Found> look_at(const Level& level, const std::string& name);
  bool fill(Found& found, const struct stat& status, const Level& level);
  bool enter(const Found& found, const std::string& below);
  void read_xattrs(Found& found) const;

  std::vector<Source> sources_;
  std::size_t next_source_ = 0;
  std::vector<Exclude> excludes_;
  bool xattrs_;
  OnTrouble on_trouble_;
  std::vector<Level> levels_;
  std::uint32_t last_id_ = 0;
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint32_t> linked_;
  std::shared_ptr<std::size_t> open_folders_ = std::make_shared<std::size_t>(0);
};

}  // namespace xenlane::bridge::files
