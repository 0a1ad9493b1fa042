#include "bridge/channel/program_log.hpp"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "bridge/channel/text.hpp"

namespace xenlane::bridge {

namespace {

/// Read at once before others have their turn: a program that never stops talking must not keep
/// them.
constexpr int reads_max = 16;

}  // namespace

void ProgramLog::start() {
  pipe_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                   [self = shared_from_this()](const boost::system::error_code& error) {
                     if (!error && self->pipe_.is_open() && self->read_all()) self->start();
                   });
}

void ProgramLog::finish() {
  if (!pipe_.is_open()) return;
  read_all();
  if (!line_.empty()) log_line();
  boost::system::error_code ignored;
  pipe_.close(ignored);
}

bool ProgramLog::read_all() {
  std::array<char, 4096> bytes;
  for (int reads = 0; reads < reads_max; ++reads) {
    const ssize_t got = ::read(pipe_.native_handle(), bytes.data(), bytes.size());
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) return false;
    take({bytes.data(), static_cast<std::size_t>(got)});
  }
  return true;
}

void ProgramLog::take(std::string_view bytes) {
  for (const char byte : bytes) {
    if (byte != '\n') line_ += byte;
    if (byte == '\n' || line_.size() == program_line_bytes_max) log_line();
  }
}

void ProgramLog::log_line() {
  if (!line_.empty() && budget_->allows()) {
    spdlog::info("{}: {}{}", name_, escape_untrusted(line_, program_line_bytes_max),
                 budget_->note());
  }
  line_.clear();
}

}  // namespace xenlane::bridge
