#include "bridge/cli/screen.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string_view>

namespace xenlane::bridge::cli {
namespace {

// ECMA-48 and xterm: the alternate screen, the cursor.
constexpr std::string_view enter_screen = "\033[?1049h\033[?25l";
constexpr std::string_view leave_screen = "\033[?25h\033[?1049l";
constexpr std::string_view home = "\033[H";
constexpr std::string_view clear_line = "\033[K\r\n";
constexpr std::string_view clear_rest = "\033[J";
constexpr std::string_view reversed = "\033[7m";
constexpr std::string_view usual = "\033[0m";

constexpr int awaited[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH};
/// That leave no time for anything but to restore the terminal.
constexpr int deadly[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};

/// For the handler, who can be given nothing.
termios terminal_before = {};
volatile std::sig_atomic_t terminal_known = 0;

void write_all(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (written < 0 && errno != EINTR) return;
    if (written > 0) bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

/// Only calls that a signal's handler may make.
void restore_terminal() {
  write_all(leave_screen);
  if (terminal_known != 0) ::tcsetattr(STDIN_FILENO, TCSANOW, &terminal_before);
}

void restore_and_die(int number) {
  restore_terminal();
  ::signal(number, SIG_DFL);
  ::raise(number);
}

sigset_t awaited_set() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : awaited) ::sigaddset(&set, number);
  return set;
}

winsize size_of_terminal() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0) {
    return {24, 80, 0, 0};
  }
  return size;
}

}  // namespace

Screen::Screen() {
  const sigset_t set = awaited_set();
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  signals_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  for (const int number : deadly) ::signal(number, restore_and_die);
  has_keys_ = ::isatty(STDIN_FILENO) == 1 && ::tcgetattr(STDIN_FILENO, &terminal_before) == 0;
  terminal_known = has_keys_ ? 1 : 0;
  enter();
}

Screen::~Screen() {
  restore_terminal();
  for (const int number : deadly) ::signal(number, SIG_DFL);
  const sigset_t set = awaited_set();
  ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
}

void Screen::enter() const {
  if (has_keys_) {
    termios keys = terminal_before;
    keys.c_lflag &= static_cast<tcflag_t>(~(ICANON | ECHO));
    ::tcsetattr(STDIN_FILENO, TCSANOW, &keys);
  }
  write_all(enter_screen);
}

std::size_t Screen::rows() const {
  return size_of_terminal().ws_row;
}

std::size_t Screen::columns() const {
  return size_of_terminal().ws_col;
}

void Screen::draw(const std::vector<std::string>& lines) const {
  std::string out(home);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i == 0) out += reversed;
    out += lines[i];
    if (i == 0) out += usual;
    // Behind the last row a newline would scroll.
    out += i + 1 < lines.size() ? clear_line : std::string_view("\033[K");
  }
  out += clear_rest;
  write_all(out);
}

Screen::News Screen::handle_signal() {
  signalfd_siginfo info{};
  if (::read(signals_.get(), &info, sizeof info) != sizeof info) return News::redraw;
  const int number = static_cast<int>(info.ssi_signo);
  if (number == SIGWINCH) return News::redraw;
  if (number == SIGTSTP) {
    restore_terminal();
    ::raise(SIGSTOP);
    enter();
    return News::redraw;
  }
  signal_ = number;
  return News::quit;
}

Screen::News Screen::wait(std::chrono::milliseconds longest) {
  const auto end = std::chrono::steady_clock::now() + longest;
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        end - std::chrono::steady_clock::now());
    if (left.count() <= 0) return News::time;
    pollfd polls[] = {{signals_.get(), POLLIN, 0}, {has_keys_ ? STDIN_FILENO : -1, POLLIN, 0}};
    if (::poll(polls, 2, static_cast<int>(left.count()) + 1) <= 0) continue;
    if (polls[0].revents != 0) return handle_signal();
    char key = 0;
    const ssize_t got = ::read(STDIN_FILENO, &key, 1);
    if (got == 0 || (got < 0 && errno != EINTR)) return News::quit;  // the terminal is gone
    if (got == 1 && (key == 'q' || key == 'Q')) return News::quit;
    if (got == 1) return News::redraw;
  }
}

}  // namespace xenlane::bridge::cli
