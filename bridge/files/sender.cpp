#include "bridge/files/sender.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <type_traits>

namespace xenlane::bridge::files {

using transport::UniqueFd;

namespace {

/// One data message of a large file: what is read, hashed and written while it is in the cache.
constexpr std::size_t piece_bytes = 256 * 1024;
/// So often the rest is seen to: answers, announcements, progress.
constexpr std::uint64_t looked_after_bytes = 4 * piece_bytes;
/// Entries that are looked for at once, between two pieces of content.
constexpr int announced_at_once = 64;

}  // namespace

/// A file that is being read.
struct Sender::Opened {
  UniqueFd fd;
  bool is_stdin = false;
  bool is_sparse = false;
  std::uint64_t size = 0;
  Hasher hasher;
};

SendRules send_rules(const Request& request) {
  SendRules rules;
  rules.digest = request.digest;
  rules.dry_run = request.dry_run;
  rules.xattrs = request.xattrs;
  return rules;
}

Sender::Sender(WireReader& in, WireWriter& out, std::vector<Source> sources, SendRules rules,
               Report& report)
    : out_(out),
      rules_(std::move(rules)),
      report_(report),
      walk_(
          std::move(sources), rules_.excludes, rules_.xattrs,
          [this](Trouble what, int error, const std::string& path) { trouble(what, error, path); }),
      replies_(in),
      pace_(rules_.bytes_per_second_max),
      buffer_(piece_bytes) {
  out_.while_waiting([this] { replies_.read_some(); });
}

Sender::~Sender() {
  out_.while_waiting({});
}

void Sender::run() {
  while (!over_) {
    report_.progress(counts_);
    if (answers()) continue;
    if (!wanted_.empty()) {
      const Want want = wanted_.front();
      wanted_.pop_front();
      if (announced_.contains(want.id)) send(want);
      continue;
    }
    if (may_announce()) {
      announce_some();
      continue;
    }
    if (all_announced_ && announced_.size() == late_ && !said_sent_) {
      out_.say(MessageType::sent);
      said_sent_ = true;
    }
    out_.flush();
    for (const Reply& reply : replies_.take(true)) handle(reply);
  }
  report_.progress(counts_);
}

void Sender::trouble(Trouble what, int error, const std::string& path) {
  ++counts_.failed;
  report_.trouble(what, error, path, {});
  if (rules_.tell_troubles) out_.say(Unreadable{what, error, path.substr(0, path_bytes_max)});
}

bool Sender::may_announce() const {
  return !all_announced_ && announced_.size() - late_ < entries_under_way_max &&
         walk_.open_folders() < source_folders_max;
}

void Sender::announce_some() {
  for (int i = 0; i < announced_at_once && may_announce(); ++i) {
    auto found = walk_.next();
    if (!found) {
      all_announced_ = true;
      counts_.all_found = true;
      out_.say(Listed{walk_.entries()});
      return;
    }
    const Entry& entry = found->entry;
    ++counts_.entries;
    counts_.bytes += entry.size;
    out_.say(entry);
    const std::uint32_t id = entry.id;
    const bool late = entry.kind == EntryKind::folder || entry.kind == EntryKind::hard_link;
    if (entry.kind != EntryKind::file) found->folder.reset();
    late_ += late ? 1U : 0U;
    announced_.emplace(id, Announced{std::move(*found), late});
  }
}

/// Handles what has come; false if there was nothing.
bool Sender::answers() {
  const auto replies = replies_.take(false);
  for (const Reply& reply : replies) handle(reply);
  return !replies.empty();
}

void Sender::forget(std::uint32_t id) {
  const auto found = announced_.find(id);
  late_ -= found->second.is_late ? 1U : 0U;
  announced_.erase(found);
}

void Sender::handle(const Reply& reply) {
  if (std::holds_alternative<Result>(reply)) {
    if (!said_sent_ || !announced_.empty()) {
      throw WireBroken("the other side ends before it has confirmed all");
    }
    over_ = true;
    return;
  }
  const std::uint32_t id = std::visit(
      [](const auto& one) -> std::uint32_t {
        if constexpr (std::is_same_v<std::decay_t<decltype(one)>, Result>)
          return 0;
        else
          return one.id;
      },
      reply);
  const auto found = announced_.find(id);
  if (found == announced_.end()) {
    // It may have answered before it heard that the file cannot be sent.
    if (id != 0 && id <= walk_.entries()) return;
    throw WireBroken("the other side answers for an entry that there is not");
  }
  const Found& about = found->second.found;
  if (const auto* want = std::get_if<Want>(&reply)) {
    if (about.entry.kind != EntryKind::file || std::exchange(found->second.is_wanted, true)) {
      throw WireBroken("the other side wants what it cannot have, or has had");
    }
    wanted_.push_back(*want);
    return;
  }
  if (const auto* failed = std::get_if<Failed>(&reply)) {
    ++counts_.failed;
    if (failed->trouble != Trouble::folder) {
      report_.trouble(failed->trouble, failed->error, about.path, failed->text);
    }
  } else if (std::holds_alternative<Have>(reply)) {
    ++counts_.same;
    counts_.bytes_same += about.entry.size;
  } else {
    if (about.entry.kind == EntryKind::file && !found->second.is_sent) {
      throw WireBroken("the other side confirms a file that it has not been sent");
    }
    ++counts_.copied;
    report_.copying(about.path);
  }
  forget(id);
}

/// Opens what was announced; 0, or an errno value: ESTALE if it is not what it was.
int Sender::open(const Announced& announced, Opened& opened) const {
  const Found& found = announced.found;
  if (found.name.empty()) {
    opened.is_stdin = true;
    return 0;
  }
  opened.fd = UniqueFd(::openat(found.folder->fd(), found.name.c_str(),
                                O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!opened.fd) return errno == ELOOP || errno == ENXIO ? ESTALE : errno;
  struct stat status = {};
  if (::fstat(opened.fd.get(), &status) != 0) return errno;
  opened.size = static_cast<std::uint64_t>(status.st_size);
  // In units of 512 bytes (stat(2)).
  opened.is_sparse = static_cast<std::uint64_t>(status.st_blocks) * 512 < opened.size;
  return is_unchanged(status, found.entry) ? 0 : ESTALE;
}

void Sender::give_up(std::uint32_t id, Trouble what, int error) {
  const auto found = announced_.find(id);
  ++counts_.failed;
  report_.trouble(what, error, found->second.found.path, {});
  out_.say(FileFailed{id, what, error});
  forget(id);
}

void Sender::send(const Want& want) {
  Announced& announced = announced_.at(want.id);
  if (rules_.dry_run) {
    ++counts_.copied;
    report_.copying(announced.found.path);
    return forget(want.id);
  }
  Opened opened{{}, false, false, 0, Hasher(rules_.digest)};
  if (const int error = open(announced, opened); error != 0) {
    const bool changed = error == ENOENT || error == ESTALE;
    return give_up(want.id, changed ? Trouble::changed : Trouble::source, error);
  }
  send_content(want, announced, opened);
}

void Sender::send_content(const Want& want, Announced& announced, Opened& opened) {
  std::uint64_t offset = 0;
  if (want.have > 0 && want.have <= opened.size) {
    // What the receiver claims to have counts only if it has the same digest here.
    Hasher hasher(rules_.digest);
    if (hash_begin(opened.fd.get(), want.have, hasher) && hasher.digest() == want.digest) {
      opened.hasher = std::move(hasher);
      offset = want.have;
      counts_.bytes_reused += offset;
    }
  }
  out_.say(FileBegin{want.id, offset});
  if (!send_range(want, opened, offset, opened.size)) return;
  struct stat status = {};
  if (!opened.is_stdin &&
      (::fstat(opened.fd.get(), &status) != 0 || !is_unchanged(status, announced.found.entry))) {
    return give_up(want.id, Trouble::changed, ESTALE);
  }
  out_.say(FileEnd{opened.hasher.digest()});
  announced.is_sent = true;
}

void Sender::keep_pace(std::size_t bytes) {
  if (rules_.bytes_per_second_max == 0) return;
  const auto pause = pace_.sent(bytes, std::chrono::steady_clock::now());
  if (pause.count() <= 0) return;
  out_.flush();
  replies_.read_for(pause);
}

/// False if it could not be read, or the receiver does not want it any more; then that is said.
bool Sender::send_range(const Want& want, Opened& opened, std::uint64_t begin, std::uint64_t end) {
  const int fd = opened.is_stdin ? STDIN_FILENO : opened.fd.get();
  std::uint64_t data_end = opened.is_sparse ? begin : end;
  std::uint64_t unwatched = 0;
  for (std::uint64_t at = begin; opened.is_stdin || at < end;) {
    if (opened.is_sparse && at == data_end) {
      const off_t data = ::lseek(fd, static_cast<off_t>(at), SEEK_DATA);
      const std::uint64_t next = data < 0 ? end : std::min(end, static_cast<std::uint64_t>(data));
      if (data < 0 && errno != ENXIO) return give_up(want.id, Trouble::source, errno), false;
      while (next > at) {
        const std::uint64_t piece = std::min(next - at, hole_bytes_at_once);
        out_.say_hole(piece);
        opened.hasher.update_zeros(piece);
        counts_.bytes_reused += piece;
        at += piece;
        replies_.read_some();
      }
      const off_t hole = ::lseek(fd, static_cast<off_t>(at), SEEK_HOLE);
      data_end = hole < 0 ? end : std::min(end, static_cast<std::uint64_t>(hole));
      if (data_end <= at) data_end = end;
      continue;
    }
    const std::uint64_t left = opened.is_stdin ? buffer_.size() : data_end - at;
    const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(left, buffer_.size()));
    const ssize_t got = opened.is_stdin
                            ? ::read(fd, buffer_.data(), wanted)
                            : ::pread(fd, buffer_.data(), wanted, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return give_up(want.id, Trouble::source, errno), false;
    if (got == 0 && opened.is_stdin) return true;
    if (got == 0) return give_up(want.id, Trouble::changed, ESTALE), false;
    const BytesView piece = BytesView(buffer_).first(static_cast<std::size_t>(got));
    opened.hasher.update(piece);
    if (opened.is_stdin) {
      out_.data(piece);
    } else {
      out_.data_of_file(piece, fd, at);
    }
    at += piece.size();
    counts_.bytes_sent += piece.size();
    if (opened.is_stdin) counts_.bytes += piece.size();
    keep_pace(piece.size());
    unwatched += piece.size();
    if (unwatched < looked_after_bytes || (at >= end && !opened.is_stdin)) continue;
    unwatched = 0;
    report_.progress(counts_);
    answers();
    if (!announced_.contains(want.id)) {
      out_.say(FileFailed{want.id, Trouble::destination, 0});
      return false;
    }
    announce_some();
  }
  return true;
}

}  // namespace xenlane::bridge::files
