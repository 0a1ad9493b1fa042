#include "bridge/files/replies.hpp"

#include <sys/socket.h>

namespace xenlane::bridge::files {

Replies::Replies(WireReader& in) : in_(in), thread_([this] { run(); }) {}

Replies::~Replies() {
  // Wakes a thread that waits for what will not come any more.
  ::shutdown(in_.fd(), SHUT_RD);
  thread_.join();
}

std::vector<Reply> Replies::take(bool wait) {
  std::unique_lock lock(mutex_);
  if (wait) changed_.wait(lock, [this] { return !come_.empty() || broken_; });
  if (come_.empty() && broken_) std::rethrow_exception(broken_);
  return std::exchange(come_, {});
}

void Replies::run() {
  try {
    while (read_one()) continue;
  } catch (const WireBroken&) {
    const std::lock_guard lock(mutex_);
    broken_ = std::current_exception();
    changed_.notify_one();
  }
}

/// False after the last one.
bool Replies::read_one() {
  Header header;
  if (!in_.next(header)) throw WireBroken("the connection ended before all was confirmed");
  Reply reply;
  switch (header.type) {
    case MessageType::want:
      reply = in_.read<Want>();
      break;
    case MessageType::have:
      reply = Have{WireReader::checked(decode_id(in_.body()))};
      break;
    case MessageType::done:
      reply = Done{WireReader::checked(decode_id(in_.body()))};
      break;
    case MessageType::failed:
      reply = in_.read<Failed>();
      break;
    case MessageType::result:
      reply = in_.read<Result>();
      break;
    default:
      throw WireBroken("the other side says what only a sender sends");
  }
  const bool is_last = std::holds_alternative<Result>(reply);
  const std::lock_guard lock(mutex_);
  if (come_.size() >= replies_max) throw WireBroken("the other side answers more than was asked");
  come_.push_back(std::move(reply));
  changed_.notify_one();
  return !is_last;
}

}  // namespace xenlane::bridge::files
