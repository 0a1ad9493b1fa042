// The configuration loader: any text as a daemon's main file. Every fault has a place in it and is
// one line; a configuration without faults keeps all that docs/configuration.md promises; and the
// same text always means the same.
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cstdlib>

#include "bridge/cli/exit_codes.hpp"
#include "bridge/daemon/config.hpp"
#include "tests/fuzz/input.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::fuzz {

void fuzz_config(Bytes input);

namespace {

using namespace bridge;  // NOLINT(google-build-using-namespace): this file is about little else

/// A file that has a path and leaves nothing behind.
class MemoryFile {
 public:
  MemoryFile() : fd_(::memfd_create("configuration", MFD_CLOEXEC)) { FUZZ_CHECK(fd_); }

  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_.get()); }
  void set(std::string_view text) const {
    FUZZ_CHECK(::ftruncate(fd_.get(), 0) == 0);
    FUZZ_CHECK(::pwrite(fd_.get(), text.data(), text.size(), 0) ==
               static_cast<ssize_t>(text.size()));
  }

 private:
  transport::UniqueFd fd_;
};

void check_diagnostic(const Diagnostic& diagnostic, std::size_t lines) {
  FUZZ_CHECK(diagnostic.where.line >= 1 && diagnostic.where.line <= lines);
  FUZZ_CHECK(!diagnostic.message.empty());
  const std::string shown = format_diagnostic(diagnostic);
  FUZZ_CHECK(is_printable(shown));
  FUZZ_CHECK(shown.find(diagnostic.message) != std::string::npos);
}

void check_channel(const ChannelConfig& channel, const BridgeConfig& config, Side side) {
  FUZZ_CHECK(channel.where.line >= 1);
  if (!channel.error.empty()) return;
  FUZZ_CHECK(!channel.name.is_reserved());
  FUZZ_CHECK(channel.target.has_value() == (channel.end == EndKind::dial));
  FUZZ_CHECK(channel.socket_mode <= 0777);
  FUZZ_CHECK(side == Side::host || channel.guest == "*");
  if (channel.end == EndKind::dial) return;
  const std::string path = config.run_dir + '/' + channel.name.text();
  FUZZ_CHECK(path.size() <= unix_path_bytes_max);
}

void check_settings(const BridgeConfig& config) {
  const Limits& limits = config.limits;
  FUZZ_CHECK(limits.streams_max >= 1 && limits.open_backlog_max >= 1);
  FUZZ_CHECK(limits.stream_window_bytes_min >= 1);
  FUZZ_CHECK(limits.stream_window_bytes_min <= limits.stream_window_bytes_max);
  FUZZ_CHECK(limits.stream_window_bytes_max <= limits.session_window_bytes);
  FUZZ_CHECK(2 * limits.streams_max * limits.stream_window_bytes_min <=
             limits.session_window_bytes);
  FUZZ_CHECK(std::has_single_bit(config.vchan.ring_bytes_min));
  FUZZ_CHECK(std::has_single_bit(config.vchan.ring_bytes_max));
  FUZZ_CHECK(config.vchan.ring_bytes_min <= config.vchan.ring_bytes_max);
  FUZZ_CHECK(config.vchan.ring_bytes_min >= ring_bytes_min);
  FUZZ_CHECK(config.timeouts.retry_ms_min <= config.timeouts.retry_ms_max);
  FUZZ_CHECK(config.run_dir.starts_with('/') && config.run_dir.size() < unix_path_bytes_max);
  FUZZ_CHECK(!config.guests.empty());
}

bool same_diagnostics(const ConfigLoad& one, const ConfigLoad& other) {
  return std::equal(one.diagnostics.begin(), one.diagnostics.end(), other.diagnostics.begin(),
                    other.diagnostics.end(), [](const Diagnostic& a, const Diagnostic& b) {
                      return a.where == b.where && a.message == b.message;
                    });
}

}  // namespace

void fuzz_config(Bytes input) {
  static const MemoryFile file;
  static std::FILE* const nowhere = std::fopen("/dev/null", "w");
  Input choices(input);
  const Side side = choices.flag() ? Side::host : Side::guest;
  const std::string text = text_of(choices.rest());
  file.set(text);
  const ConfigLoad load = load_config(side, file.path());
  const auto lines = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
  for (const Diagnostic& diagnostic : load.diagnostics) check_diagnostic(diagnostic, lines);
  for (const ChannelConfig& channel : load.config.channels) {
    check_channel(channel, load.config, side);
  }
  if (!load.is_fatal()) check_settings(load.config);
  FUZZ_CHECK(print_check(load, nowhere) == (load.has_errors() ? exit_configuration : exit_ok));
  for (const ChannelConfig* channel : channels_for(load.config, "web")) {
    FUZZ_CHECK(find_channel(load.config, channel->name, "web") == channel);
  }
  FUZZ_CHECK(same_diagnostics(load, load_config(side, file.path())));
}

}  // namespace xenlane::fuzz
