// A simulated PV console channel: the guest's tty at one end, QEMU's socket at the other, and what
// lies between with its real sizes: the console's two rings of 1 and 2 KiB, and QEMU's buffer,
// which keeps what was said to nobody and loses its middle when it is full. What the product holds
// are ends of socket pairs; this has the other ends.
//
// How fast it is, how much it keeps and what happens to the bytes on their way is the seed's
// affair.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/sim/environment.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::sim {

class Cable {
 public:
  /// A spared one is slow and piecemeal, but neither loses nor makes up anything.
  explicit Cable(bool spared);

  /// The guest opens its tty: the other end of a new one. Who had it open before has it no more.
  transport::UniqueFd open_tty() { return open(tty_); }
  /// A program on the host connects to QEMU's socket.
  transport::UniqueFd connect() { return open(host_); }

  /// Carries bytes. True when any moved.
  bool step();
  /// Something goes wrong with the whole of it, if it is its turn.
  void strike();
  /// What lasts for a while is over.
  void mend();

  // What its owners' ends mean for it.
  /// Hung up as at a restoration; the guest may open it again.
  void hang_up_tty() { tty_.reset(); }
  /// QEMU drops its client, who may connect again.
  void drop_client() { host_.reset(); }
  /// Whoever has that end open is being killed: it says nothing more.
  void silence_tty() { silence(tty_); }
  void silence_client() { silence(host_); }

 private:
  using Bytes = std::vector<std::byte>;

  transport::UniqueFd open(transport::UniqueFd& end);
  static void silence(const transport::UniqueFd& end);
  bool strikes(Fault fault) { return !spared_ && environment()->strikes(fault); }
  static bool lasts(std::uint64_t until_ns) { return environment()->now_ns() < until_ns; }
  /// When the next bytes that way may move.
  void set_pace(std::uint64_t& due_ns, std::size_t bytes) const;
  bool carry_to_host();
  bool carry_to_guest();
  void damage(Bytes& run);
  void add_log_line(Bytes& run);
  void keep_for_host(const Bytes& run);
  void discard_middle();
  bool send_to_client();

  bool spared_;
  std::uint64_t latency_ns_;
  std::uint64_t byte_ns_;
  std::size_t kept_bytes_max_;  ///< by QEMU
  transport::UniqueFd tty_;     ///< the other end of what the guest has open
  transport::UniqueFd host_;
  Bytes to_guest_;           ///< the ring
  Bytes to_host_;            ///< QEMU's buffer
  bool output_due_ = false;  ///< the guest has said something since QEMU last wrote
  std::uint64_t host_due_ns_ = 0;
  std::uint64_t guest_due_ns_ = 0;
  std::uint64_t stalled_until_ns_ = 0;
  std::uint64_t dead_until_ns_ = 0;
  std::uint64_t echo_until_ns_ = 0;
  std::uint64_t mapped_until_ns_ = 0;
};

}  // namespace xenlane::sim
