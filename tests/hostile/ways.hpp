// The ways in which the hostile guest misbehaves: each has a name, a line about what it does, and
// what the host must make of it. The guest (main.cpp) goes them, the test (hostile_test.cpp)
// watches the host meanwhile.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "tests/hostile/talk.hpp"

namespace xenlane::hostile {

enum class Verdict : std::uint8_t {
  ends,     ///< the host gives the lane up, for the reason that is given
  lives,    ///< the host carries on: the way itself sees that it answers, and closes the lane
  any,      ///< either, as the race goes; one reason in the log all the same
  fails,    ///< the host cannot attach and says so
  ignored,  ///< nothing comes of it
};

struct Way {
  std::string_view name;
  std::string_view what;
  void (*act)(Store&);
  Verdict verdict = Verdict::ends;
  std::string_view reason = {};     ///< part of the one line that the host logs
  std::uint32_t sessions = 1;       ///< lanes that the host logs the end of, of that reason
  std::uint32_t more_sessions = 0;  ///< that the way ends itself besides, in good order
  bool with_client = false;  ///< a program on the host connects to this guest's echo meanwhile
};

struct Group {
  std::string_view name;
  std::span<const Way> ways;
};

std::span<const Way> handshake_ways();
std::span<const Way> frame_ways();
std::span<const Way> stream_ways();
std::span<const Way> flood_ways();
std::span<const Way> ring_ways();
std::span<const Way> store_ways();
std::span<const Way> resume_ways();

std::vector<Group> groups();

inline constexpr std::string_view echo_channel = "org.host.echo";
/// Says "part", then neither reads nor sends nor ends.
inline constexpr std::string_view sink_channel = "org.host.sink";
/// Its target listens and never accepts.
inline constexpr std::string_view deaf_channel = "org.host.deaf";
/// Nobody listens at its target.
inline constexpr std::string_view dead_channel = "org.host.dead";
inline constexpr std::string_view source_channel = "org.host.source";
inline constexpr std::string_view port_channel = "org.port.one";

}  // namespace xenlane::hostile
