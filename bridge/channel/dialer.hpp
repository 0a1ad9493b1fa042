// Connects a dialled channel's target: the one place that knows what each kind of target takes.
// Whoever dials is given a socket like any other and does not learn what is behind it.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/system/result.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>

#include "bridge/channel/caller.hpp"
#include "bridge/channel/programs.hpp"
#include "bridge/channel/run_as.hpp"
#include "bridge/channel/target.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge {

/// Connections being dialled at once, and those that nobody wants any more and that are not known
/// to have failed yet; one more is EAGAIN.
inline constexpr std::size_t dials_max = 256;

/// What to connect, and on whose behalf.
struct DialOrder {
  Target target;
  SocketKind socket = SocketKind::stream;
  bool proxy_protocol = false;
  std::optional<RunAs> run_as = {};
  std::uint32_t exec_max = 0;
  Caller caller = {};
};

struct Dialled {
  transport::UniqueFd socket;        ///< connected, non-blocking
  std::shared_ptr<Program> program;  ///< behind it, if it was started for this connection
};

/// Why not: an errno value, and words for the other side and the log.
struct DialFailure {
  int error = 0;
  std::string text;
};

[[noreturn]] inline void throw_exception_from_error(const DialFailure& failure,
                                                    const boost::source_location& /*where*/) {
  throw std::runtime_error(failure.text);
}

using DialResult = boost::system::result<Dialled, DialFailure>;

class Dialer {
 public:
  /// `deadline` is for everything: the look-up of a name, and a target that is there and does not
  /// take the connection yet. Each of a name's addresses has an equal share of what is left.
  Dialer(const boost::asio::any_io_executor& executor, std::chrono::milliseconds deadline);

  /// What connects to the built-in service; without it "builtin:bench" is ENOTSUP.
  using BuiltIn = std::function<boost::system::result<transport::UniqueFd>()>;
  void set_bench(BuiltIn start);

  /// Connects. Before each further attempt `wanted` is asked; when it says no, or when the deadline
  /// has passed, the last error stands. May outlive the dialer.
  boost::asio::awaitable<DialResult> dial(DialOrder order, std::function<bool()> wanted) const;

  /// Of exec targets.
  Programs& programs();

 private:
  struct State;
  struct UnderWay;
  static boost::asio::awaitable<DialResult> run(std::shared_ptr<State> state, DialOrder order,
                                                std::function<bool()> wanted);

  std::shared_ptr<State> state_;
};

}  // namespace xenlane::bridge
