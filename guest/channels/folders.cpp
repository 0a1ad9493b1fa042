#include "guest/channels/folders.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <sstream>
#include <system_error>

namespace xenlane::guest {

namespace {

namespace fs = std::filesystem;

/// udev runs one for each console at once when a guest boots, and kills what takes 180 s.
constexpr unsigned lock_wait_max_s = 120;

[[noreturn]] void fail(const fs::path& path) {
  throw std::system_error(errno, std::generic_category(), path.string());
}

std::string first_line_of(const fs::path& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

/// The driver makes the tty before it says Initialised, and takes it away at Closing
/// (xencons_connect_backend and xencons_backend_changed in drivers/tty/hvc/hvc_xen.c).
bool has_tty(const fs::path& device) {
  const std::string state = first_line_of(device / "state");
  return state == "Initialised" || state == "Connected";
}

fs::path memory_file(const Folders& folders) {
  return folders.state / "consoles";
}

/// Where a getty looks before it opens a tty (serial-getty@.service.d).
fs::path mark_of(const Folders& folders, const Placed& placed) {
  return folders.state / folders.tty(placed.tty).filename();
}

fs::path link_of(const Folders& folders, const Placed& placed) {
  return folders.links() / placed.channel->text();
}

void make_folder(const fs::path& folder) {
  fs::create_directories(folder);
  // Whoever is to find a channel, and whatever umask a udev has been started with.
  fs::permissions(folder, fs::perms(0755));
}

bool points_to(const fs::path& link, const fs::path& target) {
  std::error_code error;
  return fs::read_symlink(link, error) == target && !error;
}

void make_link(const Folders& folders, const Placed& placed, const Tell& tell) {
  const fs::path link = link_of(folders, placed);
  const fs::path tty = folders.tty(placed.tty);
  if (points_to(link, tty)) return;
  if (!fs::exists(tty)) {
    tell(
        fmt::format("console {}: there is no {}; the kernel has hvc0 to hvc7 and no more, {} has "
                    "no link",
                    placed.number, tty.string(), placed.channel->text()));
    return;
  }
  std::error_code error;
  const auto kind = fs::symlink_status(link, error).type();
  if (kind == fs::file_type::not_found) {
    // Made with its target at once: one event of creation, where a renaming would be none.
    fs::create_symlink(tty, link);
  } else if (kind == fs::file_type::symlink) {
    const fs::path fresh = folders.dev / (".xen-channel-" + placed.channel->text());
    fs::remove(fresh);
    fs::create_symlink(tty, fresh);
    fs::rename(fresh, link);
  } else {
    tell(fmt::format("{}: is no symbolic link; remove it, {} has no link", link.string(),
                     placed.channel->text()));
    return;
  }
  tell(fmt::format("{} is {}", link.string(), tty.string()));
}

void remove_link(const Folders& folders, const Placed& placed, const Tell& tell) {
  const fs::path link = link_of(folders, placed);
  if (!points_to(link, folders.tty(placed.tty))) return;
  fs::remove(link);
  tell(fmt::format("{} is gone", link.string()));
}

void make_mark(const fs::path& mark) {
  const transport::UniqueFd file(
      ::open(mark.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!file) fail(mark);
}

bool any_has(const Placement& placement, auto&& condition) {
  return std::ranges::any_of(placement, [&](const Placed& placed) {
    return placed.channel.has_value() && condition(placed);
  });
}

}  // namespace

fs::path tty_of_channel(const Folders& folders, const std::string& channel, int console_number) {
  const fs::path link = folders.links() / channel;
  return fs::exists(link) ? link : folders.tty(console_number);
}

std::vector<Console> find_consoles(const Folders& folders) {
  std::vector<Console> consoles;
  const fs::path devices = folders.sys / "bus/xen/devices";
  if (!fs::exists(devices)) return consoles;
  for (const auto& entry : fs::directory_iterator(devices)) {
    const auto number = parse_console_device(entry.path().filename().string());
    if (!number || !has_tty(entry.path())) continue;
    // sysfs counts its inodes upwards.
    struct stat device {};
    if (::stat(entry.path().c_str(), &device) != 0) continue;  // unplugged just now
    consoles.push_back({*number, device.st_ino, ""});
  }
  return consoles;
}

transport::UniqueFd lock_state(const Folders& folders) {
  make_folder(folders.state);
  const fs::path path = folders.state / "lock";
  transport::UniqueFd lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock) fail(path);
  struct sigaction interrupt {};
  struct sigaction before {};
  interrupt.sa_handler = [](int) {};  // without SA_RESTART: the waiting ends
  ::sigaction(SIGALRM, &interrupt, &before);
  ::alarm(lock_wait_max_s);
  const int outcome = ::flock(lock.get(), LOCK_EX);
  const int error = errno;
  ::alarm(0);
  ::sigaction(SIGALRM, &before, nullptr);
  if (outcome != 0) {
    errno = error == EINTR ? ETIMEDOUT : error;
    fail(path);
  }
  return lock;
}

Memory load_memory(const Folders& folders, const Tell& tell) {
  const fs::path path = memory_file(folders);
  if (!fs::exists(path)) return {};
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  auto memory = parse_memory(text.str());
  if (!memory) {
    tell(
        fmt::format("{}: {}; the ttys are counted anew, which is right unless a console was "
                    "unplugged",
                    path.string(), memory.error().text));
    return {};
  }
  return *memory;
}

void save_memory(const Folders& folders, const Memory& memory) {
  const fs::path path = memory_file(folders);
  const fs::path fresh = path.string() + ".new";
  std::ofstream file(fresh, std::ios::binary | std::ios::trunc);
  file << to_text(memory);
  file.close();
  if (!file) {
    errno = EIO;
    fail(fresh);
  }
  fs::rename(fresh, path);
}

void update_links(const Folders& folders, const Placement& before, const Placement& now,
                  const Tell& tell) {
  make_folder(folders.links());
  for (const Placed& old : before) {
    if (!old.channel) continue;
    if (!any_has(now, [&](const Placed& placed) { return placed.channel == old.channel; })) {
      remove_link(folders, old, tell);
    }
    if (!any_has(now, [&](const Placed& placed) { return placed.tty == old.tty; })) {
      fs::remove(mark_of(folders, old));
    }
  }
  for (const Placed& placed : now) {
    if (!placed.channel) continue;
    make_mark(mark_of(folders, placed));
    make_link(folders, placed, tell);
  }
}

}  // namespace xenlane::guest
