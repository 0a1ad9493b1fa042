#include "bridge/cli/files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "bridge/channel/text.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge::cli {
namespace {

using transport::UniqueFd;

Failure failed(const std::string& path, int error) {
  const ExitCode code = error == EACCES || error == EPERM ? exit_not_permitted : exit_broken;
  return {code, fmt::format("{}: {}", escape_untrusted(path, 256),
                            std::generic_category().message(error))};
}

/// Takes the umask as everything that makes files does. There is no way to only ask for it.
mode_t umask_now() {
  const mode_t mask = ::umask(022);
  ::umask(mask);
  return mask;
}

/// 0, or the number of what went wrong.
int write_all_of(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno != EINTR) return errno;
    if (written > 0) text.remove_prefix(static_cast<std::size_t>(written));
  }
  return ::fsync(fd) < 0 ? errno : 0;
}

}  // namespace

Answer<std::string> read_text(const std::string& path) {
  const bool is_standard = path == "-";
  UniqueFd file(is_standard ? ::dup(STDIN_FILENO) : ::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return {{}, failed(path, errno)};
  Answer<std::string> text;
  std::array<char, 65536> piece{};
  while (true) {
    const ssize_t got = ::read(file.get(), piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return {{}, failed(path, errno)};
    if (got == 0) return text;
    text.value.append(piece.data(), static_cast<std::size_t>(got));
    if (text.value.size() > text_file_bytes_max) {
      return {{},
              Failure{exit_configuration,
                      fmt::format("{}: has more than {} bytes",
                                  is_standard ? "stdin" : escape_untrusted(path, 256),
                                  text_file_bytes_max)}};
    }
  }
}

Answer<std::vector<std::string>> list_files(const std::string& folder, const std::string& suffix) {
  namespace fs = std::filesystem;
  Answer<std::vector<std::string>> names;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.ends_with(suffix) && name.front() != '.') names.value.push_back(name);
    if (names.value.size() > folder_files_max) {
      return {{},
              Failure{exit_configuration,
                      fmt::format("{}: more than {} files", escape_untrusted(folder, 256),
                                  folder_files_max)}};
    }
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    return {{}, failed(folder, error.value())};
  }
  std::sort(names.value.begin(), names.value.end());
  return names;
}

Answer<bool> write_text(const std::string& path, const std::string& text, bool replace) {
  std::string temporary = path + ".XXXXXX";
  UniqueFd file(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!file) return {{}, failed(path, errno)};
  int error = ::fchmod(file.get(), 0644 & ~umask_now()) < 0 ? errno : 0;
  if (error == 0) error = write_all_of(file.get(), text);
  const unsigned flags = replace ? 0 : RENAME_NOREPLACE;
  if (error == 0 && ::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), flags) < 0) {
    error = errno;
  }
  if (error == 0) return {true, {}};
  ::unlink(temporary.c_str());
  if (error == EEXIST) {
    return {{},
            Failure{exit_usage, fmt::format("{}: exists already; --force replaces it",
                                            escape_untrusted(path, 256))}};
  }
  return {{}, failed(path, error)};
}

}  // namespace xenlane::bridge::cli
