// Files that a verb is told to read or to write. Errors are ready for the user.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "bridge/cli/query.hpp"

namespace xenlane::bridge::cli {

/// Largest file that a verb reads.
inline constexpr std::size_t text_file_bytes_max = 1024 * 1024;
/// Most files of one kind in a folder.
inline constexpr std::size_t folder_files_max = 1000;

/// All of a file, a pipe or, for "-", standard input.
Answer<std::string> read_text(const std::string& path);

/// Names of the files in `folder` that end in `suffix` and do not begin with a dot, in byte order.
/// A folder that does not exist has none.
Answer<std::vector<std::string>> list_files(const std::string& folder, const std::string& suffix);

/// Writes a file of mode 0644 less the umask. Others see it whole or not at all. One that exists is
/// a failure unless `replace`.
Answer<bool> write_text(const std::string& path, const std::string& text, bool replace);

}  // namespace xenlane::bridge::cli
