// The console lane: a Lane over a PV console channel, for a guest that has no vchan (yet). It joins
// a port (the device), a link (order, losses, the other end's life) and blocks (zstd), and keeps
// what it sent until the other end's session has consumed it: unconsumed().
//
// It has timers, told by deadline(): whoever waits on wait_fd() calls acknowledge() when that has
// passed, too. Nothing here blocks, the destructor included; a lane must be gone before another is
// made on its port.
#pragma once

#include <array>
#include <memory>

#include "transport/console/console_port.hpp"
#include "transport/console/input_pause.hpp"
#include "transport/console/link.hpp"
#include "transport/console/packer.hpp"
#include "transport/console/scanner.hpp"
#include "transport/lane.hpp"

namespace xenlane::transport {

/// Raw bytes kept each way; fixed by the protocol, because the receiver relies on it.
inline constexpr std::size_t console_ring_bytes = 128 * 1024;
/// What a peer that is not roomy keeps.
inline constexpr std::size_t console_small_ring_bytes = 64 * 1024;
/// Blocks sent and not wholly released; likewise.
inline constexpr std::size_t console_blocks_max = 512;

struct ConsoleOptions {
  bool zstd = true;         ///< pack, if the other end can unpack; and unpack
  bool own_device = false;  ///< nobody else reads or writes this end's device: take binary
  std::chrono::milliseconds give_up{15000};  ///< without an answer while one is expected
};

struct ConsoleCounters {
  std::uint64_t frames_in = 0;  ///< whole ones, whoever's
  std::uint64_t frames_out = 0;
  std::uint64_t retransmitted_frames = 0;
  std::uint64_t bad_frames = 0;  ///< damaged
  std::uint64_t echoes = 0;
  std::uint64_t foreign_frames = 0;  ///< of other lives
  std::uint64_t raw_bytes_out = 0;
  std::uint64_t packed_bytes_out = 0;  ///< what those became, with the blocks' headers
  std::uint64_t raw_bytes_in = 0;
  std::uint64_t wire_bytes_out = 0;
  std::uint64_t wire_bytes_in = 0;
  bool binary = false;                ///< what this end sends
  std::chrono::microseconds srtt{0};  ///< 0 until measured
};

/// Blocks that fill the link's window where nothing can be packed: enough for both ends to work at
/// once, with an acknowledgement for every other one.
inline constexpr std::size_t console_useful_blocks = 4;
inline constexpr std::size_t packed_share_unit = 1024;

/// Blocks in flight: where each ends among the link's bytes and among the raw ones.
class BlockMap {
 public:
  struct Block {
    std::uint32_t link_end = 0;
    std::uint64_t raw_end = 0;
  };
  bool full() const { return count_ == blocks_.size(); }
  bool empty() const { return count_ == 0; }
  const Block& front() const { return blocks_[begin_]; }
  void push(const Block& block) { blocks_[(begin_ + count_++) % blocks_.size()] = block; }
  void pop() {
    begin_ = (begin_ + 1) % blocks_.size();
    --count_;
  }

 private:
  std::array<Block, console_blocks_max> blocks_{};
  std::size_t begin_ = 0;
  std::size_t count_ = 0;
};

class ConsoleLane final : public Lane {
 public:
  ConsoleLane(std::shared_ptr<ConsolePort> port, const LinkSettings& settings, bool zstd);
  /// Tells the other end, if that is possible at once.
  ~ConsoleLane() override;

  std::string_view kind() const override { return "console"; }
  LaneState state() override;
  std::size_t receive_ring_bytes() const override { return console_ring_bytes; }
  std::size_t send_ring_bytes() const override { return console_ring_bytes; }
  ReadableSpans readable() override;
  void consume(std::size_t count) override;
  WritableSpans writable() override;
  void commit(std::size_t count) override;
  void publish() override;
  std::size_t unconsumed_bytes() override { return committed_ - released_; }
  ReadableSpans unconsumed() override;
  std::size_t useful_bytes_max() const override;
  bool arm(bool want_readable, bool want_writable) override;
  int wait_fd() const override { return port_->wait_fd(); }
  void acknowledge() override;
  std::optional<std::chrono::steady_clock::time_point> deadline() const override;
  std::chrono::microseconds look_away() override;
  void nudge() override;
  std::uint64_t notifications() const override { return port_->writes() - writes_before_; }
  std::string_view trouble() const override;

  ConsoleCounters counters() const;

 private:
  using TimePoint = std::chrono::steady_clock::time_point;
  using Ring = std::array<std::byte, console_ring_bytes>;

  LaneState current_state() const;
  bool is_over() const { return current_state() >= LaneState::closed; }
  TimePoint now();
  bool expects_more() const;
  void look(TimePoint now);
  void read_port(TimePoint now);
  void unpack_blocks();
  void handle_released();
  void release_consumed();
  /// Raw bytes that the peer keeps, and has under way at most.
  std::size_t peer_ring_bytes() const {
    return link_.peer_is_roomy() ? console_ring_bytes : console_small_ring_bytes;
  }
  void pack_blocks(TimePoint now, bool all);
  void write_port(TimePoint now, bool all = false);
  void add_frame(const LinkFrame& frame);

  std::shared_ptr<ConsolePort> port_;
  FrameScanner scanner_;
  InputPause input_pause_;
  ConsoleLink link_;
  BlockPacker packer_;
  BlockUnpacker unpacker_;
  bool zstd_;
  ConsoleCounters counters_;
  std::uint64_t paced_bytes_;      ///< the port's, at the last acknowledge()
  std::uint64_t bytes_in_before_;  ///< by former lanes on the port
  std::uint64_t writes_before_;
  std::uint64_t bytes_out_before_;

  // Raw bytes, counted from the lane's beginning. Sent: released, packed, published, committed, in
  // this order; received: consumed, unpacked.
  Ring send_ring_{};
  std::uint64_t released_ = 0;
  std::uint64_t packed_ = 0;
  std::uint64_t published_ = 0;
  std::uint64_t committed_ = 0;
  bool wants_room_ = false;  ///< at the last arm()
  BlockMap sent_blocks_;
  /// Link bytes for 1024 raw ones, lately.
  std::size_t packed_share_ = packed_share_unit;
  LinkPlace seen_place_;               ///< up to where the peer's releases were taken
  std::uint32_t sent_boundary_ = 0;    ///< where the first block not wholly released begins
  std::uint64_t released_blocks_ = 0;  ///< raw bytes of whole blocks released

  Ring receive_ring_{};
  std::uint64_t unpacked_ = 0;
  std::uint64_t consumed_ = 0;
  std::uint64_t told_consumed_ = 0;  ///< what the peer was last told of it
  BlockMap received_blocks_;
  LinkPlace given_back_;
  std::uint64_t given_back_blocks_ = 0;  ///< raw bytes of whole blocks given back

  TimePoint now_{};
  bool time_known_ = false;

  // What the owner has seen, for arm().
  std::uint64_t seen_unpacked_ = 0;
  std::uint64_t seen_released_ = 0;
  LaneState seen_state_ = LaneState::awaiting_peer;
};

/// Begins a link life on the port, with a random nonce. No other lane may be on it.
std::unique_ptr<ConsoleLane> make_console_lane(std::shared_ptr<ConsolePort> port, ConsoleEnd end,
                                               const ConsoleOptions& options);

}  // namespace xenlane::transport
