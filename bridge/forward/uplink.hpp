// A forward's way to one far side: the channel's named socket, and over it one control stream that
// is made again for as long as it takes. Its being there is what "up" means.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "bridge/forward/request.hpp"
#include "transport/base/signal.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge {

/// Between attempts: doubling from one to the other.
inline constexpr std::chrono::milliseconds uplink_retry_min{100};
inline constexpr std::chrono::milliseconds uplink_retry_max{3000};
/// For an answer to a request: the far side's own waits (bridge/forward/desk.hpp) and some more.
inline constexpr std::chrono::seconds uplink_answer_wait{30};
/// Orders that the bridge does not take; more, and the control stream is given up.
inline constexpr std::size_t uplink_unsaid_bytes_max = 1024 * 1024;

/// A stream that a request was made on.
struct OpenedForward {
  transport::UniqueFd socket;
  std::string token;
  std::string rest;                   ///< what has come behind the answer
  std::optional<ForwardError> error;  ///< instead of all that
};

class Uplink : public std::enable_shared_from_this<Uplink> {
 public:
  using Clock = std::chrono::steady_clock;

  /// `name` is for messages; `changed` is called with a line when it comes up or goes down, or is
  /// down for another reason.
  Uplink(const boost::asio::any_io_executor& executor, std::string name, std::string socket_path,
         std::function<void(const std::string&)> changed);

  void start();
  void close();
  bool is_up() const { return up_; }
  /// Why it is not.
  const std::string& reason() const { return reason_; }
  const std::string& name() const { return name_; }

  /// Opens a stream and makes the request. While the far side is not there it is tried again until
  /// `deadline`, or with `refuse` not at all.
  boost::asio::awaitable<OpenedForward> open(ForwardRequest request, Clock::time_point deadline,
                                             bool refuse);
  /// The connection's other end is to be reset too. False when nobody can be told.
  bool reset(const std::string& token);
  /// `told` is called once, with true if it was reset or nobody can tell.
  void ask_how_ended(const std::string& token, std::function<void(bool reset)> told);

  /// A listener on the far side, asked for again and again.
  struct Listener {
    ForwardAddress address;
    std::function<void(const std::string& token)> accepted;
    /// It listens, or why not.
    std::function<void(const std::optional<ForwardError>&)> changed;
  };
  std::uint32_t add_listener(Listener listener);
  void remove_listener(std::uint32_t number);

 private:
  struct Wanted {
    Listener listener;
    std::chrono::milliseconds retry = uplink_retry_min;
    std::shared_ptr<boost::asio::steady_timer> timer;
  };

  boost::asio::awaitable<void> run();
  boost::asio::awaitable<std::string> hold_control();
  boost::asio::awaitable<OpenedForward> attempt(ForwardRequest request);
  void set_state(bool up, const std::string& reason);
  void handle(const ForwardNews& news);
  void handle_listening(const ForwardListening& news);
  void ask_to_listen(std::uint32_t number);
  bool say(const ForwardOrder& order);
  void flush();

  boost::asio::any_io_executor executor_;
  std::string name_;
  std::string path_;
  std::function<void(const std::string&)> changed_;
  bool up_ = false;
  bool closed_ = false;
  std::string reason_ = "not connected yet";
  std::string last_told_;
  std::shared_ptr<boost::asio::posix::stream_descriptor> control_;
  std::string unsaid_;
  bool writing_ = false;
  std::unordered_map<std::string, std::function<void(bool)>> asked_;
  std::map<std::uint32_t, Wanted> listeners_;
  std::uint32_t next_number_ = 1;
  std::list<std::shared_ptr<transport::Signal>> waiting_;
  boost::asio::steady_timer pause_;
};

}  // namespace xenlane::bridge
