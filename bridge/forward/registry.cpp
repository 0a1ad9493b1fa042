#include "bridge/forward/registry.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "bridge/control/client.hpp"

namespace xenlane::bridge {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view socket_suffix = ".sock";
/// Of one folder; more are not looked at.
constexpr std::size_t processes_max = 1000;

bool is_number(const std::string& text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

std::vector<std::string> forward_folders(const std::string& run_dir) {
  std::vector<std::string> folders{run_dir + "-forward"};
  const char* own = std::getenv("XDG_RUNTIME_DIR");
  if (own != nullptr && *own == '/') folders.push_back(std::string(own) + "/xenlane/forward");
  return folders;
}

boost::system::result<ListenerSocket, SocketError> register_forward(const std::string& run_dir) {
  SocketError last{std::make_error_code(std::errc::permission_denied), run_dir};
  for (const std::string& folder : forward_folders(run_dir)) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) {
      last = {error, fmt::format("{}: {}", folder, error.message())};
      continue;
    }
    auto made = listen_unix(fmt::format("{}/{}{}", folder, ::getpid(), socket_suffix), 0600,
                            static_cast<uid_t>(-1), static_cast<gid_t>(-1), SOMAXCONN);
    if (made) return made;
    last = made.error();
  }
  return last;
}

std::vector<RunningForward> running_forwards(const std::string& run_dir) {
  std::vector<RunningForward> found;
  for (const std::string& folder : forward_folders(run_dir)) {
    std::error_code error;
    std::size_t seen = 0;
    for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator();
         entry.increment(error)) {
      const fs::path& path = entry->path();
      std::string id = path.stem().string();
      if (path.extension() != socket_suffix || !is_number(id)) continue;
      if (++seen > processes_max) break;
      auto reply = control_request(path.string(), "status");
      if (reply) {
        found.push_back({std::move(id), path.string(), std::move(*reply)});
      } else if (reply.error().kind == ControlError::Kind::no_daemon) {
        ::unlink(path.c_str());
      }
    }
  }
  std::ranges::sort(found, [](const RunningForward& a, const RunningForward& b) {
    return a.id.size() != b.id.size() ? a.id.size() < b.id.size() : a.id < b.id;
  });
  return found;
}

}  // namespace xenlane::bridge
