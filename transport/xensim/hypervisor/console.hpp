// A named PV console, which xl calls a channel, without its two ends: the rings between the guest's
// hvc driver and QEMU, QEMU's buffer for the host's client, and faults that can be switched on.
//
// The one idea: QEMU (hw/char/xen_console.c) does something for its client only when the guest
// causes an event, by output or by taking input. So a client that comes late gets what it missed
// with the next event and not before, and what its socket refused waits for the one after.
//
// No I/O, no clock. Whatever is random comes from the seed and the bytes that pass, so a run with
// the same bytes loses the same ones. The ends are console_server.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace xensim::hv {

/// The two rings of xen/io/console.h.
inline constexpr std::size_t console_in_bytes = 1024;   ///< to the guest
inline constexpr std::size_t console_out_bytes = 2048;  ///< from the guest
/// The node `limit` that libxl writes (LIBXL_XENCONSOLE_LIMIT): the most that QEMU keeps.
inline constexpr std::size_t console_limit_bytes = std::size_t{1} << 20;
/// hvc1 to hvc9: the kernel takes the number from the last digit of the device's node.
inline constexpr std::size_t channels_max = 9;
inline constexpr std::size_t channel_name_bytes_max = 63;

/// By the rule of xen-pv-channel(7). Throws std::invalid_argument with a one-line text.
void check_channel_name(const std::string& name);

/// What `xensim set DOMAIN console...` switches.
struct ConsoleFaults {
  bool is_on = true;                        ///< false: as if QEMU had died
  unsigned loss_permille = 0;               ///< this share of the bytes vanishes, both ways
  bool echoes = false;                      ///< the guest's tty gives back what the host sends
  bool has_noise = false;                   ///< the guest's kernel logs to this console
  std::size_t limit = console_limit_bytes;  ///< the most that QEMU keeps
};

bool is_console_setting(std::string_view key);
/// Throws std::invalid_argument with a one-line text.
void apply_console_setting(ConsoleFaults& faults, std::string_view key, const std::string& value);

/// A ring of the console page, with its positions kept apart from its bytes.
class ConsoleRing {
 public:
  explicit ConsoleRing(std::size_t bytes) : bytes_(bytes, '\0') {}

  std::size_t room() const { return bytes_.size() - held_; }
  bool is_empty() const { return held_ == 0; }
  /// At most `room()` bytes.
  void put(std::string_view bytes);
  /// The oldest bytes, as far as they lie in one piece.
  std::string_view front() const;
  void drop(std::size_t bytes);

 private:
  std::string bytes_;
  std::size_t begin_ = 0;
  std::size_t held_ = 0;
};

/// QEMU's buffer. What its client has taken counts until all of it has been taken; when more than
/// the limit is held, the newest bytes replace those just below the limit.
class ConsoleBacklog {
 public:
  /// Returns how many bytes nobody will get.
  std::size_t append(std::string_view bytes, std::size_t limit);
  std::string_view front() const { return std::string_view(bytes_).substr(taken_); }
  void drop(std::size_t bytes);

 private:
  std::string bytes_;
  std::size_t taken_ = 0;
};

/// Loses runs of 1 to 64 bytes of one direction.
class ByteLoss {
 public:
  /// Returns what is left of `bytes`, which follow those of the last call.
  std::string pass(std::string_view bytes, unsigned permille, std::mt19937_64& random);
  void start_afresh() { *this = ByteLoss{}; }

 private:
  bool is_losing_ = true;
  std::size_t until_change_ = 0;
};

class Console {
 public:
  struct Counts {
    std::uint64_t to_guest = 0;  ///< bytes the guest's tty has taken
    std::uint64_t to_host = 0;   ///< bytes a client has taken
    std::uint64_t dropped = 0;   ///< bytes that neither will
  };

  explicit Console(std::uint64_t seed) : random_(seed) {}

  // The guest's side.
  std::size_t guest_room() const { return out_.room(); }
  /// The guest writes at most `guest_room()` bytes: an event.
  void handle_guest_output(std::string_view bytes);
  /// The guest's output never came as far as the ring.
  void handle_output_dropped(std::size_t bytes) { counts_.dropped += bytes; }
  /// What waits for the guest.
  std::string_view poll_input() const { return in_.front(); }
  /// The guest has taken some of it: an event.
  void handle_input_taken(std::size_t bytes);

  // The host's side.
  void handle_client(bool is_there);
  /// How many bytes may be read of the client now.
  std::size_t client_room() const;
  /// At most `client_room()` bytes.
  void handle_client_bytes(std::string_view bytes);
  /// What is to be written to the client now: once for each event, and never if there is none.
  std::string_view poll_output() const;
  /// How much of it went; zero if nothing did.
  void handle_output_taken(std::size_t bytes);

  const ConsoleFaults& faults() const { return faults_; }
  /// If this switches the console off, the client is gone.
  void set_faults(const ConsoleFaults& faults);
  const Counts& counts() const { return counts_; }
  /// Bytes that QEMU keeps for a client.
  std::size_t backlog() const { return backlog_.front().size(); }

 private:
  void handle_event();
  void append(std::string_view bytes);
  std::string with_noise(std::string_view bytes);

  std::mt19937_64 random_;
  ConsoleFaults faults_;
  ConsoleRing in_{console_in_bytes};
  ConsoleRing out_{console_out_bytes};
  ConsoleBacklog backlog_;
  bool has_client_ = false;
  bool is_due_ = false;  ///< an event happened that the client has not been served for
  ByteLoss loss_to_guest_;
  ByteLoss loss_to_host_;
  std::size_t until_noise_ = 0;
  std::uint64_t kernel_us_ = 123'456'789;
  Counts counts_;
};

}  // namespace xensim::hv
