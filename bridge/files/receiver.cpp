#include "bridge/files/receiver.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace xenlane::bridge::files {

Trouble trouble_of(int error) {
  return error == ENOSPC || error == EDQUOT ? Trouble::no_space : Trouble::destination;
}

ReceiveRules receive_rules(const Request& request) {
  ReceiveRules rules;
  rules.digest = request.digest;
  rules.checksum = request.checksum;
  rules.dry_run = request.dry_run;
  rules.verify = request.verify;
  rules.xattrs = request.xattrs;
  rules.owner = request.owner;
  return rules;
}

Receiver::Receiver(WireReader& in, WireWriter& out, Tree tree, ReceiveRules rules, Report& report)
    : in_(in), out_(out), tree_(std::move(tree)), rules_(std::move(rules)), report_(report) {}

void Receiver::run() {
  // Answers are collected while there is more to be read.
  in_.before_wait([this] {
    out_.flush();
    report_.progress(counts_);
  });
  Header header;
  while (!over_) {
    if (!in_.next(header)) throw WireBroken("the connection ended before all had been sent");
    handle(header);
  }
  out_.flush();
}

void Receiver::handle(const Header& header) {
  switch (header.type) {
    case MessageType::entry:
      return take_entry(in_.read<Entry>());
    case MessageType::file:
      return begin_file(in_.read<FileBegin>());
    case MessageType::data:
      return take_data();
    case MessageType::hole:
      return take_hole(WireReader::checked(decode_hole(in_.body())));
    case MessageType::file_end:
      return end_file(in_.read<FileEnd>().digest);
    case MessageType::file_failed:
      return give_up(in_.read<FileFailed>());
    case MessageType::unreadable: {
      const auto untrusted = in_.read<Unreadable>();
      ++counts_.failed;
      return report_.trouble(untrusted.trouble, untrusted.error, untrusted.path, {});
    }
    case MessageType::listed:
      counts_.all_found = true;
      (void)in_.read<Listed>();
      return;
    case MessageType::sent:
      (void)in_.body();
      return finish();
    default:
      throw WireBroken("the other side sends what only a receiver says");
  }
}

void Receiver::done(std::uint32_t id, const std::string& path) {
  ++counts_.copied;
  report_.copying(path);
  out_.say_id(MessageType::done, id);
}

void Receiver::fail(std::uint32_t id, Trouble trouble, int error, const std::string& text) {
  ++counts_.failed;
  out_.say(Failed{id, trouble, error, text});
}

void Receiver::begin_file(const FileBegin& begin) {
  if (current_) throw WireBroken("the other side begins a file within another");
  const auto found = wanted_.find(begin.id);
  if (found == wanted_.end()) throw WireBroken("the other side sends a file that nobody asked for");
  current_.emplace(Current{begin.id, std::move(found->second), {}, {}, begin.offset});
  wanted_.erase(found);
  Wanted& wanted = current_->wanted;
  const std::uint64_t have = wanted.basis ? wanted.basis->bytes : 0;
  if (begin.offset != 0 && begin.offset != have) {
    throw WireBroken("the other side begins a file in its middle");
  }
  counts_.bytes_reused += begin.offset;
  if (begin.offset != 0) {
    current_->hasher.emplace(std::move(wanted.basis->hasher));
  } else {
    current_->hasher.emplace(rules_.digest);
  }
  if (begin.offset != 0 && wanted.basis_is_final) return;  // it only has to be looked at again
  const int folder = rules_.to_stdout ? -1 : tree_.fd(wanted.parent);
  if (folder < 0 && !rules_.to_stdout) return fail_current(trouble_of(errno), errno);
  const bool keep = !wanted.size_known || wanted.size >= kept_bytes_min;
  auto file =
      Incoming::begin(folder, wanted.name, keep, begin.offset != 0 ? &*wanted.basis : nullptr);
  if (!file) {
    const int error = file.error().value();
    return fail_current(trouble_of(error), error,
                        error == EBUSY ? "another transfer writes the same file" : "");
  }
  current_->file.emplace(std::move(*file));
}

/// False when the sender sends more than it said, which ends the file.
bool Receiver::charge(std::uint64_t length) {
  if (!current_) throw WireBroken("the other side sends content of no file");
  if (!current_->hasher) return false;
  const Wanted& wanted = current_->wanted;
  current_->bytes += length;
  if (wanted.size_known && (length > wanted.size || current_->bytes > wanted.size)) {
    throw WireBroken("the other side sends more of a file than it has");
  }
  if (wanted.size_known) return true;
  if (length > rules_.quota.bytes) {
    fail_current(Trouble::no_space, EDQUOT);
    return false;
  }
  rules_.quota.bytes -= length;
  counts_.bytes += length;
  return true;
}

void Receiver::take_data() {
  if (!current_) throw WireBroken("the other side sends content of no file");
  for (BytesView piece = in_.piece(); !piece.empty(); piece = in_.piece()) {
    counts_.bytes_sent += piece.size();
    if (!charge(piece.size())) continue;
    current_->hasher->update(piece);
    if (!current_->file) throw WireBroken("the other side sends more of a file than it has");
    if (const int error = current_->file->write(piece); error != 0) {
      fail_current(trouble_of(error), error);
    }
  }
}

void Receiver::take_hole(std::uint64_t length) {
  if (length > INT64_MAX) throw WireBroken("the other side sends a hole that no file has");
  if (!charge(length)) return;
  if (!current_->file) throw WireBroken("the other side sends more of a file than it has");
  counts_.bytes_reused += length;
  // A few bytes may stand for exbibytes: on a file system that takes them nobody may be there any
  // more when they have been looked at.
  while (length > 0) {
    in_.expect_peer();
    const std::uint64_t piece = std::min(length, hole_bytes_at_once);
    if (const int error = current_->file->skip(piece); error != 0) {
      return fail_current(trouble_of(error), error);
    }
    current_->hasher->update_zeros(piece);
    length -= piece;
  }
}

/// The rest of it is thrown away as it comes.
void Receiver::fail_current(Trouble trouble, int error, const std::string& text) {
  const Wanted& wanted = current_->wanted;
  if (current_->file) current_->file->discard(tree_.fd(wanted.parent));
  current_->file.reset();
  current_->hasher.reset();
  report_.trouble(trouble, error, tree_.path(wanted.parent) + wanted.name, text);
  fail(current_->id, trouble, error, text);
}

void Receiver::end_file(const Digest& digest) {
  if (!current_) throw WireBroken("the other side ends a file that it did not begin");
  if (current_->hasher) {
    if (current_->wanted.size_known && current_->bytes != current_->wanted.size) {
      throw WireBroken("the other side ends a file before its end");
    }
    if (digest != current_->hasher->digest()) {
      fail_current(Trouble::mismatch, EBADMSG);
    } else {
      place(*current_);
    }
  }
  current_.reset();
}

void Receiver::place(Current& current) {
  const Wanted& wanted = current.wanted;
  const int folder = rules_.to_stdout ? -1 : tree_.fd(wanted.parent);
  if (folder < 0 && !rules_.to_stdout) return fail_current(trouble_of(errno), errno);
  const std::string path = tree_.path(wanted.parent) + wanted.name;
  if (!current.file) {
    // The file under its own name is what was sent; its time and mode may not be.
    const transport::UniqueFd file(::openat(
        folder, wanted.name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    struct stat status = {};
    if (!file || ::fstat(file.get(), &status) != 0) return fail_current(trouble_of(errno), errno);
    const FileState state = state_of(status);
    const FileState& was = wanted.basis->state;
    if (state.device != was.device || state.inode != was.inode || state.size != was.size) {
      return fail_current(Trouble::destination, ESTALE);
    }
    if (const int error = set_attributes(file.get(), wanted.attributes); error != 0) {
      return fail_current(trouble_of(error), error);
    }
    counts_.bytes_reused -= current.bytes;
    counts_.bytes_same += current.bytes;
    remember(current.id, wanted, status.st_dev, status.st_ino);
    return same(current.id);
  }
  if (rules_.verify) {
    const Digest digest = current.hasher->digest();
    if (const int error = current.file->verify(rules_.digest, digest); error != 0) {
      return fail_current(error == EIO ? Trouble::mismatch : trouble_of(error), error,
                          "what was written reads back otherwise");
    }
  }
  if (const int error = current.file->place(folder, wanted.attributes); error != 0) {
    return fail_current(trouble_of(error), error);
  }
  ++result_.files;
  result_.bytes += current.bytes;
  remember(current.id, wanted, current.file->device(), current.file->inode());
  done(current.id, path);
}

/// Of a file that is coming, or of one that was asked for.
void Receiver::give_up(const FileFailed& failed) {
  std::optional<Wanted> wanted;
  if (current_) {
    if (current_->id != failed.id) throw WireBroken("the other side gives up another file");
    if (current_->hasher) wanted.emplace(std::move(current_->wanted));
    if (wanted && current_->file) current_->file->discard(tree_.fd(wanted->parent));
    current_.reset();
  } else {
    const auto found = wanted_.find(failed.id);
    if (found == wanted_.end()) throw WireBroken("the other side gives up a file it does not send");
    wanted.emplace(std::move(found->second));
    wanted_.erase(found);
  }
  if (!wanted) return;  // it failed here before
  ++counts_.failed;
  report_.trouble(failed.trouble, failed.error, tree_.path(wanted->parent) + wanted->name, {});
}

void Receiver::remember(std::uint32_t id, const Wanted& wanted, std::uint64_t device,
                        std::uint64_t inode) {
  if (!wanted.has_links || places_.size() >= links_max) return;
  places_.emplace(id, Place{wanted.parent, wanted.name, device, inode});
}

void Receiver::finish() {
  if (current_ || !wanted_.empty()) {
    throw WireBroken("the other side ends before it has sent what was asked for");
  }
  for (const LateLink& link : late_links_) make_link(link);
  if (!rules_.dry_run) {
    tree_.finish([this](std::uint32_t id, int error) {
      if (error == 0) return done(id, tree_.path(id));
      report_.trouble(trouble_of(error), error, tree_.path(id), {});
      fail(id, trouble_of(error), error);
    });
  }
  out_.say(result_);
  report_.progress(counts_);
  over_ = true;
}

}  // namespace xenlane::bridge::files
