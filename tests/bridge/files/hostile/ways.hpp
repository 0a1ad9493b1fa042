// The ways in which a peer of the file service misbehaves: each has a name, a line about what it
// does, and what the other side must make of it. Every way is gone against both programs that may
// meet it: `xenlane serve-files` and `xenlane cp`.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "tests/bridge/files/hostile/talk.hpp"

namespace xenlane::bridge::files::hostile {

/// How the transfer ends. The codes are those of `xenlane cp`; the service, which has told its
/// client, exits with 0 unless it gives up.
enum class Verdict : std::uint8_t {
  gives_up,    ///< exit code 1, for the reason that is given
  harmless,    ///< 0
  unreadable,  ///< 10
  changed,     ///< 11
  unwritable,  ///< 12
  no_room,     ///< 13
  refused,     ///< 14
  mismatch,    ///< 15
  any,         ///< 0, 1 or 10 to 15: what the file system makes of it
};

struct SenderWay {
  std::string_view name;
  std::string_view what;
  Verdict verdict;
  std::string_view reason;  ///< part of what `xenlane cp` says about it
  std::function<void(HostileSender&)> act;
};

struct ReceiverWay {
  std::string_view name;
  std::string_view what;
  Verdict verdict;
  std::string_view reason;
  std::function<void(HostileReceiver&)> act;
};

/// Before anything is copied; against one of the two programs only.
struct GreetingWay {
  std::string_view name;
  std::string_view what;
  int exit_code;
  std::string_view reason;  ///< against the service: part of what it says over the connection
  std::function<void(Talk&)> act;
};

std::vector<SenderWay> name_ways();
std::vector<SenderWay> link_ways();
std::vector<SenderWay> entry_ways();
std::vector<SenderWay> content_ways();
std::vector<SenderWay> message_ways();
std::vector<SenderWay> sender_flood_ways();
std::vector<ReceiverWay> receiver_ways();
std::vector<GreetingWay> client_greeting_ways();
std::vector<GreetingWay> service_greeting_ways();

/// What is in the scene before each way; see scene.hpp.
inline constexpr std::string_view old_content = "what was there before";
inline constexpr std::string_view secret = "nobody may ever read this secret";

}  // namespace xenlane::bridge::files::hostile
