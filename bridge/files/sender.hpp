// The sending half of a transfer. Entries are announced ahead, so that the receiver's answers come
// while something else is sent; what it wants is sent in the order in which it was asked for.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "bridge/files/pace.hpp"
#include "bridge/files/replies.hpp"
#include "bridge/files/report.hpp"
#include "bridge/files/source.hpp"
#include "bridge/files/wire.hpp"

namespace xenlane::bridge::files {

/// Folders that are kept open for files that nobody has asked for yet.
inline constexpr std::size_t source_folders_max = 256;

struct SendRules {
  DigestKind digest = DigestKind::xxh3;
  bool dry_run = false;
  bool xattrs = false;
  /// Tell the receiver what could not be read, because nobody reads it here.
  bool tell_troubles = false;
  std::uint64_t bytes_per_second_max = 0;  ///< 0: no limit
  std::vector<Exclude> excludes;
};

/// What a request says of it; the rest is the sender's own.
SendRules send_rules(const Request& request);

class Sender {
 public:
  Sender(WireReader& in, WireWriter& out, std::vector<Source> sources, SendRules rules,
         Report& report);
  Sender(const Sender&) = delete;
  Sender& operator=(const Sender&) = delete;
  ~Sender();

  /// Until the receiver has confirmed everything. WireBroken if it does not get so far.
  void run();

 private:
  /// An entry that the receiver has not said its last word about.
  struct Announced {
    Found found;
    bool is_late = false;    ///< it is done at the end, with all others
    bool is_wanted = false;  ///< the receiver has asked for it, which it may once
    bool is_sent = false;    ///< all of its content, and its digest
  };

  void announce_some();
  bool may_announce() const;
  bool answers();
  void handle(const Reply& reply);
  void forget(std::uint32_t id);
  void send(const Want& want);
  struct Opened;
  int open(const Announced& announced, Opened& opened) const;
  void send_content(const Want& want, Announced& announced, Opened& opened);
  bool send_range(const Want& want, Opened& opened, std::uint64_t begin, std::uint64_t end);
  void keep_pace(std::size_t bytes);
  void give_up(std::uint32_t id, Trouble trouble, int error);
  void trouble(Trouble trouble, int error, const std::string& path);

  WireWriter& out_;
  SendRules rules_;
  Report& report_;
  Walk walk_;
  Replies replies_;
  Pace pace_;
  Counts counts_;
  Bytes buffer_;
  bool all_announced_ = false;
  bool said_sent_ = false;
  bool over_ = false;
  std::unordered_map<std::uint32_t, Announced> announced_;
  std::size_t late_ = 0;
  std::deque<Want> wanted_;
};

}  // namespace xenlane::bridge::files
