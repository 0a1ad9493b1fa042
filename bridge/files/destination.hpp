// Where a transfer goes: a folder, and perhaps the one name in it.
#pragma once

#include <optional>
#include <string>

#include "bridge/files/names.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge::files {

struct Destination {
  transport::UniqueFd folder;            ///< none: a dry run into one that is not there
  std::optional<std::string> only_name;  ///< of the file that is copied; none: as at its source
};

/// For a local user's path, whose links are followed: `into_folder`, a "/" at the end, or a folder
/// that is there already mean a folder, made if need be; all else is a file's name in a folder that
/// must be there. An errno value if there is no such folder, or it cannot be made.
boost::system::result<Destination> open_destination(const std::string& path, bool into_folder,
                                                    bool dry_run);

/// The same for a path that a client has said, below `top`; no link is followed.
boost::system::result<Destination> open_destination_beneath(int top, const ServicePath& path,
                                                            bool into_folder, bool dry_run);

/// The folder below `top` that a guest's files land in: incoming/PEER, made if need be, for our own
/// user alone.
boost::system::result<transport::UniqueFd> open_incoming(int top, const std::string& peer);

/// What is in a folder and below: regular files' bytes, and entries of any kind. An errno value if
/// anything could not be looked at: who fills it may not hide what is there.
struct Usage {
  std::uint64_t bytes = 0;
  std::uint64_t entries = 0;
};
boost::system::result<Usage> usage_of(int folder);

}  // namespace xenlane::bridge::files
