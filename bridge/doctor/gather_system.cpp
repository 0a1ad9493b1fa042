// What the kernel shows: files, devices, modules, limits; and trials of what a lane needs.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "bridge/doctor/gather_parts.hpp"

namespace xenlane::bridge::doctor {
namespace {

namespace fs = std::filesystem;

/// Longest file of the system's that is read: /proc/net/unix of a busy host.
constexpr std::size_t system_file_bytes_max = 16 * 1024 * 1024;

FileKind kind_of(mode_t mode) {
  if (S_ISSOCK(mode)) return FileKind::socket;
  if (S_ISCHR(mode)) return FileKind::device;
  if (S_ISDIR(mode)) return FileKind::folder;
  if (S_ISREG(mode)) return FileKind::regular;
  if (S_ISLNK(mode)) return FileKind::link;
  return FileKind::other;
}

FileFact fact_of(const std::string& path, int result, const struct stat& found) {
  FileFact fact;
  fact.path = path;
  if (result != 0) {
    const bool missing = errno == ENOENT || errno == ENOTDIR;
    fact.kind = missing ? FileKind::missing : FileKind::hidden;
    fact.error = missing ? 0 : errno;
    return fact;
  }
  fact.kind = kind_of(found.st_mode);
  fact.owner = found.st_uid;
  fact.mode = found.st_mode & 07777;
  return fact;
}

std::optional<std::uint64_t> number_in(const std::string& path) {
  const std::string text = text_of(path);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end == text.data()) return std::nullopt;
  return value;
}

/// Whether a list of modules has ".../NAME.ko", perhaps packed, with "-" for "_" or not.
bool lists_module(const std::string& list, std::string name) {
  for (char& byte : name) {
    if (byte == '_') byte = '-';
  }
  return list.find('/' + name + ".ko") != std::string::npos;
}

ModuleState module_state(const Places& places, const std::string& release,
                         const std::string& name) {
  std::error_code error;
  if (fs::exists(places.root + "/sys/module/" + name, error)) {
    // A module in the kernel itself is there too, if it has parameters; only others have a state.
    const bool loaded = fs::exists(places.root + "/sys/module/" + name + "/initstate", error);
    return loaded ? ModuleState::loaded : ModuleState::built_in;
  }
  const std::string folder = places.root + "/lib/modules/" + release;
  if (lists_module(text_of(folder + "/modules.builtin"), name)) return ModuleState::built_in;
  const std::string installed = text_of(folder + "/modules.dep");
  if (installed.empty()) return ModuleState::unknown;
  return lists_module(installed, name) ? ModuleState::available : ModuleState::absent;
}

Trial trial_of(const boost::system::result<void, transport::LaneFailure>& result) {
  Trial trial{.made = true};
  if (!result) trial.failure = result.error();
  return trial;
}

}  // namespace

FileFact look_at(const std::string& path) {
  struct stat found = {};
  FileFact fact = fact_of(path, ::stat(path.c_str(), &found), found);
  fact.usable = ::access(path.c_str(), R_OK | W_OK) == 0;
  return fact;
}

FileFact look_at_link(const std::string& path) {
  struct stat found = {};
  FileFact fact = fact_of(path, ::lstat(path.c_str(), &found), found);
  std::error_code error;
  if (fact.kind == FileKind::link) fact.target = fs::read_symlink(path, error).string();
  return fact;
}

std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text;
  char chunk[65536];
  while (text.size() < system_file_bytes_max &&
         (file.read(chunk, sizeof chunk), file.gcount() > 0)) {
    text.append(chunk, static_cast<std::size_t>(file.gcount()));
  }
  return text;
}

void look_at_system(const Places& places, Facts& facts) {
  utsname kernel = {};
  std::string release;
  if (::uname(&kernel) == 0) release = kernel.release;
  std::sscanf(release.c_str(), "%u.%u", &facts.kernel_major, &facts.kernel_minor);
  const std::string hypervisor = text_of(places.root + "/sys/hypervisor/type");
  if (!hypervisor.empty()) {
    facts.is_xen = hypervisor.starts_with("xen");
  } else {
    std::error_code error;
    facts.is_xen = fs::exists(places.root + "/proc/xen", error);
  }
  const bool is_host = facts.side == Side::host;
  for (const char* name : {"evtchn", is_host ? "gntdev" : "gntalloc"}) {
    const std::string module = std::string("xen_") + name;
    facts.devices.push_back(
        {look_at(places.root + "/dev/xen/" + name), module, module_state(places, release, module)});
  }
  facts.gntalloc_limit = number_in(places.root + "/sys/module/xen_gntalloc/parameters/limit");
  facts.gntdev_limit = number_in(places.root + "/sys/module/xen_gntdev/parameters/limit");
}

void try_lanes(Facts& facts) {
  if (facts.side == Side::host) {
    facts.client = trial_of(transport::probe_vchan_client());
    return;
  }
  const VchanConfig& vchan = facts.config.config.vchan;
  facts.smallest = trial_of(transport::probe_vchan(0, vchan.ring_bytes_min));
  // A daemon that offers a ring at this very moment would have to take a smaller one.
  if (facts.daemon.answer == DaemonFact::Answer::absent && !facts.smallest.failure) {
    facts.largest = trial_of(transport::probe_vchan(0, vchan.ring_bytes_max));
  }
}

}  // namespace xenlane::bridge::doctor
