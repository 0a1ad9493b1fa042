// The session: the lasting relation of one host bridge and one guest bridge, as a machine without
// I/O or clock. A resumable byte pipe over successive lanes: at most one lane carries it at a time.
//
// The idea: a lane begins with a handshake in which both sides state how many session bytes they
// have consumed. What was sent beyond that is sent again over the new lane; it is taken from the
// lane that carried the session before, in whose ring it still lies, at the moment that lane is
// given up. While all is well no copy is kept. The mux above never learns that its lane was cut.
//
// What cannot be resumed (the peer has lost its side, or claims what cannot be) ends, and the next
// handshake begins another session.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bridge/mux/mux.hpp"
#include "bridge/wire/hello.hpp"
#include "transport/lane.hpp"

namespace xenlane::bridge {

enum class SessionState : std::uint8_t {
  none,  ///< nothing is agreed upon
  up,    ///< a lane carries it
  cut,   ///< it waits for a lane
};

std::string_view to_string(SessionState state);

/// Whoever moves the session's bytes at the moment: the driver of a lane.
class Carrier {
 public:
  Carrier() = default;
  Carrier(const Carrier&) = delete;
  Carrier& operator=(const Carrier&) = delete;

  /// Session bytes that the peer has not consumed, oldest first. Asked once, when it is over.
  virtual transport::ReadableSpans unconsumed() = 0;
  /// Another lane carries the session from here on.
  virtual void handle_superseded() = 0;
  /// The mux has something to send.
  virtual void wake() = 0;
  /// Says in band that nothing more comes on this lane, hears the same of the peer, and ends.
  virtual void leave() = 0;

 protected:
  ~Carrier() = default;
};

class Session {
 public:
  struct Settings {
    Role role;
    RandomId instance;  ///< of this process
    MuxLimits limits;   ///< what this side allows
    /// Highest version of the protocol to speak.
    std::uint16_t version_max = protocol_version_max;
  };

  explicit Session(const Settings& settings) : settings_(settings) {}

  SessionState state() const;
  Role role() const { return settings_.role; }
  const RandomId& instance() const { return settings_.instance; }
  const MuxLimits& local_limits() const { return settings_.limits; }
  std::uint16_t version_max() const { return settings_.version_max; }
  /// The version agreed on when the session began; valid unless none.
  std::uint16_t version() const { return std::min(peer_.version_max, settings_.version_max); }
  /// Chosen by the host; all zero while there is none.
  const RandomId& id() const { return id_; }
  /// What the peer said of itself when the session began; valid unless none.
  const Greeting& peer() const { return peer_; }
  /// Present unless none.
  Mux* mux() { return mux_ ? &*mux_ : nullptr; }
  const Mux* mux() const { return mux_ ? &*mux_ : nullptr; }
  Carrier* carrier() const { return carrier_; }
  /// Lanes that have carried it.
  std::uint32_t lanes() const { return lanes_; }

  // --- what happens to it
  /// A handshake has come to a session that is new to both sides.
  void begin(const RandomId& id, const Greeting& peer, Carrier& carrier);
  /// A handshake has come to this session; resumable() was asked. The peer goes on at `consumed`.
  void resume(std::uint64_t consumed, Carrier& carrier);
  /// The carrier is given up; what it still holds is kept for the next. The carrier is told so if
  /// `superseded`.
  void cut(bool superseded);
  /// There is no session any more. The carrier, if any, goes on without one.
  void end();
  /// Wakes the carrier: the mux has something to send.
  void wake();

  /// Why a peer that claims to have consumed so much cannot be right; empty when it can. Only while
  /// nothing carries the session.
  std::string problem_with(std::uint64_t untrusted_consumed) const;
  /// Guest: the number of the next lane that it says HELLO on.
  std::uint32_t next_turn() { return ++turn_; }
  std::uint32_t last_turn() const { return turn_; }
  /// Host: false for a HELLO that is late: the same guest has said one after it, on another lane.
  /// And for one without a turn: 0 stands for no lane.
  bool take_turn(const RandomId& untrusted_instance, std::uint32_t untrusted_turn);

  /// Guest: the lane that has asked for the session and has no answer yet. To ask on two could make
  /// the host begin two, and break what had come to the first.
  const Carrier* asking() const { return asking_; }
  void set_asking(const Carrier* lane) { asking_ = lane; }

  // --- the pipe
  /// Session bytes put on a lane that the mux has just made.
  void count_sent(std::size_t count);
  void count_consumed(std::size_t count) { bytes_consumed_ += count; }
  std::uint64_t bytes_sent() const { return bytes_sent_; }
  std::uint64_t bytes_consumed() const { return bytes_consumed_; }
  /// Bytes to be sent again before any new ones.
  std::span<const std::byte> resend() const;
  /// The first `count` of them were put on a lane.
  void count_resent(std::size_t count);

 private:
  Settings settings_;
  RandomId id_{};
  Greeting peer_;
  std::optional<Mux> mux_;
  Carrier* carrier_ = nullptr;
  const Carrier* asking_ = nullptr;
  std::uint32_t turn_ = 0;  ///< the last one said or heard; lasts longer than a session
  RandomId turn_of_{};      ///< host: the guest process that said it
  std::uint32_t lanes_ = 0;
  std::uint64_t bytes_sent_ = 0;
  std::uint64_t bytes_consumed_ = 0;
  std::uint64_t bytes_put_ = 0;     ///< on the current lane and those before it; <= bytes_sent_
  std::vector<std::byte> kept_;     ///< the bytes from kept_from_ to bytes_sent_, if there are any
  std::uint64_t kept_from_ = 0;     ///< position of kept_'s first byte; what is before was consumed
  std::uint64_t resumed_from_ = 0;  ///< where the current lane began
};

/// Copies `count` bytes at `offset` out of the ring: parsing happens on the copy only.
void copy_out(const transport::ReadableSpans& from, std::size_t offset, std::span<std::byte> to);

/// Copies bytes into the ring's writable spans at `offset`.
void copy_in(const transport::WritableSpans& to, std::size_t offset,
             std::span<const std::byte> from);

}  // namespace xenlane::bridge
