// The entries that a sender announces: names and quotas, and what becomes of each kind.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>
#include <array>
#include <cerrno>

#include "bridge/files/receiver.hpp"

namespace xenlane::bridge::files {

using transport::UniqueFd;

namespace {

/// The sender's window, and what it may have announced before it heard of what has failed.
constexpr std::size_t wanted_max = entries_under_way_max + 64;

bool same_time(const struct stat& status, const Entry& entry) {
  if (status.st_mtim.tv_sec != entry.mtime_s) return false;
  // Some file systems keep no fractions.
  return status.st_mtim.tv_nsec == entry.mtime_ns || status.st_mtim.tv_nsec == 0;
}

/// Where there is no descriptor that could be written to.
void set_mode(int folder, const std::string& name, std::uint16_t mode) {
  const UniqueFd file(::openat(folder, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat status = {};
  if (!file || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return;
  // fchmod(2) refuses O_PATH; the link in /proc leads to this very file.
  (void)::chmod(fmt::format("/proc/self/fd/{}", file.get()).c_str(), mode);
}

}  // namespace

void Receiver::take_entry(Entry entry) {
  if (entry.id != last_id_ + 1) throw WireBroken("the other side counts its entries otherwise");
  last_id_ = entry.id;
  if (!tree_.knows(entry.parent)) throw WireBroken("the other side names a folder that is none");
  if (wanted_.size() > wanted_max) throw WireBroken("the other side has too much under way");
  ++counts_.entries;
  counts_.bytes += entry.size_known ? entry.size : 0;
  if (entry.parent == 0 && rules_.only_name) entry.name = *rules_.only_name;
  const std::string fault = fault_of(entry);
  const bool in_failed = tree_.failed(entry.parent);
  if (fault.empty() && !in_failed && has_room(entry)) {
    switch (entry.kind) {
      case EntryKind::folder:
        return take_folder(entry);
      case EntryKind::symlink:
        return take_symlink(entry);
      case EntryKind::hard_link:
        return take_hard_link(entry);
      case EntryKind::file:
        return take_file(entry);
    }
  }
  const bool no_room = fault.empty() && !in_failed;
  const Trouble trouble =
      in_failed ? Trouble::folder : (no_room ? Trouble::no_space : Trouble::refused);
  const int error = no_room ? EDQUOT : (in_failed ? ENOENT : EPERM);
  const std::string text = no_room ? "the quota is used up" : fault;
  if (entry.kind == EntryKind::folder && tree_.size() < folders_max) {
    tree_.add_failed(entry.id, error);
  }
  if (!in_failed) report_.trouble(trouble, error, tree_.path(entry.parent) + entry.name, text);
  fail(entry.id, trouble, error, text);
}

std::string Receiver::fault_of(const Entry& entry) const {
  if (entry.parent == 0 && rules_.only_name && at_the_top_ > 0) return "only one file is expected";
  if (rules_.to_stdout && (entry.kind != EntryKind::file || at_the_top_ > 0)) {
    return "only one file can go to standard output";
  }
  if (std::string fault = fault_of_name(entry.name, rules_.names); !fault.empty()) return fault;
  const bool is_renamed = rules_.only_name.has_value();
  if (entry.parent == 0 && !is_renamed && rules_.top_names &&
      !rules_.top_names->contains(entry.name)) {
    return "nobody asked for it";
  }
  if (entry.kind != EntryKind::symlink) return {};
  return fault_of_link(entry.target, tree_.depth(entry.parent), rules_.names);
}

bool Receiver::has_room(const Entry& entry) {
  Quota& quota = rules_.quota;
  if (quota.entries == 0) return false;
  if (entry.kind == EntryKind::folder &&
      (tree_.depth(entry.parent) >= quota.depth || tree_.size() >= folders_max)) {
    return false;
  }
  --quota.entries;
  if (entry.parent == 0) ++at_the_top_;
  return true;
}

void Receiver::take_folder(const Entry& entry) {
  const int error = tree_.add(entry.id, entry.parent, entry.name,
                              attributes_of(entry, rules_.xattrs, rules_.owner), rules_.dry_run);
  if (error == 0) {
    if (rules_.dry_run && tree_.is_new(entry.id)) return done(entry.id, tree_.path(entry.id));
    if (rules_.dry_run) return same(entry.id);
    if (!tree_.is_new(entry.id)) ++rules_.quota.entries;
    return;  // done when what is in it is
  }
  const std::string text = error == ELOOP || error == ENOTDIR
                               ? "there is something else of that name, and no folder"
                               : "";
  report_.trouble(trouble_of(error), error, tree_.path(entry.parent) + entry.name, text);
  fail(entry.id, trouble_of(error), error, text);
}

void Receiver::take_symlink(const Entry& entry) {
  const std::string path = tree_.path(entry.parent) + entry.name;
  if (rules_.dry_run && tree_.is_new(entry.parent)) return done(entry.id, path);
  const int folder = tree_.fd(entry.parent);
  bool is_same = false;
  int error = folder < 0 ? errno : symlink_at(folder, entry, is_same);
  if (folder < 0 && rules_.dry_run && error == ENOENT) error = 0;
  if (error != 0) {
    report_.trouble(trouble_of(error), error, path, {});
    return fail(entry.id, trouble_of(error), error);
  }
  is_same ? same(entry.id) : done(entry.id, path);
}

int Receiver::symlink_at(int folder, const Entry& entry, bool& is_same) {
  std::array<char, path_bytes_max + 1> there;
  const ssize_t size = tree_.is_new(entry.parent)
                           ? -1
                           : ::readlinkat(folder, entry.name.c_str(), there.data(), there.size());
  is_same =
      size >= 0 && entry.target == std::string_view(there.data(), static_cast<std::size_t>(size));
  if (is_same || rules_.dry_run) return 0;
  const char* made = entry.name.c_str();
  std::string partial;
  if (::symlinkat(entry.target.c_str(), folder, made) != 0) {
    if (errno != EEXIST) return errno;
    partial = partial_name(entry.name);
    made = partial.c_str();
    if (::unlinkat(folder, made, 0) != 0 && errno != ENOENT) return errno;
    if (::symlinkat(entry.target.c_str(), folder, made) != 0) return errno;
  }
  const timespec times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT},
                             {.tv_sec = entry.mtime_s, .tv_nsec = entry.mtime_ns}};
  ::utimensat(folder, made, times, AT_SYMLINK_NOFOLLOW);
  const bool has_owner =
      !rules_.owner || ::fchownat(folder, made, entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW) == 0;
  if (has_owner && (partial.empty() || ::renameat(folder, made, folder, entry.name.c_str()) == 0)) {
    return 0;
  }
  const int error = errno;
  ::unlinkat(folder, made, 0);
  return error;
}

/// What was there already has been counted.
void Receiver::same(std::uint32_t id) {
  ++counts_.same;
  ++rules_.quota.entries;
  out_.say_id(MessageType::have, id);
}

/// When its file is whole, which is at the end.
void Receiver::take_hard_link(const Entry& entry) {
  const std::string path = tree_.path(entry.parent) + entry.name;
  if (rules_.dry_run) return done(entry.id, path);
  if (late_links_.size() < links_max) {
    late_links_.push_back({entry.id, entry.link_to, {entry.parent, entry.name, 0, 0}});
    return;
  }
  report_.trouble(Trouble::refused, EMLINK, path, "there are too many hard links");
  fail(entry.id, Trouble::refused, EMLINK, "there are too many hard links");
}

void Receiver::make_link(const LateLink& link) {
  const std::string path = tree_.path(link.place.parent) + link.place.name;
  const auto from = places_.find(link.link_to);
  const int error = from == places_.end() ? ENOENT : link_to(from->second, link.place);
  if (error == 0) return done(link.id, path);
  const std::string text = error == ENOENT ? "the file that it is a link to was not copied" : "";
  report_.trouble(trouble_of(error), error, path, text);
  fail(link.id, trouble_of(error), error, text);
}

int Receiver::link_to(const Place& from, const Place& to) {
  // A descriptor of its own: the tree closes what it has not needed for long.
  const int from_folder = tree_.fd(from.parent);
  if (from_folder < 0) return errno;
  const UniqueFd file(::openat(from_folder, from.name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat status = {};
  if (!file || ::fstat(file.get(), &status) != 0) return errno;
  if (status.st_dev != from.device || status.st_ino != from.inode) return ESTALE;
  const int folder = tree_.fd(to.parent);
  if (folder < 0) return errno;
  struct stat there = {};
  if (::fstatat(folder, to.name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
      there.st_dev == status.st_dev && there.st_ino == status.st_ino) {
    return 0;
  }
  const std::string source = fmt::format("/proc/self/fd/{}", file.get());
  if (::linkat(AT_FDCWD, source.c_str(), folder, to.name.c_str(), AT_SYMLINK_FOLLOW) == 0) return 0;
  if (errno != EEXIST) return errno;
  const std::string partial = partial_name(to.name);
  if (::unlinkat(folder, partial.c_str(), 0) != 0 && errno != ENOENT) return errno;
  if (::linkat(AT_FDCWD, source.c_str(), folder, partial.c_str(), AT_SYMLINK_FOLLOW) != 0) {
    return errno;
  }
  if (::renameat(folder, partial.c_str(), folder, to.name.c_str()) == 0) return 0;
  const int error = errno;
  ::unlinkat(folder, partial.c_str(), 0);
  return error;
}

void Receiver::take_file(const Entry& entry) {
  Wanted wanted{entry.parent,
                entry.name,
                attributes_of(entry, rules_.xattrs, rules_.owner),
                entry.size,
                entry.size_known,
                entry.has_links,
                false,
                {}};
  if (rules_.to_stdout || tree_.is_new(entry.parent)) return want(entry, std::move(wanted), -1);
  const int folder = tree_.fd(entry.parent);
  if (folder < 0 && !(rules_.dry_run && errno == ENOENT)) {
    const int error = errno;
    report_.trouble(trouble_of(error), error, tree_.path(entry.parent) + entry.name, {});
    return fail(entry.id, trouble_of(error), error);
  }
  if (folder < 0 || !is_there(entry, folder)) return want(entry, std::move(wanted), folder);
  counts_.bytes_same += entry.size;
  same(entry.id);
}

/// By size and time, as rsync does it.
bool Receiver::is_there(const Entry& entry, int folder) {
  struct stat status = {};
  if (rules_.checksum || !entry.size_known ||
      ::fstatat(folder, entry.name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 ||
      !S_ISREG(status.st_mode) || static_cast<std::uint64_t>(status.st_size) != entry.size ||
      !same_time(status, entry)) {
    return false;
  }
  if ((status.st_mode & 07777) != entry.mode && !rules_.dry_run) {
    set_mode(folder, entry.name, entry.mode);
  }
  Wanted wanted;
  wanted.parent = entry.parent;
  wanted.name = entry.name;
  wanted.has_links = entry.has_links;
  remember(entry.id, wanted, status.st_dev, status.st_ino);
  return true;
}

void Receiver::want(const Entry& entry, Wanted wanted, int folder) {
  if (rules_.dry_run) {
    out_.say(Want{entry.id, 0, {}});
    return report_.copying(tree_.path(entry.parent) + entry.name);
  }
  if (folder >= 0 && entry.size_known && entry.size > 0) {
    if (rules_.checksum) {
      wanted.basis = basis_of(folder, entry.name, entry.size, rules_.digest);
      wanted.basis_is_final = wanted.basis && wanted.basis->bytes == entry.size;
      if (!wanted.basis_is_final) wanted.basis.reset();
    }
    if (!wanted.basis && entry.size >= kept_bytes_min) {
      wanted.basis = basis_of(folder, partial_name(entry.name), entry.size, rules_.digest);
    }
  }
  const std::uint64_t there = wanted.basis ? wanted.basis->bytes : 0;
  if (entry.size_known && entry.size - there > rules_.quota.bytes) {
    const std::string text = "the quota is used up";
    report_.trouble(Trouble::no_space, EDQUOT, tree_.path(entry.parent) + entry.name, text);
    return fail(entry.id, Trouble::no_space, EDQUOT, text);
  }
  if (entry.size_known) rules_.quota.bytes -= entry.size - there;
  Want want{entry.id, 0, {}};
  if (wanted.basis) {
    want.have = wanted.basis->bytes;
    want.digest = wanted.basis->hasher.digest();
  }
  wanted_.emplace(entry.id, std::move(wanted));
  out_.say(want);
}

}  // namespace xenlane::bridge::files
