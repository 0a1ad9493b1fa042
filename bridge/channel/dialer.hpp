// Connects a dialled channel's target: the one place that knows what each kind of target takes.
// Whoever dials is given a socket like any other and does not learn what is behind it.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/system/result.hpp>
#include <chrono>
#include <functional>
#include <memory>

#include "bridge/channel/target.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge {

/// A connected, non-blocking socket, or the errno value that says why not.
using DialResult = boost::system::result<transport::UniqueFd>;

class Dialer {
 public:
  /// `deadline` is for a target that is there and does not take the connection yet.
  Dialer(const boost::asio::any_io_executor& executor, std::chrono::milliseconds deadline);

  /// What connects to the built-in service; without it "builtin:bench" is ENOTSUP.
  using BuiltIn = std::function<DialResult()>;
  void set_bench(BuiltIn start);

  /// Connects. Before each further attempt `wanted` is asked; when it says no, or when the deadline
  /// has passed, the last error stands. May outlive the dialer.
  boost::asio::awaitable<DialResult> dial(Target target, std::function<bool()> wanted) const;

 private:
  struct State;
  static boost::asio::awaitable<DialResult> run(std::shared_ptr<const State> state, Target target,
                                                std::function<bool()> wanted);

  std::shared_ptr<State> state_;
};

}  // namespace xenlane::bridge
