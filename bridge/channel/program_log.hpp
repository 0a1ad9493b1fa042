// What a program that was started for a connection says on standard error, line by line in the
// daemon's log: escaped, cut, and no more of it than a budget allows.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "bridge/channel/log_budget.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge {

/// Longest line; what is behind begins another.
inline constexpr std::size_t program_line_bytes_max = 512;

class ProgramLog : public std::enable_shared_from_this<ProgramLog> {
 public:
  /// `pipe` is the non-blocking end that is read; `name` begins each line.
  ProgramLog(const boost::asio::any_io_executor& executor, transport::UniqueFd pipe,
             std::string name, std::shared_ptr<LogBudget> budget)
      : pipe_(executor, pipe.release()), name_(std::move(name)), budget_(std::move(budget)) {}

  /// Reads until the pipe ends or finish() is called.
  void start();
  /// Logs what is there, and reads no more: whoever the program left behind may hold the pipe.
  void finish();

 private:
  /// False at the pipe's end.
  bool read_all();
  void take(std::string_view bytes);
  void log_line();

  boost::asio::posix::stream_descriptor pipe_;
  std::string name_;
  std::shared_ptr<LogBudget> budget_;
  std::string line_;
};

}  // namespace xenlane::bridge
