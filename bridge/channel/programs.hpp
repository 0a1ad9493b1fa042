// The programs of exec targets while they live: how many there may be, what they say on standard
// error, how they end, and how they are ended when their connection breaks.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/system/result.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "bridge/channel/spawn_program.hpp"
#include "bridge/wire/frame.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge {

/// Between SIGHUP and SIGKILL.
inline constexpr std::chrono::seconds hang_up_grace{5};

/// One program that was started.
class Program {
 public:
  Program() = default;
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  virtual ~Program() = default;

  /// Its connection broke: its process group gets SIGHUP, and after hang_up_grace SIGKILL. Nothing
  /// when it has ended by itself, or was told before.
  virtual void hang_up() = 0;
};

/// What to start, and for which channel.
struct ProgramOrder {
  ProgramStart start;
  std::string channel;
  SocketKind socket = SocketKind::stream;
  std::uint32_t running_max = 0;  ///< of the channel's programs
};

struct StartedProgram {
  transport::UniqueFd socket;  ///< connected, non-blocking
  std::shared_ptr<Program> program;
};

class Programs {
 public:
  explicit Programs(const boost::asio::any_io_executor& executor);
  Programs(const Programs&) = delete;
  Programs& operator=(const Programs&) = delete;
  /// Those that still run go on without supervision; see end_all().
  ~Programs();

  /// Starts one and waits until it runs, or until `deadline` has passed (ETIMEDOUT). Else the errno
  /// value of what is wrong: EAGAIN for too many, ENOENT or EACCES for the program itself. May
  /// outlive this object.
  boost::asio::awaitable<boost::system::result<StartedProgram>> start(
      ProgramOrder order, std::chrono::milliseconds deadline) const;

  /// Of a channel's programs, those that have not ended and been taken note of.
  std::size_t running(const std::string& channel) const;

  /// Hangs all up and waits until they have ended, by blocking, for hang_up_grace at most; then
  /// kills what is left. For who ends the process: nothing else runs meanwhile.
  void end_all();

 private:
  struct State;
  class Supervised;

  static boost::asio::awaitable<boost::system::result<StartedProgram>> start_in(
      std::shared_ptr<State> state, ProgramOrder order, std::chrono::milliseconds deadline);
  static boost::asio::awaitable<void> supervise(std::shared_ptr<State> state,
                                                std::shared_ptr<Supervised> program);

  std::shared_ptr<State> state_;
};

}  // namespace xenlane::bridge
