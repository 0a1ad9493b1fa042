#include "bridge/channel/programs.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <csignal>
#include <set>
#include <utility>
#include <vector>

#include "bridge/channel/program_log.hpp"
#include "transport/base/await_exit.hpp"
#include "transport/base/spawn.hpp"

namespace xenlane::bridge {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using transport::UniqueFd;

namespace {

boost::system::error_code program_error(int error) {
  return {error, boost::system::generic_category()};
}

/// One end of a new pair for each side; the program's blocks, ours does not.
struct SocketPair {
  UniqueFd ours;
  UniqueFd theirs;
};

boost::system::result<SocketPair> make_pair(SocketKind kind) {
  const int type = kind == SocketKind::seqpacket ? SOCK_SEQPACKET : SOCK_STREAM;
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) != 0) return program_error(errno);
  SocketPair pair{UniqueFd(ends[0]), UniqueFd(ends[1])};
  ::fcntl(pair.ours.get(), F_SETFL, O_NONBLOCK);
  return pair;
}

/// Waits until the child has said how it went; its errno value, or 0 for a program that runs.
asio::awaitable<int> await_outcome(asio::any_io_executor executor, UniqueFd outcome,
                                   milliseconds deadline) {
  constexpr auto token = asio::as_tuple(asio::use_awaitable);
  auto pipe = std::make_shared<asio::posix::stream_descriptor>(executor, outcome.release());
  asio::steady_timer timer(executor, deadline);
  timer.async_wait([weak = std::weak_ptr(pipe)](const auto& error) {
    if (const auto waiting = weak.lock(); waiting && !error) waiting->cancel();
  });
  for (;;) {
    int error = 0;
    const ssize_t got = ::read(pipe->native_handle(), &error, sizeof error);
    if (got == 0) co_return 0;
    if (got == sizeof error) co_return error;
    auto [failed] = co_await pipe->async_wait(asio::posix::descriptor_base::wait_read, token);
    if (failed) co_return ETIMEDOUT;
  }
}

}  // namespace

struct Programs::State {
  asio::any_io_executor executor;
  std::set<std::shared_ptr<Supervised>> running{};
  /// Of all programs together: their lines are many, and who asks for them decides how many.
  std::shared_ptr<LogBudget> lines = std::make_shared<LogBudget>();
  std::size_t count(const std::string& channel) const;
};

class Programs::Supervised final : public Program, public std::enable_shared_from_this<Supervised> {
 public:
  Supervised(const asio::any_io_executor& executor, std::string of_channel)
      : channel(std::move(of_channel)), grace(executor) {}

  void hang_up() override {
    if (reaped || hung_up || pid <= 0) return;
    hung_up = true;
    ::kill(-pid, SIGHUP);
    ::kill(-pid, SIGCONT);  // a stopped one would not notice
    grace.expires_after(hang_up_grace);
    grace.async_wait([self = shared_from_this()](const auto& error) {
      if (!error && !self->reaped) ::kill(-self->pid, SIGKILL);
    });
  }
  /// Takes note of its end, which must have come. Until here its group's number is its own.
  void reap() {
    if (hung_up) ::kill(-pid, SIGKILL);
    int status = 0;
    ::waitpid(pid, &status, WNOHANG);
    reaped = true;
    if (log) log->finish();
    spdlog::debug("channel {}: program {} ended ({} {})", channel, pid,
                  WIFSIGNALED(status) ? "signal" : "exit",
                  WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
  }

  std::string channel;
  pid_t pid = 0;
  asio::steady_timer grace;
  std::shared_ptr<ProgramLog> log;
  bool hung_up = false;
  bool reaped = false;
};

std::size_t Programs::State::count(const std::string& channel) const {
  return static_cast<std::size_t>(std::count_if(
      running.begin(), running.end(), [&](const auto& one) { return one->channel == channel; }));
}

Programs::Programs(const asio::any_io_executor& executor)
    : state_(std::make_shared<State>(State{executor})) {}

Programs::~Programs() = default;

std::size_t Programs::running(const std::string& channel) const {
  return state_->count(channel);
}

asio::awaitable<boost::system::result<StartedProgram>> Programs::start(
    ProgramOrder order, milliseconds deadline) const {
  return start_in(state_, std::move(order), deadline);
}

asio::awaitable<boost::system::result<StartedProgram>> Programs::start_in(
    std::shared_ptr<State> state, ProgramOrder order, milliseconds deadline) {
  if (state->count(order.channel) >= order.running_max) co_return program_error(EAGAIN);
  auto sockets = make_pair(order.socket);
  if (!sockets) co_return sockets.error();
  int errors[2] = {-1, -1};
  if (::pipe2(errors, O_CLOEXEC) != 0) co_return program_error(errno);
  UniqueFd errors_ours(errors[0]);
  UniqueFd errors_theirs(errors[1]);
  ::fcntl(errors_ours.get(), F_SETFL, O_NONBLOCK);
  auto spawned = spawn_program(order.start, sockets->theirs.get(), errors_theirs.get());
  if (!spawned) co_return spawned.error();
  sockets->theirs.reset();
  errors_theirs.reset();

  auto program = std::make_shared<Supervised>(state->executor, order.channel);
  program->pid = spawned->pid;
  program->log = std::make_shared<ProgramLog>(
      state->executor, std::move(errors_ours),
      fmt::format("channel {}: program {}", order.channel, program->pid), state->lines);
  program->log->start();
  state->running.insert(program);
  asio::co_spawn(state->executor, supervise(state, program), transport::or_throw);
  const int error = co_await await_outcome(state->executor, std::move(spawned->outcome), deadline);
  if (error == ETIMEDOUT && !program->reaped) {
    // It may not lead a group yet.
    ::kill(program->pid, SIGKILL);
  }
  if (error != 0) co_return program_error(error);
  spdlog::debug("channel {}: started program {}: {}", order.channel, program->pid,
                order.start.command.front());
  co_return StartedProgram{std::move(sockets->ours), program};
}

asio::awaitable<void> Programs::supervise(std::shared_ptr<State> state,
                                          std::shared_ptr<Supervised> program) {
  co_await transport::await_end(state->executor, program->pid);
  // The rest of its group has until then, and its number must not be another's while it is killed.
  if (program->hung_up) {
    co_await program->grace.async_wait(asio::as_tuple(asio::use_awaitable));
  }
  if (!program->reaped) program->reap();
  state->running.erase(program);
}

void Programs::end_all() {
  std::vector<pollfd> ends;
  std::vector<UniqueFd> processes;
  for (const auto& program : state_->running) {
    program->hang_up();
    processes.emplace_back(static_cast<int>(::syscall(SYS_pidfd_open, program->pid, 0)));
    ends.push_back({processes.back().get(), POLLIN, 0});
  }
  const auto deadline = steady_clock::now() + hang_up_grace;
  while (!ends.empty() && steady_clock::now() < deadline) {
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - steady_clock::now());
    ::poll(ends.data(), ends.size(), static_cast<int>(left.count()) + 1);
    std::erase_if(ends, [](const pollfd& end) { return end.fd < 0 || end.revents != 0; });
  }
  for (const auto& program : state_->running) {
    ::kill(-program->pid, SIGKILL);
    ::kill(program->pid, SIGKILL);  // one that has only been forked leads no group yet
    siginfo_t ended{};
    ::waitid(P_PID, static_cast<id_t>(program->pid), &ended, WEXITED | WNOWAIT);
    program->reap();
  }
  state_->running.clear();
}

}  // namespace xenlane::bridge
