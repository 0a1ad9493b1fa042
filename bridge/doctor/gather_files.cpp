// Looks at the configuration, the run folder, and the two ends of the console lane's channel.
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "bridge/doctor/gather_parts.hpp"

namespace xenlane::bridge::doctor {
namespace {

namespace fs = std::filesystem;

/// Most sockets of a run folder that are looked for.
constexpr std::size_t sockets_max = 1000;

/// The files that were read, and the folders in which they can be replaced.
void look_at_config(Facts& facts) {
  const BridgeConfig& config = facts.config.config;
  const auto add = [&](const std::string& path) { facts.config_files.push_back(look_at(path)); };
  add(config.file);
  if (facts.config_files.front().kind != FileKind::missing) {
    add(fs::path(config.file).parent_path().string());
  }
  if (config.drop_in_dir.empty()) return;
  add(config.drop_in_dir);
  std::vector<std::string> drop_ins;
  std::error_code error;
  fs::directory_iterator entry(config.drop_in_dir, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::string path = entry->path().string();
    if (path.ends_with(".toml") && drop_ins.size() < drop_in_files_max) drop_ins.push_back(path);
  }
  std::ranges::sort(drop_ins);
  std::ranges::for_each(drop_ins, add);
}

void look_for_sockets(Facts& facts) {
  std::error_code error;
  fs::recursive_directory_iterator entry(facts.run_dir,
                                         fs::directory_options::skip_permission_denied, error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    if (facts.sockets.size() >= sockets_max) break;
    std::error_code gone;
    const std::string path = entry->path().string();
    if (fs::is_socket(entry->symlink_status(gone)) && path != facts.control.path) {
      facts.sockets.push_back(path);
    }
  }
  std::ranges::sort(facts.sockets);
}

/// Connections to a listening socket's path, by the state that /proc/net/unix gives them.
struct Connections {
  std::size_t taken = 0;
  std::size_t waiting = 0;
};

Connections connections_to(const std::string& listing, const std::string& path) {
  constexpr std::string_view connecting = "02";
  constexpr std::string_view connected = "03";
  Connections found;
  std::istringstream lines(listing);
  std::string line;
  while (std::getline(lines, line)) {
    // Num RefCount Protocol Flags Type St Inode Path
    if (!line.ends_with(' ' + path)) continue;
    std::istringstream words(line);
    std::string skipped;
    std::string state;
    words >> skipped >> skipped >> skipped >> skipped >> skipped >> state;
    if (state == connected) ++found.taken;
    if (state == connecting) ++found.waiting;
  }
  return found;
}

std::optional<pid_t> parse_pid(const std::string& text) {
  pid_t pid = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, pid);
  if (error != std::errc{} || stop != end || pid <= 0) return std::nullopt;
  return pid;
}

/// The controlling terminal in /proc/PID/stat, which everybody may read; behind the program's name,
/// which may have any bytes but is the only thing in parentheses that the last ")" closes.
dev_t terminal_of(const std::string& stat_line) {
  const std::size_t name_end = stat_line.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream words(stat_line.substr(name_end + 1));
  std::string skipped;
  unsigned terminal = 0;
  words >> skipped >> skipped >> skipped >> skipped >> terminal;  // state, parent, group, session
  return makedev((terminal >> 8) & 0xFFF, (terminal & 0xFF) | ((terminal >> 12) & 0xFFF00));
}

bool has_open(const std::string& process, dev_t device, bool& complete) {
  std::error_code error;
  fs::directory_iterator entry(process + "/fd", error);
  if (error == std::errc::permission_denied) complete = false;
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    struct stat found = {};
    if (::stat(entry->path().c_str(), &found) == 0 && S_ISCHR(found.st_mode) &&
        found.st_rdev == device) {
      return true;
    }
  }
  return false;
}

/// Programs that have the terminal open or were started on it. `complete` is false when some
/// programs could not be looked into.
std::vector<Reader> readers_of(const std::string& proc, dev_t device, pid_t but, bool& complete) {
  std::vector<Reader> readers;
  std::error_code error;
  fs::directory_iterator entry(proc, error);
  complete = !error;
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const auto pid = parse_pid(entry->path().filename().string());
    if (!pid || *pid == but || *pid == ::getpid()) continue;
    const std::string process = entry->path().string();
    if (terminal_of(text_of(process + "/stat")) != device && !has_open(process, device, complete)) {
      continue;
    }
    std::string name = text_of(process + "/comm");
    if (!name.empty() && name.back() == '\n') name.pop_back();
    // A daemon that did not answer has told no number.
    if (but == 0 && name == "xenlane-guest") continue;
    readers.push_back({*pid, name});
  }
  return readers;
}

std::string folder_of_devices(const Places& places) {
  if (!places.dev_dir.empty()) return places.dev_dir;
  const char* folder = std::getenv("XENLANE_DEV_DIR");
  return folder != nullptr ? folder : places.root + "/dev";
}

}  // namespace

void look_at_files(const Places& places, Facts& facts) {
  facts.config = load_config(facts.side, places.config);
  look_at_config(facts);
  facts.run_folder = look_at(facts.run_dir);
  facts.control = look_at(facts.run_dir + "/control");
  look_for_sockets(facts);
}

void look_at_console_sockets(const Places& places, Facts& facts) {
  const std::string listing = text_of(places.root + "/proc/net/unix");
  for (GuestFact& guest : facts.guests) {
    const std::string path = console_socket_of(facts.config.config, guest.name);
    if (path.empty()) continue;
    guest.console_socket = look_at(path);
    if (listing.empty()) continue;
    const Connections connections = connections_to(listing, path);
    guest.console_taken = connections.taken;
    guest.console_waiting = connections.waiting;
  }
}

void look_at_console_device(const Places& places, Facts& facts) {
  const ConsoleConfig& config = facts.config.config.console;
  ConsoleFact& console = facts.console;
  const std::string folder = folder_of_devices(places);
  std::string path = config.device == "auto" || config.device == "none" ? "" : config.device;
  if (config.device == "auto") {
    const auto node = std::ranges::find(console.nodes, config.channel, &ConsoleNode::name);
    if (node != console.nodes.end()) path = fmt::format("{}/hvc{}", folder, node->number);
  }
  if (path.empty()) return;
  console.device = look_at(path);
  struct stat found = {};
  if (::stat(path.c_str(), &found) == 0 && S_ISCHR(found.st_mode)) {
    console.readers =
        readers_of(places.root + "/proc", found.st_rdev, facts.daemon.pid, console.readers_seen);
  }
  if (config.device == "auto") {
    console.link = look_at_link(folder + "/xen-channel/" + config.channel);
  }
}

}  // namespace xenlane::bridge::doctor
