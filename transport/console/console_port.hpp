// The device under console lanes: a tty in the guest, QEMU's socket on the host. It outlives the
// lanes on it, which follow one another, one at a time; bytes that one lane has not looked at are
// there for the next. When the device has hung up the port is dead, and its owner opens another.
// Never blocks.
#pragma once

#include <array>
#include <boost/system/result.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "transport/base/unique_fd.hpp"

namespace xenlane::transport {

/// How much is read at once, and how much may wait to be written: frames that were made and cannot
/// be taken back, so not more than a write can use.
inline constexpr std::size_t console_input_bytes = 16 * 1024;
inline constexpr std::size_t console_output_bytes = 16 * 1024;

class ConsolePort {
 public:
  /// Takes over a descriptor that does not block. Fails when the kernel has no descriptor left.
  static boost::system::result<std::shared_ptr<ConsolePort>> make(UniqueFd device);

  /// False once the device has hung up: no lane lives on it any more.
  bool usable() const { return trouble_.empty(); }
  /// Why it is not usable; else empty.
  std::string_view trouble() const { return trouble_; }

  /// Readable when there is input, if that is watched, or room for output that waits.
  int wait_fd() const { return events_.get(); }

  /// Bytes that were read and not taken.
  std::span<const std::byte> input() const;
  void take_input(std::size_t count) { input_begin_ += count; }
  /// Reads when nothing is left; false when there is nothing to be had now. Whoever has emptied the
  /// device does not look again until expect_input().
  bool read_input();
  void expect_input() { drained_ = false; }
  void watch_input(bool wanted) { watch(wanted, watching_output_); }

  /// Room behind the output that waits.
  std::span<std::byte> output_room() { return std::span(output_).subspan(output_end_); }
  void add_output(std::size_t count) { output_end_ += count; }
  bool is_socket() const { return is_socket_; }
  bool has_output() const { return output_end_ > 0; }
  /// Writes what waits; false when not all of it went.
  bool write_output();

  std::uint64_t bytes_in() const { return bytes_in_; }
  std::uint64_t bytes_out() const { return bytes_out_; }
  std::uint64_t writes() const { return writes_; }

  /// Whether a lane uses it; that is kept by the lane.
  bool in_use = false;

 private:
  ConsolePort(UniqueFd device, UniqueFd events);
  bool watch(bool input, bool output);
  void fail(int error);

  UniqueFd device_;
  UniqueFd events_;  ///< an epoll descriptor with device_ in it
  bool is_socket_ = false;
  bool watching_input_ = true;
  bool watching_output_ = false;
  bool drained_ = false;  ///< the last read left nothing
  std::string_view trouble_;
  std::array<std::byte, console_input_bytes> input_{};
  std::size_t input_begin_ = 0;
  std::size_t input_end_ = 0;
  std::array<std::byte, console_output_bytes> output_{};
  std::size_t output_end_ = 0;
  std::uint64_t bytes_in_ = 0;
  std::uint64_t bytes_out_ = 0;
  std::uint64_t writes_ = 0;
};

}  // namespace xenlane::transport
