// Two muxes joined by two byte pipes in memory, with virtual sockets at their streams.
//
// A Peer does what the session driver and the channel table do, without I/O: it moves bytes between
// pipe and mux, plays each stream's socket from a script (End), and checks what arrives. Every byte
// of a stream is a function of stream, direction and position, so a byte that is lost, doubled,
// altered or from elsewhere is seen when it comes.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "bridge/mux/mux.hpp"
#include "bridge/session/session.hpp"

namespace xenlane::bridge::test {

inline constexpr std::uint64_t no_limit = std::numeric_limits<std::uint64_t>::max();

/// The byte at `position` of what `from` sends on stream `id`.
inline std::byte pattern_byte(StreamId id, Role from, std::uint64_t position) {
  const std::uint64_t mixed = (position * 0x9E3779B97F4A7C15U) ^ (std::uint64_t{id} << 20) ^
                              (from == Role::host ? 0x5555U : 0xAAAAU);
  return static_cast<std::byte>((mixed >> 16) ^ mixed ^ (mixed >> 40));
}

/// A ring of bytes with the span interface of a lane. What was committed arrives in pieces: how a
/// frame looks whose sender has published only a part of it.
class Pipe {
 public:
  explicit Pipe(std::size_t capacity) : bytes_(capacity) {}

  /// Shows the reader up to `count` more of the committed bytes. True when there were any.
  bool let_arrive(std::size_t count) {
    const std::size_t more = std::min(count, used_ - arrived_);
    arrived_ += more;
    return more > 0;
  }
  transport::ReadableSpans readable() const {
    return slices<const std::byte>(bytes_.data(), head_, arrived_);
  }
  transport::WritableSpans writable() {
    return slices<std::byte>(bytes_.data(), (head_ + used_) % bytes_.size(), bytes_.size() - used_);
  }
  void commit(std::size_t count) { used_ += count; }
  void consume(std::size_t count) {
    head_ = (head_ + count) % bytes_.size();
    used_ -= count;
    arrived_ -= count;
  }
  std::size_t used() const { return used_; }
  /// Puts bytes in as they are; they must fit.
  void put(std::span<const std::byte> bytes) {
    ASSERT_LE(bytes.size(), writable().size());
    copy_in(writable(), 0, bytes);
    commit(bytes.size());
  }

 private:
  template <typename Byte, typename Data>
  transport::RingSpans<Byte> slices(Data* data, std::size_t offset, std::size_t count) const {
    const std::size_t until_end = std::min(count, bytes_.size() - offset);
    return {{data + offset, until_end}, {data, count - until_end}};
  }

  std::vector<std::byte> bytes_;
  std::size_t head_ = 0;
  std::size_t used_ = 0;
  std::size_t arrived_ = 0;
};

/// One stream's virtual socket: what its application does, and what became of it.
struct End {
  std::uint64_t to_send = 0;               ///< bytes the application writes in all
  bool finishes = true;                    ///< half-closes after them
  std::uint64_t read_per_step = no_limit;  ///< how fast it reads; 0: never
  std::uint32_t read_chunk_max = ~0U;      ///< most bytes one read of its socket gives

  std::uint64_t sent = 0;
  std::uint64_t received = 0;
  std::uint64_t held = 0;  ///< received and not yet read
  bool accepted = false;
  bool finished = false;
  bool peer_finished = false;
  bool stop_requested = false;
  bool peer_reset = false;
  bool dropped = false;  ///< reset by this side
  std::optional<std::uint16_t> refused;

  bool over() const { return (finished && peer_finished) || peer_reset || dropped || refused; }
};

/// Sends that much, reads everything, then finishes.
inline End sends(std::uint64_t bytes) {
  End end;
  end.to_send = bytes;
  return end;
}

/// Keeps the stream open: sends nothing and does not finish.
inline End quiet() {
  End end;
  end.finishes = false;
  return end;
}

inline End never_reads() {
  End end = quiet();
  end.read_per_step = 0;
  return end;
}

class Peer {
 public:
  Peer(Role role, const MuxLimits& ours, const MuxLimits& theirs, Pipe& in, Pipe& out)
      : mux(role, ours, theirs), role_(role), limits_(ours), in_(in), out_(out) {}

  Mux mux;
  std::map<StreamId, End> ends;
  std::optional<std::string> violation;
  std::vector<std::uint64_t> pongs;
  std::vector<std::string> goodbyes;
  std::vector<std::string> names;  ///< of the streams that the peer opened
  /// Decides on an OPEN; accepts when empty. What it leaves unanswered stays so.
  std::function<void(const OpenRequested&)> on_open;

  StreamId open(const End& end, std::string name = "org.example.test") {
    const StreamId id = mux.open(EndShape::service, std::move(name));
    ends[id] = end;
    return id;
  }
  /// Accepts; what has come right behind the OPEN stays counted.
  void accept(StreamId id, const End& script) {
    mux.accept(id);
    End& end = ends[id];
    end.to_send = script.to_send;
    end.finishes = script.finishes;
    end.read_per_step = script.read_per_step;
    end.read_chunk_max = script.read_chunk_max;
    end.accepted = true;
  }
  void refuse(StreamId id, std::uint16_t error) {
    throw_away(id, ends.at(id));
    ends.at(id).dropped = true;
    mux.refuse(id, error, "refused by the test");
  }
  void reset(StreamId id) {
    End& end = ends.at(id);
    mux.reset(id, StreamError::cancelled);
    end.dropped = true;
    throw_away(id, end);
  }
  /// The application takes what is there and closes the reading half.
  void stop(StreamId id) {
    mux.stop_sending(id, StreamError::cancelled);
    throw_away(id, ends.at(id));
    ends.at(id).read_per_step = no_limit;
  }

  /// One pass of applications, input and output. True when anything moved.
  bool step(std::size_t arriving) {
    const bool applications = run_applications();
    const bool arrived = in_.let_arrive(arriving);
    const bool input = take_input();
    const bool output = give_output();
    EXPECT_LE(mux.held_bytes(), limits_.session_window_bytes);
    return applications || arrived || input || output;
  }

 private:
  bool run_applications() {
    bool moved = false;
    for (auto& [id, end] : ends) {
      const std::uint64_t read = std::min(end.held, end.read_per_step);
      if (read > 0) {
        end.held -= read;
        mux.delivered(id, read);
        moved = true;
      }
      if (!mux.has_stream(id) || end.over()) continue;
      const bool writing = !end.finished && (end.accepted || id % 2 == own_parity());
      if (writing && end.sent < end.to_send) mux.source_ready(id);
      if (writing && end.sent == end.to_send && end.finishes) {
        mux.finish(id);
        end.finished = true;
        moved = true;
      }
    }
    return moved;
  }

  bool take_input() {
    bool moved = false;
    while (!violation) {
      const auto bytes = in_.readable();
      const InputStep step = mux.handle_input(bytes);
      std::size_t used = step.consumed;
      if (const auto* chunk = std::get_if<Chunk>(&step.event)) {
        deliver(*chunk, bytes.slice(used, chunk->size));
        used += chunk->size;
      } else {
        handle(step.event);
      }
      in_.consume(used);
      if (used == 0) break;
      moved = true;
    }
    return moved;
  }

  void deliver(const Chunk& chunk, const transport::ReadableSpans& payload) {
    ASSERT_EQ(payload.size(), chunk.size);
    const auto found = ends.find(chunk.id);
    if (found == ends.end() || found->second.over()) {
      mux.delivered(chunk.id, chunk.size);
      return;
    }
    End& end = found->second;
    ASSERT_FALSE(end.peer_finished) << "bytes behind the end";
    const Role from = role_ == Role::host ? Role::guest : Role::host;
    for (const auto span : {payload.first, payload.second}) {
      for (const std::byte byte : span) {
        ASSERT_EQ(byte, pattern_byte(chunk.id, from, end.received)) << "stream " << chunk.id;
        ++end.received;
      }
    }
    end.held += chunk.size;
  }

  void handle(const InputEvent& event) {
    if (const auto* open = std::get_if<OpenRequested>(&event)) {
      names.push_back(open->untrusted_name);
      ends[open->id] = End{};
      on_open ? on_open(*open) : accept(open->id, End{});
    } else if (const auto* accepted = std::get_if<Accepted>(&event)) {
      ends.at(accepted->id).accepted = true;
    } else if (const auto* refused = std::get_if<Refused>(&event)) {
      ends.at(refused->id).refused = refused->error;
    } else if (const auto* finished = std::get_if<PeerFinished>(&event)) {
      if (ends.contains(finished->id)) ends.at(finished->id).peer_finished = true;
    } else if (const auto* stop = std::get_if<StopRequested>(&event)) {
      if (!ends.contains(stop->id)) return;
      ends.at(stop->id).stop_requested = true;
      ends.at(stop->id).finished = true;
    } else if (const auto* reset = std::get_if<PeerReset>(&event)) {
      if (!ends.contains(reset->id)) return;
      ends.at(reset->id).peer_reset = true;
      throw_away(reset->id, ends.at(reset->id));
    } else if (const auto* pong = std::get_if<PongReceived>(&event)) {
      pongs.push_back(pong->nonce);
    } else if (const auto* away = std::get_if<PeerGoesAway>(&event)) {
      goodbyes.push_back(away->untrusted_reason);
    } else if (const auto* broken = std::get_if<Violation>(&event)) {
      violation = broken->text;
    }
  }

  bool give_output() {
    bool moved = false;
    for (;;) {
      const auto room = out_.writable();
      const Output output = mux.poll_output(room.size());
      if (std::holds_alternative<NoOutput>(output)) return moved;
      if (const auto* control = std::get_if<ControlOutput>(&output)) {
        out_.put(control->view());
      } else {
        give_data(std::get<DataTurn>(output), room);
      }
      moved = true;
    }
  }

  void give_data(const DataTurn& turn, const transport::WritableSpans& room) {
    End& end = ends.at(turn.id);
    const auto bytes = static_cast<std::uint32_t>(
        std::min<std::uint64_t>({turn.bytes_max, end.to_send - end.sent, end.read_chunk_max}));
    if (bytes == 0) return mux.source_drained(turn.id);
    std::vector<std::byte> payload(bytes);
    for (std::byte& byte : payload) byte = pattern_byte(turn.id, role_, end.sent++);
    copy_in(room, frame_header_bytes, payload);
    copy_in(room, 0, mux.data_sent(turn.id, bytes).view());
    out_.commit(frame_header_bytes + bytes);
    if (end.sent == end.to_send) mux.source_drained(turn.id);
  }

  void throw_away(StreamId id, End& end) {
    if (end.held > 0) mux.delivered(id, std::exchange(end.held, 0));
  }
  StreamId own_parity() const { return role_ == Role::guest ? 1 : 0; }

  Role role_;
  MuxLimits limits_;
  Pipe& in_;
  Pipe& out_;
};

/// Host and guest, joined.
class TwoPeers {
 public:
  explicit TwoPeers(const MuxLimits& host_limits = {}, const MuxLimits& guest_limits = {},
                    std::size_t pipe_bytes = 64 * 1024)
      : to_host(pipe_bytes),
        to_guest(pipe_bytes),
        host(Role::host, host_limits, guest_limits, to_host, to_guest),
        guest(Role::guest, guest_limits, host_limits, to_guest, to_host) {}

  Pipe to_host;
  Pipe to_guest;
  Peer host;
  Peer guest;
  /// How many more bytes a pass lets arrive; called for each pass.
  std::function<std::size_t()> chunking = [] { return std::size_t{1} << 30; };

  bool step() {
    const bool host_moved = host.step(chunking());
    const bool guest_moved = guest.step(chunking());
    return host_moved || guest_moved;
  }

  /// Steps until `done`; fails instead of hanging, and when a side calls the other a violator.
  void drive_bounded(const std::function<bool()>& done, int steps_max = 200'000) {
    for (int i = 0; i < steps_max && !done(); ++i) {
      step();
      ASSERT_EQ(host.violation.value_or(""), "");
      ASSERT_EQ(guest.violation.value_or(""), "");
      if (testing::Test::HasFatalFailure()) return;
    }
    ASSERT_TRUE(done()) << "nothing more after " << steps_max << " steps";
  }

  /// Steps until nothing moves any more.
  void drive_until_quiet(int steps_max = 200'000) {
    drive_bounded([this] { return !step(); }, steps_max);
  }

  /// No streams, nothing held, nothing owed, and the session's credit is back.
  void expect_all_gone() const {
    for (const Peer* peer : {&host, &guest}) {
      EXPECT_EQ(peer->mux.stream_count(), 0U);
      EXPECT_EQ(peer->mux.unanswered(), 0U);
      EXPECT_EQ(peer->mux.held_bytes(), 0U);
    }
  }
};

/// Often one byte, else up to 9000.
inline std::function<std::size_t()> random_chunks(std::uint32_t seed) {
  return [random = std::mt19937(seed)]() mutable -> std::size_t {
    return random() % 4 == 0 ? 1 : 1 + random() % 9000;
  };
}

inline std::size_t one_byte() {
  return 1;
}

}  // namespace xenlane::bridge::test
