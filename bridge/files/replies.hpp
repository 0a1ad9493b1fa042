// The receiver's answers: read whenever some have come, also while the sender waits for room to
// write, or the two might wait for each other.
#pragma once

#include <variant>
#include <vector>

#include "bridge/files/wire.hpp"

namespace xenlane::bridge::files {

/// Answers that the sender has not looked at; an honest receiver has not half as many to give.
inline constexpr std::size_t replies_max = 64 * 1024;
/// Of a failure's text; what is shown of it is no longer.
inline constexpr std::size_t reply_text_bytes_max = 256;

struct Have {
  std::uint32_t id = 0;
};
struct Done {
  std::uint32_t id = 0;
};

using Reply = std::variant<Want, Have, Done, Failed, Result>;

class Replies {
 public:
  explicit Replies(WireReader& in) : in_(in) {}

  /// Reads what has come, without waiting.
  void read_some();
  /// The same for so long.
  void read_for(std::chrono::nanoseconds time);
  /// Those that were read since the last call. With `wait` there is at least one.
  std::vector<Reply> take(bool wait);

 private:
  void read_one(const Header& header);

  WireReader& in_;
  std::vector<Reply> come_;
  bool has_result_ = false;  ///< nothing comes behind it but the connection's end
};

}  // namespace xenlane::bridge::files
