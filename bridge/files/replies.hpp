// The receiver's answers, read by a thread of their own: a sender that is busy writing must not
// keep a receiver from writing.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <variant>
#include <vector>

#include "bridge/files/wire.hpp"

namespace xenlane::bridge::files {

/// Answers that the sender has not looked at; an honest receiver has not half as many to give.
inline constexpr std::size_t replies_max = 64 * 1024;

struct Have {
  std::uint32_t id = 0;
};
struct Done {
  std::uint32_t id = 0;
};

using Reply = std::variant<Want, Have, Done, Failed, Result>;

class Replies {
 public:
  explicit Replies(WireReader& in);
  Replies(const Replies&) = delete;
  Replies& operator=(const Replies&) = delete;
  /// Shuts the socket down if the result has not come.
  ~Replies();

  /// Those that have come since the last call. With `wait` at least one, or WireBroken is thrown.
  std::vector<Reply> take(bool wait);

 private:
  void run();
  bool read_one();

  WireReader& in_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Reply> come_;
  std::exception_ptr broken_;
  std::thread thread_;
};

}  // namespace xenlane::bridge::files
