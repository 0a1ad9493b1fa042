// The terminal while a program has it to itself: the alternate screen, keys as they are pressed,
// signals as events. However the program ends, the terminal is as it was.
#pragma once

#include <termios.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge::cli {

/// One at a time, on standard input and output.
class Screen {
 public:
  enum class News {
    time,    ///< so long has passed
    redraw,  ///< the size is another, or the terminal is back after a stop
    quit,    ///< q, Ctrl-C, or a signal to end: see signal()
  };

  Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;
  ~Screen();

  std::size_t rows() const;
  std::size_t columns() const;
  /// The first line stands out. No more lines than rows, no wider than columns.
  void draw(const std::vector<std::string>& lines) const;
  News wait(std::chrono::milliseconds longest);
  /// What ended it, for after the terminal is restored; 0: a key.
  int signal() const { return signal_; }

 private:
  News handle_signal();
  void enter() const;

  transport::UniqueFd signals_;
  bool has_keys_ = false;
  int signal_ = 0;
};

}  // namespace xenlane::bridge::cli
