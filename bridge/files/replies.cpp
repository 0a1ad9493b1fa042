#include "bridge/files/replies.hpp"

#include <utility>

namespace xenlane::bridge::files {

void Replies::read_some() {
  Header header;
  while (!has_result_ && in_.next_if_whole(header)) read_one(header);
}

void Replies::read_for(std::chrono::nanoseconds time) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + time;
  for (auto now = Clock::now(); now < end && !has_result_; now = Clock::now()) {
    in_.wait(end - now);
    read_some();
  }
}

std::vector<Reply> Replies::take(bool wait) {
  read_some();
  if (wait && come_.empty()) {
    Header header;
    if (!in_.next(header)) throw WireBroken("the connection ended before all was confirmed");
    read_one(header);
  }
  return std::exchange(come_, {});
}

void Replies::read_one(const Header& header) {
  if (come_.size() >= replies_max) throw WireBroken("the other side answers more than was asked");
  switch (header.type) {
    case MessageType::want:
      come_.emplace_back(in_.read<Want>());
      return;
    case MessageType::have:
      come_.emplace_back(Have{WireReader::checked(decode_id(in_.body()))});
      return;
    case MessageType::done:
      come_.emplace_back(Done{WireReader::checked(decode_id(in_.body()))});
      return;
    case MessageType::failed: {
      auto failed = in_.read<Failed>();
      // A copy: the longer text goes.
      failed.text = std::string(std::string_view(failed.text).substr(0, reply_text_bytes_max));
      come_.emplace_back(std::move(failed));
      return;
    }
    case MessageType::result:
      come_.emplace_back(in_.read<Result>());
      has_result_ = true;
      return;
    default:
      throw WireBroken("the other side says what only a sender sends");
  }
}

}  // namespace xenlane::bridge::files
